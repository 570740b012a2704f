/**
 * The graph of a fabric: its nodes, their names, and everything that passes between them
 * (netgraph(4); sys/netgraph/ng_base.c says what the words mean).
 *
 * Data takes the way that turns.ts describes.
 *
 * Control: a message runs at once and returns its errno, unless its node is busy; then it waits too,
 * and counts as sent. A node that shuts down loses its hooks first, then its name and ID.
 */
import type { Runtime } from '../engine/runtime.js';
import { NetbeError } from '../errors.js';
import { NG_TYPESIZ, NGM_GENERIC_COOKIE } from './abi.js';
import { decodeId, isNodeName, parseAddress } from './address.js';
import { NgBufferPool } from './buffers.js';
import { type Errno, errnoOf } from './errno.js';
import { genericMessage } from './generic.js';
import { isHookName, NgHook } from './hook.js';
import { isResponse, type NgMessage, newResponse } from './message.js';
import { NgNode, type NgResult, type NgType, nodeCounterNames } from './node.js';
import { Turns } from './turns.js';
import { nodeTypes } from './types.js';

export interface NetgraphOptions {
  /** seconds, monotonic; for tests */
  clock?: () => number;
}

/** A node, or why there is none. */
export type NodeOrErrno = NgNode | Errno;

export class Netgraph {
  readonly buffers: NgBufferPool;
  readonly turns: Turns;
  /** seconds on a monotonic clock */
  readonly clock: () => number;
  /** text of the last error that had one, for the person who sent the message */
  lastErrorText = '';
  readonly #types = new Map<string, NgType>();
  readonly #typeNodes = new Map<string, number>();
  readonly #nodes = new Map<number, NgNode>();
  readonly #names = new Map<string, NgNode>();
  #nextId = 1;
  #closed = false;

  constructor(
    readonly runtime: Runtime,
    options: NetgraphOptions = {},
  ) {
    this.buffers = new NgBufferPool(runtime.windows);
    this.clock = options.clock ?? (() => runtime.loop.nowSec);
    this.turns = new Turns(runtime, this.buffers, this.clock);
    for (const type of nodeTypes) this.registerType(type);
  }

  /** A turn is under way: what is delivered now may wait until it ends. */
  get inTurn(): boolean {
    return this.turns.inTurn;
  }

  /** Runs `work` as one turn: frames in the arena are valid until it returns. For sources: sockets, timers. */
  turn(work: () => void): void {
    this.turns.turn(work);
  }

  // ---- types ----

