/**
 * What goes in and out of a fabric: plain data, the same for the library, the configuration file,
 * the control API and the fabric thread (all of it survives structuredClone and JSON).
 */
import type { Log } from '../engine/runtime.js';
import type { BackendStatus, NetBackendType } from '../net-backends/net-backend.js';

/** Which device model the guest sees. */
export type Emulation = 'virtio-net' | 'e1000';

/** How a hypervisor reaches the device model. */
export type TransportKind = 'vhost-user' | 'vfio-user';

/** server: we listen on the socket and the hypervisor connects; client: the other way round. */
export type SocketMode = 'server' | 'client';

/** A NIC as a person asks for it. */
export interface NicSpec {
  /** unique in the fabric; default: the socket's file name without ".sock" */
  name?: string;
  /** "2:0" or "0:2:0", as in bhyve's -s; the default MAC is made from it */
  slot?: string;
  emulation?: Emulation;
  /** default: vhost-user for virtio-net, vfio-user for e1000, which has no other */
  transport?: TransportKind;
  /** device string of the backend, for instance "vale0:vm1" */
  backend: string;
  backendOptions?: Record<string, string>;
  /** path of the socket that the hypervisor joins */
  socket: string;
  mode?: SocketMode;
  /** "02:00:00:00:00:01"; default: 00:a0:98 and three bytes of MD5("slot-func-name") */
  mac?: string;
  /** told to the guest (VIRTIO_NET_F_MTU); default: not told */
  mtu?: number;
  /** refuse guest memory whose file could be shrunk under us */
  strictMemory?: boolean;
}

/** One virtqueue as the device sees it. */
export interface QueueInfo {
  size: number;
  started: boolean;
  enabled: boolean;
  /** the driver broke the ring: it is not served until it is set up anew */
  broken: boolean;
  /** next entry of the available ring that we serve */
  availIdx: number;
}

/** The device model's state. */
export interface DeviceInfo {
  /** names of the features that the driver accepted; empty until a driver is ready */
  features: string[];
  vnetHdrLen: number;
  /** the driver left no receive buffers and frames wait */
  starved: boolean;
  /** receive queue first (VirtIO 1.2 §5.1.2) */
  queues: QueueInfo[];
  link: 'up' | 'down';
  mac: string;
  mtu: number | null;
}

/** The state of the connection with the hypervisor. */
export interface TransportInfo {
  kind: TransportKind;
  state: 'listening' | 'connecting' | 'connected' | 'closed';
  /** process at the other end, where it is known */
  peerPid: number | null;
  protocolFeatures: string[];
  memory: { regions: number; bytes: number; unshared: number; sealed: boolean };
  /** why the last connection ended or could not be made */
  lastError: string | null;
}

/** A NIC as it is. */
export interface NicInfo {
  name: string;
  slot: string | null;
  emulation: Emulation;
  backend: string;
  backendOptions: Record<string, string>;
  socket: string;
  mode: SocketMode;
  strictMemory: boolean;
  /** what the backend says of its other end: for tap its interface and that one's state */
  backendStatus: BackendStatus;
  device: DeviceInfo;
  transport: TransportInfo;
}

export interface SwitchPortInfo {
  name: string;
  index: number;
  /** the NIC, or the patch end, that is plugged into it */
  subject: string;
}

export interface SwitchTableEntry {
  mac: string;
  /** name of the port that the address was last seen on */
  port: string;
  ageSec: number;
}

export interface SwitchInfo {
  name: string;
  ports: SwitchPortInfo[];
  table: SwitchTableEntry[];
}

/** Two backends joined: what one receives the other sends. */
export interface PatchSpec {
  /** unique in the fabric; default: both devices joined by "+" */
  name?: string;
  /** device string with its options, for instance "stream0,addr=unix:vm4.sock" */
  a: string;
  b: string;
}

export interface PatchInfo {
  name: string;
  a: string;
  b: string;
  /** features that cross unfinished, by the name of what end a hands over or takes */
  offloads: string[];
  /** what each end says of itself, for instance an interface's state */
  statusA: BackendStatus;
  statusB: BackendStatus;
}

