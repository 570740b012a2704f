/**
 * JSON Schemas (draft 2020-12) of what people write: a NIC, and the fabric file. They are published
 * (docs/fabric.schema.json, /openapi.json), so each property says what it is, and `x-rule` says in
 * words what a pattern means. What a schema cannot say (a unicast MAC address, duplicates) is in nic-spec.ts.
 */
import {
  emulations,
  MAX_MTU,
  MIN_MTU,
  macPattern,
  namePattern,
  nameRule,
  patchNamePattern,
  patchNameRule,
  socketModes,
  transports,
} from './nic-spec.js';

export const RULE = 'x-rule';

export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];
export const logFormats = ['auto', 'pretty', 'json'] as const;
export type LogFormat = (typeof logFormats)[number];

export const DEFAULT_FABRIC_NAME = 'default';
export const DEFAULT_SPIN_US = 50;

const nameProperty = { type: 'string', pattern: namePattern.source, [RULE]: nameRule } as const;

export const nicSpecSchema = {
  $id: 'NicSpec',
  title: 'NicSpec',
  description: 'A NIC: a device model for one guest, plugged into a backend.',
  type: 'object',
  additionalProperties: false,
  required: ['backend', 'socket'],
  properties: {
    name: {
      ...nameProperty,
      description: "Name of the NIC, unique in the fabric. Default: the socket's file name without .sock.",
    },
    slot: {
      type: 'string',
      pattern: '^\\d{1,3}(?::\\d{1,2}){0,2}$',
      [RULE]: 'slot, slot:func or bus:slot:func; slots are 0 to 31, functions 0 to 7',
      description: "PCI slot as in bhyve's -s; the default MAC address is made from it.",
      examples: ['2:0'],
    },
    emulation: {
      type: 'string',
      enum: [...emulations],
      default: 'virtio-net',
      description: 'Device model that the guest sees.',
    },
    transport: {
      type: 'string',
      enum: [...transports],
      description:
        'How the hypervisor reaches the device. Default: vhost-user for virtio-net, vfio-user for e1000, which has no other.',
    },
    backend: {
      type: 'string',
      minLength: 1,
      maxLength: 255,
      [RULE]: 'a device string, for instance vale0:vm1',
      description: 'What the NIC is plugged into: a device string.',
      examples: ['vale0:vm1'],
    },
    backendOptions: {
      type: 'object',
      additionalProperties: { type: 'string', maxLength: 4096, [RULE]: 'text' },
      description: 'Options of the backend.',
    },
    socket: {
      type: 'string',
      minLength: 1,
      maxLength: 4096,
      [RULE]: 'a path',
      description: 'Path of the socket that the hypervisor joins.',
      examples: ['vm1.sock'],
    },
    mode: {
      type: 'string',
      enum: [...socketModes],
      default: 'server',
      description: 'server: netbe listens on the socket; client: the hypervisor does.',
    },
    mac: {
      type: 'string',
      pattern: macPattern.source,
      [RULE]: 'six hexadecimal octets joined by ":", for instance 02:00:00:00:00:01',
      description: 'MAC address of the guest, unicast. Default: 00:a0:98 and three bytes of MD5("slot-func-name").',
      examples: ['02:00:00:00:00:01'],
    },
    mtu: {
      type: 'integer',
      minimum: MIN_MTU,
      maximum: MAX_MTU,
      description: 'MTU told to the guest. Default: not told.',
    },
    strictMemory: {
      type: 'boolean',
      description: "Refuse guest memory whose file could be shrunk. Default: the fabric's strictMemory.",
    },
  },
} as const;

const end = {
  type: 'string',
  minLength: 1,
  maxLength: 4096,
  [RULE]: 'a device string with its options, for instance stream0,addr=unix:vm4.sock',
  description: 'Device string of one end, with its options.',
} as const;

export const patchSpecSchema = {
  $id: 'PatchSpec',
  title: 'PatchSpec',
  description: 'Two backends joined: what one receives the other sends.',
  type: 'object',
  additionalProperties: false,
  required: ['a', 'b'],
  properties: {
    name: {
      type: 'string',
      pattern: patchNamePattern.source,
      [RULE]: patchNameRule,
      description: 'Name of the patch, unique in the fabric. Default: both devices joined by "+".',
    },
    a: { ...end, examples: ['vale0:vm4'] },
    b: { ...end, description: 'Device string of the other end.', examples: ['stream0,addr=unix:vm4.sock'] },
  },
} as const;

export const fabricSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  $id: 'fabric.schema.json',
  title: 'netbe fabric file',
  description: 'What `netbe up FILE` runs. Relative paths are relative to the file.',
  type: 'object',
  additionalProperties: false,
  required: ['nics'],
  properties: {
    name: {
      ...nameProperty,
      default: DEFAULT_FABRIC_NAME,
      description: 'Name of the fabric: `netbe ports --fabric NAME` finds it by this.',
    },
    control: {
      type: 'string',
      minLength: 1,
      maxLength: 4096,
      [RULE]: 'a path',
      description: 'Path of the control socket. Default: NAME.sock in the runtime directory.',
    },
    log: {
      type: 'object',
      additionalProperties: false,
      properties: {
        level: { type: 'string', enum: [...logLevels], default: 'info', description: 'Least severe message to log.' },
        format: {
          type: 'string',
          enum: [...logFormats],
          default: 'auto',
          description: 'auto: readable on a terminal, JSON lines elsewhere.',
        },
      },
      description: 'What is logged, and how.',
    },
    poll: {
      type: 'object',
      additionalProperties: false,
      properties: {
        spinUs: {
          type: 'integer',
          minimum: 0,
          maximum: 1_000_000,
          default: DEFAULT_SPIN_US,
          description: 'How long a port without work is polled before the fabric waits for it, in microseconds.',
        },
      },
      description: 'How the fabric waits for work.',
    },
    strictMemory: {
      type: 'boolean',
      default: false,
      description: 'Refuse guest memory whose file could be shrunk, for every NIC that does not say otherwise.',
    },
    backends: {
      type: 'array',
      maxItems: 64,
      items: { type: 'string', minLength: 1, [RULE]: 'path of a JavaScript module' },
      description: 'Modules with backends of your own: each exports `backend`, a NetBackendType.',
    },
    netgraph: {
      type: 'array',
      maxItems: 4096,
      items: { type: 'string', maxLength: 16384, [RULE]: 'a command of ngctl' },
      description: 'Commands of ngctl that make the graph that NICs join, run in one session before there are any.',
      examples: [['mkpeer bridge link0 link0', 'name .:link0 br0', 'msg br0: setpersistent']],
    },
    nics: {
      type: 'array',
      maxItems: 4096,
      items: { $ref: '#/$defs/nic' },
      description: 'The NICs to start with; more can be added while the fabric runs.',
    },
    patches: {
      type: 'array',
      maxItems: 4096,
      items: { $ref: '#/$defs/patch' },
      description: 'Pairs of backends to join.',
    },
  },
  $defs: { nic: withoutId(nicSpecSchema), patch: withoutId(patchSpecSchema) },
} as const;

function withoutId<T extends { $id: string }>({ $id: _, ...rest }: T): Omit<T, '$id'> {
  return rest;
}