  /** Makes a type known to this graph. Throws EINVAL for a bad name, EEXIST for one in use. */
  registerType(type: NgType): void {
    if (type.name.length === 0 || type.name.length >= NG_TYPESIZ)
      throw new NetbeError(`"${type.name}" cannot be a node type: a name has 1 to ${NG_TYPESIZ - 1} bytes`, {
        code: 'EINVAL',
        kind: 'usage',
        subject: type.name,
      });
    if (this.#types.has(type.name))
      throw new NetbeError(`a node type ${type.name} exists already`, {
        code: 'EEXIST',
        kind: 'usage',
        subject: type.name,
      });
    this.#types.set(type.name, type);
    this.#typeNodes.set(type.name, 0);
  }

  findType(name: string): NgType | undefined {
    return this.#types.get(name);
  }

  /** Types, newest first, with the number of their nodes. */
  listTypes(): { name: string; nodes: number }[] {
    return [...this.#types.keys()].map((name) => ({ name, nodes: this.#typeNodes.get(name) ?? 0 })).reverse();
  }

  // ---- nodes ----

  /** A node by type name (ng_make_node): ENOENT for an unknown type, EINVAL for one that cannot be asked for. */
  makeNode(typeName: string): NodeOrErrno {
    const type = this.#types.get(typeName);
    if (type === undefined) return this.fail('ENOENT', `there is no node type "${typeName}"`);
    const { create } = type;
    if (create === undefined) return this.fail('EINVAL', `a node of type ${typeName} cannot be asked for`);
    return this.makeNodeCommon(type, (node) => create.call(type, node));
  }

  /** A node of a known type with methods of one's own (ng_make_node_common). */
  makeNodeCommon(type: NgType, create: (node: NgNode) => NgNode['methods'] | Errno): NodeOrErrno {
    if (this.#types.get(type.name) !== type) return 'EINVAL';
    const id = this.#nextFreeId();
    const subject = `netgraph:[${id.toString(16)}]`;
    let node: NgNode | undefined;
    try {
      const counters = this.runtime.counters.create(subject, [...nodeCounterNames, ...(type.counters ?? [])]);
      node = new NgNode(this, type, id, counters.values);
      const methods = create(node);
      if (typeof methods === 'string') {
        this.runtime.counters.release(subject);
        return methods;
      }
      node.methods = methods;
    } catch (error) {
      if (node !== undefined) this.runtime.counters.release(subject);
      return this.failed(error);
    }
    this.#nodes.set(id, node);
    this.#typeNodes.set(type.name, (this.#typeNodes.get(type.name) ?? 0) + 1);
    return node;
  }

  /** Nodes by ascending ID. */
  listNodes(): NgNode[] {
    return [...this.#nodes.values()].filter((node) => node.valid);
  }

  nodeById(id: number): NgNode | undefined {
    return this.#nodes.get(id);
  }

  /** A node by name without colon: a name, `.` for `here`, or `[hexid]`. */
  nodeByName(here: NgNode | undefined, name: string): NgNode | undefined {
    if (name === '.') return here;
    const id = decodeId(name);
    return id === 0 ? (this.#names.get(name) ?? this.#foundNode(name)) : this.#nodes.get(id);
  }

  /** A node that need not be made, as that of an interface of the host. */
  #foundNode(name: string): NgNode | undefined {
    for (const type of this.#types.values()) {
      const node = type.find?.(this, name);
      if (node !== undefined) return node;
    }
    return undefined;
  }

  nameNode(node: NgNode, name: string): Errno | undefined {
    if (!isNodeName(name))
      return this.fail('EINVAL', `"${name}" cannot be a node's name: 1 to 31 bytes, no dot, no colon, no [id]`);
    if (this.#names.has(name)) return this.fail('EADDRINUSE', `${name}: is another node already`);
    if (node.name !== '') this.#names.delete(node.name);
    node.name = name;
    this.#names.set(name, node);
    return undefined;
  }

  /** The node at an address, and the hook by which the way there enters it (ng_path2noderef). */
  resolve(here: NgNode | undefined, address: string): { node: NgNode; lasthook: NgHook | undefined } | Errno {
    const parsed = parseAddress(address);
    if (parsed === undefined) return this.fail('EINVAL', `"${address}" is no address of a node`);
    if (parsed.node === undefined && here === undefined) return 'EINVAL';
    let node = parsed.node === undefined ? here : this.nodeByName(here, parsed.node);
    if (node === undefined || !node.valid) return this.fail('ENOENT', `there is no node "${parsed.node}:"`);
    let lasthook: NgHook | undefined;
    for (const name of parsed.hooks) {
      const hook: NgHook | undefined = node.findHook(name);
      if (hook?.peer === undefined || !hook.valid) return this.fail('ENOENT', `${node.label} has no hook "${name}"`);
      lasthook = hook.peer;
      node = lasthook.node;
    }
    return { node, lasthook };
  }

  /** Shuts a node down (ng_rmnode). A persistent one stays without its hooks, unless `really`. */
  removeNode(node: NgNode, really = false): void {
    if (!node.valid) return;
    if (node.busy) {
      this.turns.later(node, () => this.removeNode(node, really));
      return;
    }
    node.valid = false;
    this.#guard(node, () => node.methods.closing?.());
    for (const hook of node.hooks) this.destroyHook(hook);
    const stays = this.#guard(node, () => node.methods.shutdown?.() ?? false);
    if (stays === true && !really) {
      node.valid = true;
      return;
    }
    this.#forget(node);
  }

  #forget(node: NgNode): void {
    this.#nodes.delete(node.id);
    if (node.name !== '') this.#names.delete(node.name);
    this.#typeNodes.set(node.type.name, (this.#typeNodes.get(node.type.name) ?? 1) - 1);
    this.#guard(node, () => node.methods.close?.());
    this.runtime.counters.release(`netgraph:[${node.id.toString(16)}]`);
  }

  // ---- hooks ----

  /** Makes a node of a type and connects it (NGM_MKPEER). */
  makePeer(node: NgNode, typeName: string, ourhook: string, peerhook: string): Errno | undefined {
    const peer = this.makeNode(typeName);
    if (typeof peer === 'string') return peer;
    const error = this.connect(node, ourhook, peer, peerhook);
    if (error !== undefined) this.removeNode(peer, true);
    return error;
  }

  /** Connects two nodes (NGM_CONNECT). A node whose method runs is connected when that has returned. */
  connect(node: NgNode, name: string, node2: NgNode, name2: string): Errno | undefined {
    const busy = node.busy ? node : node2.busy ? node2 : undefined;
    if (busy !== undefined) {
      this.turns.later(busy, () => this.#tellDeferred(node, this.connect(node, name, node2, name2)));
      return undefined;
    }
    if (!node.valid || !node2.valid) return 'ENOENT';
    for (const [at, hookName] of [
      [node2, name2],
      [node, name],
    ] as const) {
      if (!isHookName(hookName)) return this.fail('EINVAL', `"${hookName}" cannot be a hook's name: 1 to 31 bytes`);
      if (at.findHook(hookName) !== undefined)
        return this.fail('EEXIST', `${at.label} has a hook "${hookName}" already`);
    }
    if (node === node2 && name === name2) return this.fail('EEXIST', `hook "${name}" cannot be its own peer`);
    return this.#join(node, new NgHook(node, name), node2, new NgHook(node2, name2));
  }

  #join(node: NgNode, hook: NgHook, node2: NgNode, hook2: NgHook): Errno | undefined {
    let error = this.#addHook(node, hook);
    if (error !== undefined) return error;
    hook.peer = hook2;
    hook2.peer = hook;
    error = this.#addHook(node2, hook2);
    if (error !== undefined) {
      hook2.peer = undefined;
      hook.peer = undefined;
      this.destroyHook(hook);
      return error;
    }
    error =
      this.#ask(node2, () => node2.methods.connect?.(hook2)) ?? this.#ask(node, () => node.methods.connect?.(hook));
    if (error === undefined && hook.peer !== hook2) error = 'ENOTCONN';
    if (error !== undefined) {
      this.destroyHook(hook2);
      return error;
    }
    hook.valid = true;
    hook2.valid = true;
    return undefined;
  }

  #addHook(node: NgNode, hook: NgHook): Errno | undefined {
    const error = this.#ask(node, () => node.methods.newhook?.(hook, hook.name));
    if (error === undefined) node.hooks = [hook, ...node.hooks];
    return error;
  }

  /** Removes an edge, both ends of it. A node whose method runs is told when that has returned. */
  destroyHook(hook: NgHook): void {
    const { peer } = hook;
    hook.valid = false;
    hook.peer = undefined;
    if (peer !== undefined) {
      peer.valid = false;
      peer.peer = undefined;
    }
    this.#removeEnd(hook);
    if (peer !== undefined) this.#removeEnd(peer);
  }

  /** Takes a node out between two of its hooks: their peers are connected with each other (ng_bypass). */
  bypass(hook1: NgHook, hook2: NgHook): Errno | undefined {
    const { peer: peer1 } = hook1;
    const { peer: peer2 } = hook2;
    if (hook1.node !== hook2.node || peer1 === undefined || peer2 === undefined || peer1 === hook2) return 'EINVAL';
    peer1.peer = peer2;
    peer2.peer = peer1;
    hook1.peer = undefined;
    hook2.peer = undefined;
    this.destroyHook(hook1);
    this.destroyHook(hook2);
    return undefined;
  }

  #removeEnd(hook: NgHook): void {
    const { node } = hook;
    if (!node.hooks.includes(hook)) return;
    node.hooks = node.hooks.filter((other) => other !== hook);
    if (node.busy) this.turns.later(node, () => this.#guard(node, () => node.methods.disconnect?.(hook)));
    else this.#guard(node, () => node.methods.disconnect?.(hook));
  }

  // ---- messages ----

  /** Sends a message to an address. Returns the errno if it ran at once, undefined if it succeeded or waits. */
  sendTo(from: NgNode, address: string, msg: NgMessage): Errno | undefined {
    this.lastErrorText = '';
    const found = this.resolve(from, address);
    if (typeof found === 'string') return found;
    return this.sendMessage(found.node, { ...msg, from: from.id }, found.lasthook);
  }

  /** Sends a message over a hook, to the node behind it. */
  sendOver(hook: NgHook, msg: NgMessage): Errno | undefined {
    const { peer } = hook;
    if (peer === undefined || !hook.valid) return 'ENOTCONN';
    return this.sendMessage(peer.node, { ...msg, from: hook.node.id }, peer);
  }

  /** Sends a message to a node; the reply goes to node `msg.from`. */
  sendMessage(node: NgNode, msg: NgMessage, lasthook?: NgHook): Errno | undefined {
    if (!node.valid) return 'ENOENT';
    if (node.busy || this.turns.tooDeep) {
      this.turns.messageLater(node, () => this.sendMessage(node, msg, lasthook));
      return undefined;
    }
    return this.turns.turn(() => {
      const result = this.#rcvmsg(node, msg, lasthook?.valid === true ? lasthook : undefined);
      if (typeof result === 'string') return result;
      if (result !== undefined && !isResponse(msg)) this.respond(node, msg, result);
      return undefined;
    });
  }

  /** Answers a message, at once or later. */
  respond(node: NgNode, msg: NgMessage, data: Uint8Array): void {
    const to = this.#nodes.get(msg.from);
    if (to !== undefined) this.sendMessage(to, newResponse(msg, data, node.id));
  }

  #rcvmsg(node: NgNode, msg: NgMessage, lasthook: NgHook | undefined): NgResult {
    this.lastErrorText = '';
    try {
      if (msg.typecookie === NGM_GENERIC_COOKIE && !isResponse(msg)) return genericMessage(node, msg, lasthook);
      return this.callRcvmsg(node, msg, lasthook);
    } catch (error) {
      return this.failed(error);
    }
  }

  /** The type's own handler; without one a message is silently dropped. */
  callRcvmsg(node: NgNode, msg: NgMessage, lasthook: NgHook | undefined): NgResult {
    return this.turns.run(node, () => node.methods.rcvmsg?.(msg, lasthook));
  }

  /** Notes the text that goes with an error. */
  fail(errno: Errno, text: string): Errno {
    this.lastErrorText = text;
    return errno;
  }

  /** The errno of something that a method threw. */
  failed(error: unknown): Errno {
    if (!(error instanceof NetbeError)) {
      const stack = error instanceof Error ? error.stack : String(error);
      this.runtime.log.error({ error: stack }, 'a netgraph node threw');
    }
    const { message, remedy } = error as Partial<NetbeError>;
    return this.fail(errnoOf(error), remedy === undefined ? `${message}` : `${message}. ${remedy}`);
  }

  // ---- calls into types ----

  #ask(node: NgNode, method: () => Errno | undefined): Errno | undefined {
    try {
      return this.turns.run(node, method);
    } catch (error) {
      return this.failed(error);
    }
  }

  /** For methods that cannot refuse. */
  #guard<T>(node: NgNode, method: () => T): T | undefined {
    try {
      return this.turns.run(node, method);
    } catch (error) {
      this.failed(error);
      return undefined;
    }
  }

  #tellDeferred(node: NgNode, error: Errno | undefined): void {
    if (error !== undefined)
      this.runtime.log.warn({ node: node.label, error }, `netgraph: connecting failed: ${this.lastErrorText}`);
  }

  #nextFreeId(): number {
    while (this.#nextId === 0 || this.#nodes.has(this.#nextId)) this.#nextId = (this.#nextId + 1) >>> 0;
    const id = this.#nextId;
    this.#nextId = (id + 1) >>> 0;
    return id;
  }

  /** Removes every node, persistent ones too. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const node of [...this.#nodes.values()]) this.removeNode(node, true);
    this.buffers.close();
  }
}
