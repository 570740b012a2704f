/** JSON Schemas of what the control API answers: the types of fabric-types.ts, for OpenAPI and the serializer. */

/** An object all of whose properties are there, and no others. */
function object<P extends Record<string, object>>(description: string, properties: P) {
  return { type: 'object', description, additionalProperties: false, required: Object.keys(properties), properties };
}

const text = (description: string) => ({ type: 'string', description });
const integer = (description: string) => ({ type: 'integer', description });
const number = (description: string) => ({ type: 'number', description });
const flag = (description: string) => ({ type: 'boolean', description });
const textOrNull = (description: string) => ({ type: ['string', 'null'], description });
const integerOrNull = (description: string) => ({ type: ['integer', 'null'], description });
const list = (items: object, description: string) => ({ type: 'array', items, description });
const texts = (description: string) => list({ type: 'string' }, description);

const queue = object('A virtqueue as the device sees it', {
  size: integer('Entries of the ring, 0 before it is set up'),
  started: flag('The ring is served'),
  enabled: flag('The hypervisor enabled the ring'),
  broken: flag('The driver broke the ring: it is not served until it is set up anew'),
  availIdx: integer('Next entry of the available ring, modulo 65536'),
});

const device = object('State of the device model', {
  features: texts('Features that the driver accepted; empty until a driver is ready'),
  vnetHdrLen: integer('Bytes of virtio-net header before each frame'),
  starved: flag('The driver left no receive buffers and frames wait'),
  queues: list(queue, 'Receive queue, then transmit queue'),
  link: { type: 'string', enum: ['up', 'down'], description: 'What the guest is told' },
  mac: text('MAC address of the guest'),
  mtu: integerOrNull('MTU told to the guest; null: not told'),
});

const memory = object("The guest's memory", {
  regions: integer('Regions that are mapped'),
  bytes: integer('Bytes in all'),
  unshared: integer('Bytes that the hypervisor does not share, and that are reached by messages; ROMs are not counted'),
  sealed: flag('None of its files can be shrunk'),
});

const transport = object('State of the connection with the hypervisor', {
  kind: { type: 'string', enum: ['vhost-user', 'vfio-user'], description: 'Its protocol' },
  state: { type: 'string', enum: ['listening', 'connecting', 'connected', 'closed'], description: 'Of the socket' },
  peerPid: integerOrNull('Process at the other end, where it is known'),
  protocolFeatures: texts('Features of the protocol agreed on'),
  memory,
  lastError: textOrNull('Why the last connection ended or could not be made'),
});

const backendStatus = (description: string) => ({
  type: 'object',
  additionalProperties: { type: ['string', 'number', 'boolean'] },
  description,
});

export const nicSchema = {
  $id: 'Nic',
  title: 'Nic',
  ...object('A NIC as it is', {
    name: text('Name, unique in the fabric'),
    slot: textOrNull('PCI slot, as given'),
    emulation: text('Device model'),
    backend: text('Device string of the backend'),
    backendOptions: { type: 'object', additionalProperties: { type: 'string' }, description: 'Options of the backend' },
    socket: text('Path of the socket'),
    mode: { type: 'string', enum: ['server', 'client'], description: 'server: netbe listens on the socket' },
    strictMemory: flag('Guest memory whose file could be shrunk is refused'),
    backendStatus: backendStatus(
      "What the backend says of its other end, for instance a tap's interface and its state",
    ),
    device,
    transport,
  }),
};

export const patchSchema = {
  $id: 'Patch',
  title: 'Patch',
  ...object('Two backends joined', {
    name: text('Name, unique in the fabric'),
    a: text('Device string of one end, with its options'),
    b: text('Device string of the other end'),
    offloads: texts('Features that cross unfinished'),
    statusA: backendStatus('What the first end says of itself'),
    statusB: backendStatus('What the other end says of itself'),
  }),
};

const port = object('A port of a switch', {
  name: text('Name of the port'),
  index: integer('Number of the port'),
  subject: text('NIC that is plugged in'),
});

const tableEntry = object('A learned address', {
  mac: text('MAC address'),
  port: text('Port that it was last seen on'),
  ageSec: number('Seconds since then'),
});

export const switchSchema = {
  $id: 'Switch',
  title: 'Switch',
  ...object('A VALE switch', {
    name: text('Name of the switch'),
    ports: list(port, 'Ports in use'),
    table: list(tableEntry, 'Learned addresses'),
  }),
};

