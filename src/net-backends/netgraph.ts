/**
 * netgraph: a hook of the fabric's graph (bhyve's netgraph backend; netgraph(4), ng_socket(4)).
 *
 * The backend is a socket node whose hook is connected to another node's: what the guest sends goes out of it,
 * and what comes in is the guest's. As with the original there are no offloads and no header. Frames are
 * handed over in bursts, by reference: from guest to guest through any number of nodes they are copied once.
 */
import { counterIndices } from '../engine/counters.js';
import type { Runtime } from '../engine/runtime.js';
import { NetbeError, usageError } from '../errors.js';
import type { Burst } from '../memory/burst.js';
import { copyPiece, copyPieces } from '../memory/copy.js';
import { Iovec } from '../memory/iovec.js';
import { NG_HOOKSIZ, NG_NODESIZ, NG_PATHSIZ } from '../netgraph/abi.js';
import { NG_BURST_FRAMES, type NgBurst } from '../netgraph/burst.js';
import type { Netgraph } from '../netgraph/engine.js';
import { type Errno, strerror } from '../netgraph/errno.js';
import type { NgHook } from '../netgraph/hook.js';
import { netgraphOf } from '../netgraph/netgraph.js';
import { NgSocket } from '../netgraph/nodes/socket.js';
import { FrameRing, RING_HDR_LEN } from '../netmap/vale/frame-ring.js';
import { E } from '../sys/libc.js';
import { ETH_HDR_LEN } from '../wire/ethernet.js';
import {
  type BackendOpen,
  type BackendOption,
  type BackendStatus,
  checkVnetHdrLen,
  MAX_FRAME_LEN,
  type NetBackend,
  type NetBackendType,
  type ReceiveCallback,
  type VnetHdrLen,
} from './net-backend.js';

/**
 * Bytes that wait for the guest at most: as bhyve sets the socket's buffer, at most 4 MiB, and at most what
 * kern.ipc.maxsockbuf (2 MiB) leaves when each cluster of 2048 bytes has an mbuf of 256.
 */
const NG_SBUF_MAX_SIZE = 4 * 1024 * 1024;
const MAX_SOCK_BUF = 2 * 1024 * 1024;
const MCLBYTES = 2048;
const MSIZE = 256;
const RING_BYTES = Math.min(NG_SBUF_MAX_SIZE, Math.floor((MAX_SOCK_BUF * MCLBYTES) / (MSIZE + MCLBYTES)));
const RING_SLOTS = 4096;

const PATH: BackendOption = {
  name: 'path',
  value: 'PATH',
  summary: 'address of the node to join, for instance br0:',
  required: true,
};
const PEERHOOK: BackendOption = {
  name: 'peerhook',
  value: 'NAME',
  summary: 'hook of that node to be connected to, for instance link1',
  required: true,
  missing: 'peer hook must be provided',
};
const HOOK: BackendOption = { name: 'hook', value: 'NAME', summary: 'hook of our own', default: 'vmlink' };
const SOCKET: BackendOption = { name: 'socket', value: 'NAME', summary: 'name of our own node; none unless given' };

export const netgraphCounterNames = [
  'rx_queued',
  'rx_drop_full',
  'rx_drop_runt',
  'rx_no_space',
  'rx_discarded',
  'tx_drop_runt',
  'tx_drop_too_long',
  'tx_drop_not_connected',
  'tx_drop_no_memory',
] as const;
const C = counterIndices(netgraphCounterNames);

interface Place {
  path: string;
  peerhook: string;
  hook: string;
  socket: string;
}

class NetgraphPort implements NetBackend {
  readonly name: string;
  readonly vnetHdrLen: VnetHdrLen = 0;
  readonly #runtime: Runtime;
  readonly #graph: Netgraph;
  readonly #place: Place;
  readonly #socket: NgSocket;
  readonly #onReceive: ReceiveCallback | undefined;
  readonly #subject: string;
  readonly #values: Float64Array;
  readonly #ring: FrameRing;
  readonly #ringPiece = new Iovec(1);
  /** frames sent since the last flush */
  readonly #out: NgBurst;
  readonly #gathered = new Iovec(1);
  /** the burst that is being delivered to us, and how far we are in it */
  #in: NgBurst | undefined;
  #inAt = 0;
  #enabled = false;
  #closed = false;

