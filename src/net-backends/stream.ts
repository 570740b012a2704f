/**
 * stream: QEMU's `-netdev stream` (qemu(1)), for hypervisors without vhost-user. Each frame is preceded by
 * its length, four bytes, most significant first, on a stream socket: unix, or TCP on loopback.
 *
 * As server it serves one peer at a time, the next waits; as client it connects, and tries again
 * whenever nobody listens. A peer may go and come back at any time. Frames sent meanwhile are
 * dropped, and so are those that the peer does not read: the sender is never held up.
 */

import { dirname } from 'node:path';
import { counterIndices } from '../engine/counters.js';
import { EVF_READ, EVF_WRITE, type MeventHandle } from '../engine/mevent.js';
import type { Runtime } from '../engine/runtime.js';
import { copyPieces } from '../memory/copy.js';
import { Iovec } from '../memory/iovec.js';
import type { Mapping } from '../memory/window.js';
import { type Fd, readAt, writeAt } from '../sys/fd.js';
import {
  AF_INET,
  addressText,
  connectTcp,
  listenTcp,
  parseSocketAddress,
  type SocketAddress,
  setNoDelay,
} from '../sys/inet.js';
import { E, errnoText } from '../sys/libc.js';
import { accept, connectUnix, listenUnix } from '../sys/socket.js';
import { takeSocketError } from '../sys/sockopt.js';
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
import { choiceOption, integerOption } from './options.js';

const LENGTH_BYTES = 4;
/** what is read or written at once, at most */
const BUFFER_BYTES = 2 ** 20;

const ADDR: BackendOption = {
  name: 'addr',
  value: 'unix:PATH|tcp:127.0.0.1:PORT',
  summary: 'where to listen, or to connect',
  required: true,
};
const MODE: BackendOption = { name: 'mode', value: 'server|client', summary: 'who connects', default: 'server' };
const RECONNECT: BackendOption = {
  name: 'reconnect-ms',
  value: '10-60000',
  summary: 'as client, between two attempts to connect',
  default: '500',
};

const counterNames = [
  'rx_no_space',
  'rx_discarded',
  'rx_drop_runt',
  'rx_bad_length',
  'tx_drop_not_connected',
  'tx_drop_full',
  'tx_drop_too_long',
] as const;
const C = counterIndices(counterNames);

interface StreamOptions {
  address: SocketAddress;
  mode: string;
  reconnectMs: number;
}

class Stream implements NetBackend {
  readonly name: string;
  /** the protocol has none: the frontend strips and prepends its own */
  readonly vnetHdrLen: VnetHdrLen = 0;
  readonly #runtime: Runtime;
  readonly #options: StreamOptions;
  readonly #onReceive: ReceiveCallback | undefined;
  readonly #values: Float64Array;
  /** bytes read, [#inHead, #inTail) not yet taken */
  readonly #in: Mapping;
  #inHead = 0;
  #inTail = 0;
  /** reads allowed before the event queue has its turn */
  #fillsLeft = Number.POSITIVE_INFINITY;
  /** bytes to write, [#outHead, #outTail) */
  readonly #out: Mapping;
  #outHead = 0;
  #outTail = 0;
  readonly #piece = new Iovec(1);
  #listener: Fd | undefined;
  #listenHandle: MeventHandle | undefined;
  #retry: MeventHandle | undefined;
  #socket: Fd | undefined;
  #readHandle: MeventHandle | undefined;
  #writeHandle: MeventHandle | undefined;
  #connected = false;
  #enabled = false;
  #closed = false;
  #lastError = 0;

