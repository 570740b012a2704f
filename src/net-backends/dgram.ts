/**
 * dgram: QEMU's `-netdev dgram` (qemu(1)): each frame is a datagram, over UDP on loopback or between two
 * unix sockets. There is no connection: frames to a peer that is not there are dropped and counted.
 *
 * Datagrams go and come in batches (sendmmsg(2), recvmmsg(2)).
 */

import { unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { counterIndices } from '../engine/counters.js';
import { EVF_READ, type MeventHandle } from '../engine/mevent.js';
import type { Runtime } from '../engine/runtime.js';
import { copyPieces } from '../memory/copy.js';
import { Iovec } from '../memory/iovec.js';
import type { Mapping } from '../memory/window.js';
import type { Fd } from '../sys/fd.js';
import { AF_INET, AF_UNIX, bindDatagram, DatagramBatch, parseSocketAddress, type SocketAddress } from '../sys/inet.js';
import { E } from '../sys/libc.js';
import { ETH_HDR_LEN } from '../wire/ethernet.js';
import {
  type BackendOpen,
  type BackendOption,
  checkVnetHdrLen,
  MAX_FRAME_LEN,
  type NetBackend,
  type NetBackendType,
  type ReceiveCallback,
  type VnetHdrLen,
} from './net-backend.js';

/** datagrams in one call */
const BATCH = 64;
/** room for one frame */
const SLOT_BYTES = MAX_FRAME_LEN + 64;
/** largest payload of a UDP datagram over IPv4: 65535 less the headers */
const MAX_UDP_PAYLOAD = 65507;
/** of the socket: a few bursts of full-sized frames */
const SOCKET_BUFFER_BYTES = 4 * 2 ** 20;

const ADDRESS = 'unix:PATH|udp:127.0.0.1:PORT';
const LOCAL: BackendOption = { name: 'local', value: ADDRESS, summary: 'where frames are received', required: true };
const REMOTE: BackendOption = { name: 'remote', value: ADDRESS, summary: 'where frames are sent', required: true };

const counterNames = [
  'rx_no_space',
  'rx_discarded',
  'rx_drop_runt',
  'tx_drop_full',
  'tx_drop_no_peer',
  'tx_drop_too_long',
] as const;
const C = counterIndices(counterNames);

class Dgram implements NetBackend {
  readonly name: string;
  readonly vnetHdrLen: VnetHdrLen = 0;
  readonly #runtime: Runtime;
  readonly #onReceive: ReceiveCallback | undefined;
  readonly #values: Float64Array;
  readonly #maxLen: number;
  readonly #local: SocketAddress;
  readonly #memory: Mapping;
  readonly #receiving = new DatagramBatch(BATCH);
  readonly #sending: DatagramBatch;
  readonly #piece = new Iovec(1);
  readonly #socket: Fd;
  readonly #handle: MeventHandle;
  /** datagrams received, [#inHead, #inTail) not yet taken */
  #inHead = 0;
  #inTail = 0;
  /** receive calls allowed before the event queue has its turn */
  #fillsLeft = Number.POSITIVE_INFINITY;
  #outCount = 0;
  #enabled = false;
  #closed = false;

  constructor({ runtime, device, onReceive }: BackendOpen, local: SocketAddress, remote: SocketAddress) {
    this.name = device;
    this.#runtime = runtime;
    this.#onReceive = onReceive;
    this.#local = local;
    this.#maxLen = local.kind === 'unix' ? MAX_FRAME_LEN : MAX_UDP_PAYLOAD;
    this.#sending = new DatagramBatch(BATCH, remote);
    this.#values = runtime.counters.create(device, counterNames).values;
    this.#memory = runtime.windows.mapAnonymous(2 * BATCH * SLOT_BYTES, device);
    try {
      this.#socket = bindDatagram(local, SOCKET_BUFFER_BYTES);
    } catch (error) {
      this.#memory.close();
      runtime.counters.release(device);
      throw error;
    }
    this.#handle = runtime.mevent.addDisabled(this.#socket.number, EVF_READ, () => this.#readable());
    for (let i = 0; i < BATCH; i++) this.#receiving.setBuffer(i, this.#memory.addr + i * SLOT_BYTES, SLOT_BYTES);
  }

  send(iov: Iovec): number {
    const len = iov.total;
    if (len > this.#maxLen) {
      this.#values[C.tx_drop_too_long]!++;
      return len;
    }
    if (this.#outCount === BATCH) this.flush();
    const slot = this.#outCount++;
    const at = (BATCH + slot) * SLOT_BYTES;
    this.#pick(at, len);
    copyPieces(this.#runtime.windows, iov.win, iov.off, iov.len, 0, len, this.#piece, 0);
    this.#sending.setBuffer(slot, this.#memory.addr + at, len);
    return len;
  }

  flush(): void {
    const count = this.#outCount;
    let from = 0;
    while (from < count) {
      const n = this.#sending.send(this.#socket.number, from, count);
      if (n > 0) from += n;
      else if (n === -E.EAGAIN || n === -E.ENOBUFS) {
        this.#values[C.tx_drop_full]! += count - from;
        break;
      } else {
        // nobody there, or an error that an earlier datagram met: this one is lost, the next may go
        this.#values[C.tx_drop_no_peer]!++;
        from++;
      }
    }
    this.#outCount = 0;
  }

  peekRecvLen(): number {
    for (;;) {
      if (this.#inHead === this.#inTail && !this.#fill()) return 0;
      const len = this.#receiving.length(this.#inHead);
      if (len >= ETH_HDR_LEN) return len;
      this.#values[C.rx_drop_runt]!++;
      this.#inHead++;
    }
  }

  recv(iov: Iovec): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    const slot = this.#inHead++;
    if (iov.total < len) {
      this.#values[C.rx_no_space]!++;
      return -E.ENOSPC;
    }
    const piece = this.#pick(slot * SLOT_BYTES, len);
    copyPieces(this.#runtime.windows, piece.win, piece.off, piece.len, 0, len, iov, 0);
    return len;
  }

  rxDiscard(): number {
    const len = this.peekRecvLen();
    if (len > 0) {
      this.#inHead++;
      this.#values[C.rx_discarded]!++;
    }
    return len;
  }

  recvEnable(): void {
    this.#enabled = true;
    this.#handle.enable();
    this.#readable();
  }

  recvDisable(): void {
    this.#enabled = false;
    this.#handle.disable();
  }

  getCap(): bigint {
    return 0n;
  }

  setCap(features: bigint, vnetHdrLen: number): boolean {
    return checkVnetHdrLen(vnetHdrLen, this.name) === 0 && features === 0n;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handle.delete();
    this.#socket.close();
    if (this.#local.kind === 'unix') removeSocket(this.#local.path);
    this.#memory.close();
    this.#runtime.counters.release(this.name);
  }

  /** One batch a call: a peer that sends faster than frames are taken must not keep the fabric for itself. */
  #readable(): void {
    const before = this.#fillsLeft;
    this.#fillsLeft = 1;
    if (this.#enabled && this.peekRecvLen() > 0) this.#onReceive?.();
    this.#fillsLeft = before;
  }

  #fill(): boolean {
    if (this.#fillsLeft === 0) return false;
    this.#fillsLeft--;
    const n = this.#receiving.receive(this.#socket.number);
    this.#inHead = 0;
    this.#inTail = Math.max(n, 0);
    return n > 0;
  }

  #pick(at: number, len: number): Iovec {
    const { window, off } = this.#memory;
    this.#piece.clear();
    this.#piece.push(window.index, off + at, len);
    return this.#piece;
  }
}

function removeSocket(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // gone already: whoever removed it meant to
  }
}

export const dgramBackend: NetBackendType = {
  prefix: 'dgram',
  summary: "QEMU's -netdev dgram: a datagram a frame",
  example: 'dgram0',
  options: [LOCAL, REMOTE],
  needsReceive: false,
  needs(_device, options) {
    const local = parseSocketAddress(options.get('local') ?? '', 'udp');
    if (local.kind === 'unix') return { socketFolders: [dirname(local.path)], socketFamilies: [AF_UNIX] };
    return { socketFamilies: [AF_INET] };
  },
  open: (request) =>
    new Dgram(
      request,
      parseSocketAddress(request.options.get('local') ?? '', 'udp'),
      parseSocketAddress(request.options.get('remote') ?? '', 'udp'),
    ),
};
