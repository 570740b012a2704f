/**
 * loopback: what is sent comes back, in order. For tests of frontends, and the smallest backend that
 * keeps the whole contract. `loopback0,slots=N` holds N frames; when they are taken up, send returns 0.
 */
import { counterIndices } from '../engine/counters.js';
import { copyPieces } from '../memory/copy.js';
import { Iovec } from '../memory/iovec.js';
import type { Mapping, WindowPool } from '../memory/window.js';
import { E } from '../sys/libc.js';
import * as F from '../wire/virtio-features.js';
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
import { integerOption } from './options.js';

/** room for one frame with its header */
const SLOT_BYTES = MAX_FRAME_LEN + 64;

const SLOTS: BackendOption = { name: 'slots', value: '1-1024', summary: 'frames that it holds', default: '64' };

/** All that the two directions have in common, and neither needs work: what one end left undone the other takes. */
const LOOPBACK_FEATURES =
  F.VIRTIO_NET_F_CSUM |
  F.VIRTIO_NET_F_GUEST_CSUM |
  F.VIRTIO_NET_F_GUEST_TSO4 |
  F.VIRTIO_NET_F_GUEST_TSO6 |
  F.VIRTIO_NET_F_HOST_TSO4 |
  F.VIRTIO_NET_F_HOST_TSO6;

const counterNames = ['rx_no_space', 'rx_discarded', 'tx_drop_too_long'] as const;
const C = counterIndices(counterNames);

class Loopback implements NetBackend {
  readonly name: string;
  vnetHdrLen: VnetHdrLen = 0;
  readonly #pool: WindowPool;
  readonly #memory: Mapping;
  readonly #lengths: Uint32Array;
  readonly #slots: number;
  readonly #values: Float64Array;
  readonly #release: () => void;
  readonly #onReceive: ReceiveCallback | undefined;
  readonly #slot = new Iovec(1);
  #head = 0;
  #count = 0;
  #enabled = false;
  #closed = false;

  constructor({ runtime, device, onReceive }: BackendOpen, slots: number) {
    this.name = device;
    this.#pool = runtime.windows;
    this.#slots = slots;
    this.#lengths = new Uint32Array(slots);
    this.#memory = runtime.windows.mapAnonymous(slots * SLOT_BYTES, device);
    this.#onReceive = onReceive;
    this.#values = runtime.counters.create(device, counterNames).values;
    this.#release = () => runtime.counters.release(device);
  }

  send(iov: Iovec): number {
    if (iov.total > SLOT_BYTES) {
      this.#values[C.tx_drop_too_long]!++;
      return -E.EMSGSIZE;
    }
    if (this.#count === this.#slots || this.#closed) return 0;
    const at = (this.#head + this.#count) % this.#slots;
    this.#pick(at, iov.total);
    copyPieces(this.#pool, iov.win, iov.off, iov.len, 0, iov.total, this.#slot, 0);
    this.#lengths[at] = iov.total;
    this.#count++;
    return iov.total;
  }

  flush(): void {
    if (this.#enabled && this.#count > 0) this.#onReceive?.();
  }

  peekRecvLen(): number {
    return this.#count > 0 ? this.#lengths[this.#head]! : 0;
  }

  recv(iov: Iovec): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    if (iov.total < len) {
      this.#values[C.rx_no_space]!++;
      this.#shift();
      return -E.ENOSPC;
    }
    this.#pick(this.#head, len);
    copyPieces(this.#pool, this.#slot.win, this.#slot.off, this.#slot.len, 0, len, iov, 0);
    this.#shift();
    return len;
  }

  rxDiscard(): number {
    const len = this.peekRecvLen();
    if (len > 0) {
      this.#values[C.rx_discarded]!++;
      this.#shift();
    }
    return len;
  }

  recvEnable(): void {
    this.#enabled = true;
    this.flush();
  }

  recvDisable(): void {
    this.#enabled = false;
  }

  getCap(): bigint {
    return LOOPBACK_FEATURES;
  }

  setCap(_features: bigint, vnetHdrLen: number): boolean {
    this.vnetHdrLen = checkVnetHdrLen(vnetHdrLen, this.name);
    // frames with a header of another length must not come back
    this.#count = 0;
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#count = 0;
    this.#enabled = false;
    this.#memory.close();
    this.#release();
  }

  #pick(slot: number, len: number): void {
    this.#slot.clear();
    this.#slot.push(this.#memory.window.index, this.#memory.off + slot * SLOT_BYTES, len);
  }

  #shift(): void {
    this.#head = (this.#head + 1) % this.#slots;
    this.#count--;
  }
}

export const loopbackBackend: NetBackendType = {
  prefix: 'loopback',
  summary: 'what is sent comes back: for tests',
  example: 'loopback0',
  options: [SLOTS],
  needsReceive: false,
  needs: () => ({}),
  open: (request) => new Loopback(request, integerOption(SLOTS, request.options, 1, 1024)),
};