/** A hook of a node, and what it is connected to. */
export interface GraphHookInfo {
  name: string;
  peerHook: string;
  /** hexadecimal */
  peerId: string;
  /** empty: it has none */
  peerName: string;
  peerType: string;
}

export interface GraphNodeInfo {
  /** hexadecimal; `[ID]:` is its address */
  id: string;
  /** empty: it has none */
  name: string;
  type: string;
  hooks: GraphHookInfo[];
}

/** The fabric's netgraph. */
export interface GraphInfo {
  nodes: GraphNodeInfo[];
}

/** What a command of ngctl has to say. */
export interface NgctlOutcome {
  /** for standard output */
  output: string;
  /** for standard error */
  error: string;
  /** exit status, as sysexits.h has them: 0, 64 wrong usage, 71 anything else */
  status: number;
  /** the command was `quit` */
  quit: boolean;
}

/** A session of ngctl: a socket node of the graph, until it is closed. */
export interface NgctlControl {
  readonly id: number;
  /** of its node */
  readonly name: string;
  /** Runs a command: a line, or its words. */
  run(command: string | readonly string[]): Promise<NgctlOutcome>;
  /** Messages and frames that come to its node, as ngctl shows them, until it is closed. */
  events(): AsyncIterable<string>;
  close(): Promise<void>;
}

export interface FabricInfo {
  nics: NicInfo[];
  patches: PatchInfo[];
  switches: SwitchInfo[];
  netgraph: GraphInfo;
}

/** What is in force on one thread of the process, as the kernel says (/proc/self/task). */
export interface SandboxThread {
  tid: number;
  name: string;
  noNewPrivs: boolean;
  /** a seccomp filter */
  seccomp: boolean;
  /** what it may still use */
  capabilities: string[];
  /** how many capabilities a program that it started could have at most */
  boundingSet: number;
}

/** What the fabric's process has given up: see docs/sandbox.md. */
export interface SandboxInfo {
  /** partial: something is missing, or the fabric is still being set up */
  state: 'on' | 'partial' | 'off';
  /** what is not in force, and why */
  missing: string[];
  /** user ID of the process */
  user: number;
  landlock: {
    abi: number;
    /** TCP ports */
    tcp: 'refused' | 'allowed';
    paths: { path: string; access: string }[];
  } | null;
  /** how many system calls the filter knows as allowed */
  seccomp: { syscalls: number } | null;
  threads: SandboxThread[];
}

/** Subject (a NIC, a switch port), then counter name, then value. */
export type Counters = Record<string, Record<string, number>>;

/** What the control API and the command line need of a fabric; `Fabric` implements it. */
export interface FabricControl {
  addNic(spec: NicSpec): Promise<NicInfo>;
  removeNic(name: string): Promise<void>;
  setLink(name: string, up: boolean): Promise<void>;
  addPatch(spec: PatchSpec): Promise<PatchInfo>;
  removePatch(name: string): Promise<void>;
  show(): Promise<FabricInfo>;
  /** Opens a session of ngctl whose node has that name (default: one that is free). */
  openNgctl(name?: string): Promise<NgctlControl>;
  counters(): Counters;
  /**
   * pcapng bytes of what crosses the NIC, from now on, until the consumer stops iterating or the NIC goes.
   * The iterator's return() ends a next() that is waiting: a capture of a silent NIC stops at once.
   */
  capture(name: string): AsyncIterable<Uint8Array>;
}

/** How the fabric waits for work. */
export interface PollOptions {
  /** how long a port without work is polled before it is left to notifications, in microseconds (default 50) */
  spinUs?: number;
}

export interface FabricOptions {
  /** run in a thread of its own (default true) */
  thread?: boolean;
  /** commands of ngctl, run before there are NICs: the graph that they join */
  netgraph?: string[];
  nics?: NicSpec[];
  patches?: PatchSpec[];
  /** where to log; default: nowhere */
  log?: Log;
  poll?: PollOptions;
  /** default for NICs that do not say (default false) */
  strictMemory?: boolean;
  /** modules that export a `backend: NetBackendType`; or, without a thread, the types themselves */
  backends?: (URL | string | NetBackendType)[];
}