  constructor({ runtime, device, onReceive }: BackendOpen, options: StreamOptions) {
    this.name = device;
    this.#runtime = runtime;
    this.#options = options;
    this.#onReceive = onReceive;
    this.#values = runtime.counters.create(device, counterNames).values;
    this.#in = runtime.windows.mapAnonymous(BUFFER_BYTES, device);
    this.#out = runtime.windows.mapAnonymous(BUFFER_BYTES, device);
    try {
      if (options.mode === 'server') this.#listen();
      else this.#connect();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  send(iov: Iovec): number {
    const len = iov.total;
    if (len > MAX_FRAME_LEN) return this.#refuse(C.tx_drop_too_long, len);
    if (!this.#connected) return this.#refuse(C.tx_drop_not_connected, len);
    if (this.#outTail + LENGTH_BYTES + len > BUFFER_BYTES) this.#write();
    if (this.#outTail + LENGTH_BYTES + len > BUFFER_BYTES) return this.#refuse(C.tx_drop_full, len);
    const { window, off } = this.#out;
    const at = off + this.#outTail;
    window.u8[at] = len >>> 24;
    window.u8[at + 1] = len >>> 16;
    window.u8[at + 2] = len >>> 8;
    window.u8[at + 3] = len;
    this.#piece.clear();
    this.#piece.push(window.index, at + LENGTH_BYTES, len);
    copyPieces(this.#runtime.windows, iov.win, iov.off, iov.len, 0, len, this.#piece, 0);
    this.#outTail += LENGTH_BYTES + len;
    return len;
  }

  /** Counts a frame that is dropped: as far as the sender goes, it was taken. */
  #refuse(counter: number, len: number): number {
    this.#values[counter]!++;
    return len;
  }

  flush(): void {
    if (this.#outTail > this.#outHead) this.#write();
  }

  peekRecvLen(): number {
    for (;;) {
      const waiting = this.#inTail - this.#inHead;
      const len = waiting < LENGTH_BYTES ? 0 : this.#frameLen();
      if (len > MAX_FRAME_LEN) {
        this.#values[C.rx_bad_length]!++;
        this.#disconnect(`a frame of ${len} bytes was announced: ${MAX_FRAME_LEN} is the most`);
        return 0;
      }
      if (waiting < LENGTH_BYTES + len) {
        if (!this.#fill()) return 0;
        continue;
      }
      if (len >= ETH_HDR_LEN) return len;
      this.#values[C.rx_drop_runt]!++;
      this.#inHead += LENGTH_BYTES + len;
    }
  }

  recv(iov: Iovec): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    const { window, off } = this.#in;
    const at = off + this.#inHead + LENGTH_BYTES;
    this.#inHead += LENGTH_BYTES + len;
    if (iov.total < len) {
      this.#values[C.rx_no_space]!++;
      return -E.ENOSPC;
    }
    const piece = this.#piece;
    piece.clear();
    piece.push(window.index, at, len);
    copyPieces(this.#runtime.windows, piece.win, piece.off, piece.len, 0, len, iov, 0);
    return len;
  }

  rxDiscard(): number {
    const len = this.peekRecvLen();
    if (len > 0) {
      this.#inHead += LENGTH_BYTES + len;
      this.#values[C.rx_discarded]!++;
    }
    return len;
  }

  recvEnable(): void {
    this.#enabled = true;
    this.#readHandle?.enable();
    this.#readable();
  }

  recvDisable(): void {
    this.#enabled = false;
    this.#readHandle?.disable();
  }

  getCap(): bigint {
    return 0n;
  }

  setCap(features: bigint, vnetHdrLen: number): boolean {
    return checkVnetHdrLen(vnetHdrLen, this.name) === 0 && features === 0n;
  }

  status(): BackendStatus {
    const waiting = this.#options.mode === 'server' ? 'listening' : 'connecting';
    return { address: addressText(this.#options.address), state: this.#connected ? 'connected' : waiting };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#dropSocket();
    this.#retry?.delete();
    this.#listenHandle?.delete();
    this.#listener?.close();
    this.#in.close();
    this.#out.close();
    this.#runtime.counters.release(this.name);
  }

  #frameLen(): number {
    const { window, off } = this.#in;
    const at = off + this.#inHead;
    const { u8 } = window;
    return u8[at]! * 2 ** 24 + ((u8[at + 1]! << 16) | (u8[at + 2]! << 8) | u8[at + 3]!);
  }

  /** Reads more. False when nothing came. */
  #fill(): boolean {
    if (!this.#connected || this.#fillsLeft === 0) return false;
    this.#fillsLeft--;
    const { window, off, addr } = this.#in;
    if (this.#inHead > 0) {
      window.kernel.copy(off, off + this.#inHead, this.#inTail - this.#inHead);
      this.#inTail -= this.#inHead;
      this.#inHead = 0;
    }
    const n = readAt(this.#socket!.number, addr + this.#inTail, BUFFER_BYTES - this.#inTail);
    if (n > 0) {
      this.#inTail += n;
      return true;
    }
    if (n === 0) this.#disconnect(undefined);
    else if (n !== -E.EAGAIN && n !== -E.EINTR) this.#disconnect(`read: ${errnoText(-n)}`);
    return false;
  }

  #write(): void {
    if (!this.#connected) return;
    const { window, off, addr } = this.#out;
    const n = writeAt(this.#socket!.number, addr + this.#outHead, this.#outTail - this.#outHead);
    if (n < 0 && n !== -E.EAGAIN && n !== -E.EINTR) {
      this.#disconnect(n === -E.EPIPE || n === -E.ECONNRESET ? undefined : `write: ${errnoText(-n)}`);
      return;
    }
    this.#outHead += Math.max(n, 0);
    if (this.#outHead === this.#outTail) {
      this.#outHead = 0;
      this.#outTail = 0;
      this.#writeHandle?.disable();
      return;
    }
    window.kernel.copy(off, off + this.#outHead, this.#outTail - this.#outHead);
    this.#outTail -= this.#outHead;
    this.#outHead = 0;
    this.#writeHandle?.enable();
  }

  // ---- connections ----

  #listen(): void {
    const { address } = this.#options;
    this.#listener = address.kind === 'unix' ? listenUnix(address.path, { backlog: 1 }) : listenTcp(address, 1);
    this.#listenHandle = this.#runtime.mevent.add(this.#listener.number, EVF_READ, () => this.#accept());
  }

  #accept(): void {
    try {
      const socket = accept(this.#listener!.number);
      if (socket) this.#begin(socket);
    } catch (error) {
      // out of descriptors, for instance: the connection waits
      this.#warn((error as Error).message);
      this.#listenHandle?.disable();
      this.#later(() => this.#listenHandle?.enable());
    }
  }

  #connect(): void {
    const { address } = this.#options;
    try {
      if (address.kind === 'unix') this.#begin(connectUnix(address.path));
      else this.#awaitTcp(connectTcp(address));
    } catch (error) {
      const { errno = 0, message } = error as { errno?: number; message: string };
      this.#attemptFailed(errno, message);
    }
  }

  #awaitTcp(socket: Fd): void {
    const handle = this.#runtime.mevent.add(socket.number, EVF_WRITE, () => {
      handle.delete();
      this.#socket = undefined;
      this.#writeHandle = undefined;
      const no = takeSocketError(socket.number);
      if (no === 0) this.#begin(socket);
      else {
        socket.close();
        this.#attemptFailed(no, errnoText(no));
      }
    });
    this.#socket = socket;
    this.#writeHandle = handle;
  }

  #attemptFailed(errno: number, message: string): void {
    // said once, not with every attempt
    if (this.#lastError !== errno) this.#info(`waiting for ${addressText(this.#options.address)}: ${message}`);
    this.#lastError = errno;
    this.#later(() => this.#connect());
  }

  #begin(socket: Fd): void {
    this.#listenHandle?.disable();
    this.#lastError = 0;
    this.#socket = socket;
    if (this.#options.address.kind === 'inet') setNoDelay(socket);
    const { mevent } = this.#runtime;
    this.#readHandle = mevent.addDisabled(socket.number, EVF_READ, () => this.#readable());
    this.#writeHandle = mevent.addDisabled(socket.number, EVF_WRITE, () => this.#write());
    this.#connected = true;
    this.#info('peer connected');
    if (this.#enabled) this.#readHandle.enable();
  }

  /** One read a call: a peer that sends faster than frames are taken must not keep the fabric for itself. */
  #readable(): void {
    const before = this.#fillsLeft;
    this.#fillsLeft = 1;
    if (this.#enabled && this.peekRecvLen() > 0) this.#onReceive?.();
    this.#fillsLeft = before;
  }

  #disconnect(fault: string | undefined): void {
    this.#dropSocket();
    if (fault === undefined) this.#info('peer disconnected');
    else this.#warn(`${fault}; connection closed`);
    if (this.#options.mode === 'server') this.#listenHandle?.enable();
    else this.#later(() => this.#connect());
  }

  #dropSocket(): void {
    this.#connected = false;
    this.#readHandle?.delete();
    this.#writeHandle?.delete();
    this.#socket?.close();
    this.#readHandle = undefined;
    this.#writeHandle = undefined;
    this.#socket = undefined;
    this.#inHead = 0;
    this.#inTail = 0;
    this.#outHead = 0;
    this.#outTail = 0;
  }

  #later(attempt: () => void): void {
    this.#retry?.delete();
    this.#retry = this.#runtime.mevent.addTimer(this.#options.reconnectMs, () => {
      this.#retry?.delete();
      this.#retry = undefined;
      attempt();
    });
  }

  #info(message: string): void {
    this.#runtime.log.info({ backend: this.name }, `${this.name}: ${message}`);
  }

  #warn(message: string): void {
    this.#runtime.log.warn({ backend: this.name }, `${this.name}: ${message}`);
  }
}

export const streamBackend: NetBackendType = {
  prefix: 'stream',
  summary: "QEMU's -netdev stream: frames behind their lengths on a stream socket",
  example: 'stream0',
  options: [ADDR, MODE, RECONNECT],
  needsReceive: false,
  needs(_device, options) {
    const address = parseSocketAddress(options.get('addr') ?? '', 'tcp');
    const syscalls = choiceOption(MODE, options) === 'client' ? ['connect'] : [];
    if (address.kind === 'unix') return { socketFolders: [dirname(address.path)], syscalls };
    return { socketFamilies: [AF_INET], tcp: true, syscalls };
  },
  open: (request) =>
    new Stream(request, {
      address: parseSocketAddress(request.options.get('addr') ?? '', 'tcp'),
      mode: choiceOption(MODE, request.options),
      reconnectMs: integerOption(RECONNECT, request.options, 10, 60000),
    }),
};
