/**
 * Nodes and their types.
 *
 * A type says which nodes there can be; its `create` gives a new node its methods. All calls are
 * made on the fabric's thread, one at a time for each node: what arrives for a node while a method of it
 * runs waits (engine.ts), so a method never sees its own hooks or state change under it by others.
 */
import { counterIndices } from '../engine/counters.js';
import { NGM_READONLY } from './abi.js';
import { idAddress } from './address.js';
import type { NgBurst } from './burst.js';
import type { Netgraph } from './engine.js';
import type { Errno } from './errno.js';
import type { NgHook } from './hook.js';
import type { NgMessage } from './message.js';
import type { ParseType } from './parse/parse-type.js';

/** A command of a type: its number, its name, and what its arguments and its response look like. */
export interface NgCommand {
  readonly cookie: number;
  readonly cmd: number;
  readonly name: string;
  /** undefined: no arguments */
  readonly mesgType?: ParseType;
  /** undefined: no response, or one without data */
  readonly respType?: ParseType;
}

export interface NgType {
  /** 31 bytes at most */
  readonly name: string;
  readonly cmdlist?: readonly NgCommand[];
  /** names of counters that each node of the type has besides the common ones: values[NODE_COUNTERS + i] */
  readonly counters?: readonly string[];
  /** The node of that name, if the type has nodes that need not be made: it is asked when there is none yet. */
  find?(engine: Netgraph, name: string): NgNode | undefined;
  /** Makes a new node's methods, or says why not; it may throw NetbeError. Left out: no mkpeer, as for sockets. */
  create?(node: NgNode): NgMethods | Errno;
}

/** Data is a response, a string the errno, undefined success without a response. */
export type NgResult = Uint8Array | Errno | undefined;

/** What a node does. A method of the control path may throw NetbeError instead of returning its errno. */
export interface NgMethods {
  /** A hook of that name is asked for. Its peer may not be there yet. */
  newhook?(hook: NgHook, name: string): Errno | undefined;
  /** Both ends are there: last chance to refuse. */
  connect?(hook: NgHook): Errno | undefined;
  /** A message that is not generic, a response, or TEXT_STATUS and TEXT_CONFIG. */
  rcvmsg?(msg: NgMessage, lasthook: NgHook | undefined): NgResult;
  /** Data path: frames from the hook's peer. The burst and its frames are valid during the call (burst.ts). */
  rcvdata?(hook: NgHook, burst: NgBurst): void;
  /** The node is asked to go, its hooks are still there (the original's close). */
  closing?(): void;
  /** The hook is gone: no longer in node.hooks, its peer undefined. */
  disconnect?(hook: NgHook): void;
  /** The node is asked to go, its hooks are gone. True: it stays (a persistent node). */
  shutdown?(): boolean;
  /** The node is gone, or the whole graph closes: release everything. The last call. */
  close?(): void;
}

/** Counters of every node. */
export const nodeCounterNames = [
  'rx_frames',
  'drop_not_connected',
  'drop_no_memory',
  'drop_queue_full',
  'drop_loop',
  'drop_failed',
] as const;
/** Index of each. */
export const NODE = counterIndices(nodeCounterNames);
/** index of the first counter of a type's own */
export const NODE_COUNTERS = nodeCounterNames.length;

export class NgNode {
  /** '' when it has none */
  name = '';
  methods: NgMethods = {};
  /** newest first; replaced, never changed in place, so that a loop over it may go on */
  hooks: readonly NgHook[] = [];
  /** false from the beginning of its shutdown on */
  valid = true;
  /** a method of it runs */
  busy = false;
  /** items that wait for it */
  queued = 0;

  constructor(
    readonly engine: Netgraph,
    readonly type: NgType,
    readonly id: number,
    /** counters: nodeCounterNames, then those of the type */
    readonly values: Float64Array,
  ) {}

  /** Address that is valid as long as the node is: "[2a]:" */
  get address(): string {
    return idAddress(this.id);
  }

  /** For logs: the name, or the ID in brackets. */
  get label(): string {
    return this.name === '' ? this.address.slice(0, -1) : this.name;
  }

  findHook(name: string): NgHook | undefined {
    return this.hooks.find((hook) => hook.name === name);
  }
}

/** Whether a command leaves the node as it is. */
export function isReadonly(cmd: number): boolean {
  return (cmd & NGM_READONLY) !== 0;
}