  constructor({ runtime, device, subject, onReceive }: BackendOpen, place: Place) {
    this.name = device;
    this.#runtime = runtime;
    this.#graph = netgraphOf(runtime);
    this.#place = place;
    this.#onReceive = onReceive;
    this.#socket = openSocket(this.#graph, place.socket, {
      onData: (_hook, burst) => this.#take(burst),
    });
    try {
      connectSocket(this.#graph, this.#socket, place);
      this.#subject = `${subject}/netgraph`;
      this.#values = runtime.counters.create(this.#subject, netgraphCounterNames).values;
    } catch (error) {
      this.#socket.close();
      throw error;
    }
    this.#ring = new FrameRing(runtime.windows, RING_SLOTS, RING_BYTES);
    this.#out = this.#graph.buffers.takeBurst();
  }

  /** As a write to the original's socket: the only hook, whatever its name now; of several, none. */
  get #hook(): NgHook | undefined {
    const { hooks } = this.#socket.node;
    return hooks.length === 1 ? hooks[0] : undefined;
  }

  // ---- transmit ----

  send(iov: Iovec): number {
    const len = iov.total;
    if (this.#hook === undefined) return this.#refuse(C.tx_drop_not_connected, E.ENOTCONN);
    if (len > MAX_FRAME_LEN) return this.#refuse(C.tx_drop_too_long, E.EMSGSIZE);
    if (len < ETH_HDR_LEN) {
      this.#values[C.tx_drop_runt]!++;
      return len;
    }
    if (this.#out.count === NG_BURST_FRAMES) this.flush();
    // what is sent while a turn goes on may have to wait for its end, when the sender has its memory back
    if (iov.count === 1 && !this.#graph.inTurn) this.#out.push(iov.win[0]!, iov.off[0]!, len);
    else this.#gather(iov);
    return len;
  }

  sendBurst(burst: Burst, from: number, count: number): number {
    if (this.#hook === undefined || this.#graph.inTurn) return 0;
    const out = this.#out;
    const win = burst.window.index;
    let i = from;
    for (; i < count; i++) {
      const len = burst.bufferLen(i);
      if (len < ETH_HDR_LEN || len > MAX_FRAME_LEN) break;
      if (out.count === NG_BURST_FRAMES) this.flush();
      out.push(win, burst.bufferOff(i), len);
    }
    return i - from;
  }

  flush(): void {
    const out = this.#out;
    if (out.count === 0) return;
    const hook = this.#hook;
    if (hook !== undefined) hook.send(out);
    else this.#values[C.tx_drop_not_connected]! += out.count;
    out.count = 0;
  }

  #refuse(counter: number, errno: number): number {
    this.#values[counter]!++;
    return -errno;
  }

  /** Copies a frame to memory that is ours until the turn ends. */
  #gather(iov: Iovec): void {
    const { buffers } = this.#graph;
    let off = buffers.arena(iov.total);
    if (off === 0) {
      this.flush();
      off = buffers.arena(iov.total);
    }
    if (off === 0) {
      this.#values[C.tx_drop_no_memory]!++;
      return;
    }
    const win = buffers.window.index;
    this.#gathered.clear();
    this.#gathered.push(win, off, iov.total);
    copyPieces(this.#runtime.windows, iov.win, iov.off, iov.len, 0, iov.total, this.#gathered, 0);
    this.#out.push(win, off, iov.total);
  }

  // ---- receive ----

  /** Lets the guest take a burst; keeps or drops what it leaves. */
  #take(burst: NgBurst): void {
    if (this.#closed) return;
    this.#in = burst;
    this.#inAt = 0;
    try {
      if (this.#enabled) this.#onReceive?.();
      while (this.#inAt < burst.count) this.#keep(burst, this.#inAt++);
    } finally {
      this.#in = undefined;
    }
  }

  #keep(burst: NgBurst, i: number): void {
    if (this.#closed) return;
    const len = burst.len[i]!;
    if (len < ETH_HDR_LEN) {
      this.#values[C.rx_drop_runt]!++;
      return;
    }
    const dst = this.#ring.reserve(0, 0, 0, len);
    if (dst === undefined) {
      this.#values[C.rx_drop_full]!++;
      return;
    }
    const { windows } = this.#runtime.windows;
    copyPiece(this.#ring.window, dst.off[0]! + RING_HDR_LEN, windows[burst.win[i]!]!, burst.off[i]!, len);
    this.#values[C.rx_queued]!++;
  }

  /** Drops what is no frame from the head of the burst: a graph hands on anything, empty datagrams too. */
  #skipRunts(): void {
    const from = this.#in;
    if (from === undefined) return;
    while (this.#inAt < from.count && from.len[this.#inAt]! < ETH_HDR_LEN) {
      this.#values[C.rx_drop_runt]!++;
      this.#inAt++;
    }
  }

  recvReady(): number {
    if (this.#in === undefined || this.#ring.count > 0) return 0;
    this.#skipRunts();
    return this.#in.count - this.#inAt;
  }

  recvBurst(burst: Burst, count: number): number {
    const from = this.#in;
    if (from === undefined || this.#ring.count > 0) return 0;
    const { window } = burst;
    const { kernel, index } = window;
    const max = Math.min(count, from.count - this.#inAt);
    let n = 0;
    for (let i = this.#inAt; n < max; n++, i++) {
      const len = from.len[i]!;
      if (from.win[i] !== index || burst.bufferLen(n) < len || len < ETH_HDR_LEN) break;
      kernel.copy(burst.bufferOff(n), from.off[i]!, len);
      burst.setDone(n, len);
    }
    this.#inAt += n;
    return n;
  }

  peekRecvLen(): number {
    if (this.#ring.count > 0) return this.#ring.frameLen;
    this.#skipRunts();
    return this.#in !== undefined && this.#inAt < this.#in.count ? this.#in.len[this.#inAt]! : 0;
  }

  recv(iov: Iovec): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    const fits = iov.total >= len;
    if (fits) {
      const piece = this.#next(len);
      copyPieces(this.#runtime.windows, piece.win, piece.off, piece.len, 0, len, iov, 0);
    } else this.#values[C.rx_no_space]!++;
    this.#shift();
    return fits ? len : -E.ENOSPC;
  }

  rxDiscard(): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    this.#values[C.rx_discarded]!++;
    this.#shift();
    return len;
  }

  /** Where the next frame is. */
  #next(len: number): Iovec {
    const piece = this.#ringPiece;
    piece.clear();
    if (this.#ring.count > 0) piece.push(this.#ring.window.index, this.#ring.frameOff + RING_HDR_LEN, len);
    else piece.push(this.#in!.win[this.#inAt]!, this.#in!.off[this.#inAt]!, len);
    return piece;
  }

  #shift(): void {
    if (this.#ring.count > 0) this.#ring.shift();
    else this.#inAt++;
  }

  recvEnable(): void {
    this.#enabled = true;
    if (this.peekRecvLen() > 0) this.#onReceive?.();
  }

  recvDisable(): void {
    this.#enabled = false;
  }

  // ---- control ----

  getCap(): bigint {
    return 0n;
  }

  setCap(features: bigint, vnetHdrLen: number): boolean {
    return checkVnetHdrLen(vnetHdrLen, this.name) === 0 && features === 0n;
  }

  status(): BackendStatus {
    const hook = this.#hook?.name ?? this.#place.hook;
    const peer = this.#hook?.peer;
    const node = this.#socket.node.label;
    if (peer === undefined) return { node, hook, connected: false };
    return { node, hook, connected: true, peer: `${peer.node.label}:`, type: peer.node.type.name, peerhook: peer.name };
  }

  close(): void {
    if (this.#closed) return;
    this.flush();
    this.#closed = true;
    this.#enabled = false;
    this.#socket.close();
    this.#graph.buffers.giveBurst(this.#out);
    this.#ring.close();
    this.#runtime.counters.release(this.#subject);
  }
}

function openSocket(graph: Netgraph, name: string, callbacks: Parameters<typeof NgSocket.open>[2]): NgSocket {
  graph.lastErrorText = '';
  const socket = NgSocket.open(graph, name, callbacks);
  if (typeof socket === 'string')
    throw graphError(`can't get Netgraph sockets${name === '' ? '' : ` named ${name}`}`, socket, graph, name);
  return socket;
}

function connectSocket(graph: Netgraph, socket: NgSocket, { path, peerhook, hook }: Place): void {
  graph.lastErrorText = '';
  const found = graph.resolve(socket.node, path);
  const error = typeof found === 'string' ? found : graph.connect(socket.node, hook, found.node, peerhook);
  if (error === undefined) return;
  throw graphError(
    `can't connect to node ${path} (hook ${peerhook})`,
    error,
    graph,
    path,
    `A graph that is there before its NICs is made by netbe run --netgraph FILE, or netgraph: in the fabric file; in a running fabric netbe ngctl list shows the nodes, netbe ngctl show ${path} the hooks of this one.`,
  );
}

function graphError(what: string, errno: Errno, graph: Netgraph, subject: string, remedy?: string): NetbeError {
  const why = graph.lastErrorText === '' ? '' : `: ${graph.lastErrorText}`;
  return new NetbeError(`${what}: ${strerror(errno)}${why}`, { code: errno, kind: 'usage', subject, remedy });
}

/** An option's text, which must fit the original's field of `size` bytes, NUL included. */
function text(option: BackendOption, options: ReadonlyMap<string, string>, size: number): string {
  const value = options.get(option.name) ?? option.default ?? '';
  if (Buffer.byteLength(value) >= size)
    throw usageError(
      `${option.name}=${value} has ${Buffer.byteLength(value)} bytes: allowed are 1 to ${size - 1}`,
      `${option.name}=${value}`,
    );
  return value;
}

function open(request: BackendOpen): NetBackend {
  const { options } = request;
  return new NetgraphPort(request, {
    path: text(PATH, options, NG_PATHSIZ),
    peerhook: text(PEERHOOK, options, NG_HOOKSIZ),
    hook: text(HOOK, options, NG_HOOKSIZ),
    socket: text(SOCKET, options, NG_NODESIZ),
  });
}

export const netgraphBackend: NetBackendType = {
  prefix: 'netgraph',
  summary: "a hook of the fabric's netgraph",
  example: 'netgraph',
  options: [PATH, PEERHOOK, HOOK, SOCKET],
  needsReceive: true,
  needs: () => ({}),
  open,
};