const graphHook = object('A hook, and what it is connected to', {
  name: text('Name of the hook'),
  peerHook: text('Hook of the node behind it'),
  peerId: text('ID of that node, hexadecimal'),
  peerName: text('Its name; empty: it has none'),
  peerType: text('Its type'),
});

const graphNode = object('A node of the graph', {
  id: text('ID, hexadecimal: [ID]: is its address'),
  name: text('Name; empty: it has none'),
  type: text('Type'),
  hooks: list(graphHook, 'Its hooks'),
});

export const graphSchema = {
  $id: 'Graph',
  title: 'Graph',
  ...object('The netgraph of the fabric', { nodes: list(graphNode, 'All nodes') }),
};

const sandboxPath = object('A file, or all below a folder', {
  path: text('Where'),
  access: {
    type: 'string',
    enum: ['read', 'sockets', 'device', 'write'],
    description: 'sockets: make sockets and remove files; device: use it; write: read, write, make and remove files',
  },
});

const sandboxThread = object('A thread of the process, as the kernel says', {
  tid: integer('Number of the thread'),
  name: text('Name of the thread'),
  noNewPrivs: flag('no_new_privs is set'),
  seccomp: flag('It has a seccomp filter'),
  capabilities: texts('What it may still use'),
  boundingSet: integer('Capabilities that a program could have at most'),
});

const sandbox = {
  ...object('What the process has given up', {
    state: {
      type: 'string',
      enum: ['on', 'partial', 'off'],
      description: 'partial: something is missing, or the fabric is still being set up',
    },
    missing: texts('What is not in force, and why'),
    user: integer('User ID of the process'),
    landlock: {
      ...object('What files the process can reach', {
        abi: integer('Version of Landlock'),
        tcp: { type: 'string', enum: ['refused', 'allowed'], description: 'Binding and connecting TCP sockets' },
        paths: list(sandboxPath, 'What can be reached'),
      }),
      type: ['object', 'null'],
    },
    seccomp: {
      ...object('The filter of system calls', { syscalls: integer('System calls that are allowed') }),
      type: ['object', 'null'],
    },
    threads: list(sandboxThread, 'All threads'),
  }),
  type: ['object', 'null'],
};

export const fabricInfoSchema = {
  $id: 'Fabric',
  title: 'Fabric',
  ...object('The running fabric', {
    name: text('Name of the fabric'),
    version: text('Version of netbe'),
    pid: integer('Process that runs it'),
    node: text('Version of Node'),
    startedAt: { type: 'string', format: 'date-time', description: 'When it was started' },
    portSocket: {
      type: ['string', 'null'],
      description: 'Unix socket where netmap ports are opened; null: there is none',
    },
    nics: integer('NICs in it'),
    patches: integer('Patches in it'),
    switches: integer('VALE switches in it'),
    graphNodes: integer('Nodes of its netgraph'),
    sandbox,
  }),
};

export const countersSchema = {
  $id: 'Counters',
  title: 'Counters',
  description: 'By subject (a NIC), then by name',
  type: 'object',
  additionalProperties: { type: 'object', additionalProperties: { type: 'number' } },
};

export const linkSchema = {
  $id: 'NicChange',
  title: 'NicChange',
  type: 'object',
  additionalProperties: false,
  required: ['link'],
  properties: { link: { type: 'string', enum: ['up', 'down'], description: 'What the guest is told of its link' } },
};

/** RFC 9457, with netbe's own members */
export const problemSchema = {
  $id: 'Problem',
  title: 'Problem',
  type: 'object',
  description: 'Why a request was refused (RFC 9457)',
  required: ['title', 'status', 'detail', 'code'],
  properties: {
    title: text('Phrase of the HTTP status'),
    status: integer('HTTP status'),
    detail: text('What is wrong, with the value and the rule'),
    code: text('Name of an errno, for instance EEXIST'),
    subject: text('What it is about'),
    remedy: text('What can be done'),
  },
};

export const problemType = 'application/problem+json';

/** The answers of a route: what it gives, and problems. */
export function answers(ok: Record<string, object>) {
  const problem = { description: 'Refused', content: { [problemType]: { schema: { $ref: 'Problem#' } } } };
  return { ...ok, '4xx': problem, '5xx': problem };
}
