/**
 * socket (ng_socket(4)): the graph's end in a program. `NgSocket` is what the program holds, in place of
 * the original's two sockets: messages out and in, data out and in by hook.
 *
 * Messages that nobody takes wait, up to 64; then the eldest are lost. Data is for the callback, or
 * lost and counted. The node goes with close(), and a shutdown by somebody else closes the socket;
 * with `linger(false)` (NGM_SOCK_CMD_NOLINGER) it also goes with its last hook.
 */
import { counterIndices } from '../../engine/counters.js';
import { NGM_ASCII2BINARY, NGM_GENERIC_COOKIE } from '../abi.js';
import type { NgBurst } from '../burst.js';
import type { Netgraph } from '../engine.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import { decodeMessage, encodeMessage, type NgMessage, newMessage } from '../message.js';
import { type NgMethods, type NgNode, type NgResult, type NgType, NODE_COUNTERS } from '../node.js';

const NGM_SOCKET_COOKIE = 851601233;
const NGM_SOCK_CMD_NOLINGER = 1;
const NGM_SOCK_CMD_LINGER = 2;

const QUEUED_MESSAGES = 64;
const counters = ['drop_no_reader', 'drop_messages_full'] as const;
const C = counterIndices(counters, NODE_COUNTERS);

export const socketType: NgType = {
  name: 'socket',
  cmdlist: [
    { cookie: NGM_SOCKET_COOKIE, cmd: NGM_SOCK_CMD_NOLINGER, name: 'nolinger' },
    { cookie: NGM_SOCKET_COOKIE, cmd: NGM_SOCK_CMD_LINGER, name: 'linger' },
  ],
  counters,
};

export interface NgSocketCallbacks {
  /** Data path: frames from a hook, valid during the call; take them out with the hook's name. */
  onData?(hook: NgHook, burst: NgBurst): void;
  /** A message has come: see recv(). */
  onMessage?(): void;
  onDisconnect?(hook: NgHook): void;
  /** The node is gone, for whatever reason. */
  onClose?(): void;
}

/** A message that has come, and the address of its sender. */
export interface Received {
  message: NgMessage;
  path: string;
}

export class NgSocket implements NgMethods {
  readonly node: NgNode;
  readonly #callbacks: NgSocketCallbacks;
  readonly #messages: Received[] = [];
  #token = 0;
  #lingers = true;

  /** Throws nothing: an errno says why there is no node, or no node of that name. */
  static open(engine: Netgraph, name: string, callbacks: NgSocketCallbacks = {}): NgSocket | Errno {
    let socket: NgSocket | undefined;
    const node = engine.makeNodeCommon(socketType, (made) => {
      socket = new NgSocket(made, callbacks);
      return socket;
    });
    if (typeof node === 'string') return node;
    const error = name === '' ? undefined : engine.nameNode(node, name);
    if (error === undefined) return socket as NgSocket;
    engine.removeNode(node, true);
    return error;
  }

  private constructor(node: NgNode, callbacks: NgSocketCallbacks) {
    this.node = node;
    this.#callbacks = callbacks;
  }

  get closed(): boolean {
    return !this.node.valid;
  }

  /** Why the last message failed, for people; '' when there is no more to say than its errno. */
  get lastErrorText(): string {
    return this.node.engine.lastErrorText;
  }

  /** Sends a message (NgSendMsg). The reply, if any, is for recv(). */
  send(path: string, cookie: number, cmd: number, data?: Uint8Array): Errno | undefined {
    return this.sendMessage(path, newMessage(cookie, cmd, data, { token: this.#nextToken() }));
  }

  sendMessage(path: string, message: NgMessage): Errno | undefined {
    if (this.closed) return 'ENOTCONN';
    return this.node.engine.sendTo(this.node, path, message);
  }

  /** Sends a command with ASCII arguments (NgSendAsciiMsg): the node there converts it first. */
  sendAscii(path: string, cmdstr: string, args: string): Errno | undefined {
    const ascii = newMessage(0, 0, Buffer.from(`${args}\0`, 'latin1'), { cmdstr });
    const error = this.send(path, NGM_GENERIC_COOKIE, NGM_ASCII2BINARY, encodeMessage(ascii));
    if (error !== undefined) return error;
    const reply = this.takeReply(NGM_ASCII2BINARY);
    const binary = reply === undefined ? undefined : decodeMessage(reply.message.data);
    if (binary === undefined) return 'EINVAL';
    return this.sendMessage(path, { ...binary, token: this.#nextToken() });
  }

  /** recv() would return one. */
  get hasMessages(): boolean {
    return this.#messages.length > 0;
  }

  /** The message that came first, or undefined. */
  recv(): Received | undefined {
    return this.#messages.shift();
  }

  /** The response to the generic command that was sent last, whatever else came before it. */
  takeReply(cmd: number): Received | undefined {
    const at = this.#messages.findLastIndex(
      ({ message }) =>
        message.typecookie === NGM_GENERIC_COOKIE && message.cmd === cmd && message.token === this.#token,
    );
    return at < 0 ? undefined : this.#messages.splice(at, 1)[0];
  }

  /** Data path: sends frames out of a hook. */
  sendData(hook: NgHook, burst: NgBurst): void {
    hook.send(burst);
  }

  /** Sends a frame out of a hook: ENOTCONN if there is none of that name. For programs, not for speed. */
  writeFrame(hookName: string, frame: Uint8Array): Errno | undefined {
    const hook = this.node.findHook(hookName);
    if (hook === undefined || !hook.valid) return 'ENOTCONN';
    const { engine } = this.node;
    const { buffers } = engine;
    let error: Errno | undefined;
    engine.turn(() => {
      const off = buffers.arena(frame.length);
      if (off === 0) {
        error = 'ENOBUFS';
        return;
      }
      buffers.window.u8.set(frame, off);
      const burst = buffers.takeBurst();
      burst.push(buffers.window.index, off, frame.length);
      hook.send(burst);
      buffers.giveBurst(burst);
    });
    return error;
  }

  close(): void {
    if (!this.node.valid) this.#callbacks.onClose?.();
    else this.node.engine.removeNode(this.node, true);
  }

  // ---- the node's methods ----

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie === NGM_SOCKET_COOKIE) {
      if (msg.cmd !== NGM_SOCK_CMD_NOLINGER && msg.cmd !== NGM_SOCK_CMD_LINGER) return 'EINVAL';
      this.#lingers = msg.cmd === NGM_SOCK_CMD_LINGER;
      return undefined;
    }
    if (this.#messages.length === QUEUED_MESSAGES) {
      this.#messages.shift();
      this.node.values[C.drop_messages_full]!++;
    }
    this.#messages.push({ message: msg, path: `[${msg.from.toString(16)}]:` });
    this.#callbacks.onMessage?.();
    return undefined;
  }

  rcvdata(hook: NgHook, burst: NgBurst): void {
    if (this.#callbacks.onData === undefined) this.node.values[C.drop_no_reader]! += burst.count;
    else this.#callbacks.onData(hook, burst);
  }

  disconnect(hook: NgHook): void {
    this.#callbacks.onDisconnect?.(hook);
    if (this.node.hooks.length === 0 && !this.#lingers) this.node.engine.removeNode(this.node, true);
  }

  #nextToken(): number {
    // as NgSendMsg: positive, and never 0
    this.#token = (this.#token % 0x7fffffff) + 1;
    return this.#token;
  }
}
