/**
 * The contract of net-backend.ts reduced to whole frames, for backends of one's own: a subclass gets
 * each frame of the guest in onFrame, and gives frames to the guest with deliver, at any time.
 *
 * It copies each frame once more than it must and asks for no offloads: right for a responder, a
 * logger or a test peer; a backend for speed implements NetBackend itself.
 */
import { counterIndices } from '../engine/counters.js';
import type { Log } from '../engine/runtime.js';
import { copyPieces } from '../memory/copy.js';
import { Iovec } from '../memory/iovec.js';
import type { Mapping, WindowPool } from '../memory/window.js';
import { E } from '../sys/libc.js';
import { type BackendOpen, checkVnetHdrLen, MAX_FRAME_LEN, type NetBackend, type VnetHdrLen } from './net-backend.js';

/** room for the longest frame, and what follows begins on a cache line */
const SLOT_BYTES = Math.ceil(MAX_FRAME_LEN / 64) * 64;

const counterNames = ['rx_drop_full', 'rx_no_space', 'rx_discarded', 'tx_drop_too_long', 'tx_drop_failed'] as const;
const C = counterIndices(counterNames);

export interface FrameBackendOptions {
  /** frames for the guest that wait until it takes them (default 64); more are dropped: rx_drop_full */
  slots?: number;
}

export abstract class FrameBackend implements NetBackend {
  readonly name: string;
  /** none: the frontend strips and prepends its own */
  readonly vnetHdrLen: VnetHdrLen = 0;
  readonly #pool: WindowPool;
  /** one slot for the frame that the guest sends, the others for those that wait for it */
  readonly #memory: Mapping;
  readonly #slots: number;
  readonly #lengths: Uint32Array;
  readonly #slot = new Iovec(1);
  readonly #values: Float64Array;
  readonly #log: Log;
  readonly #release: () => void;
  readonly #onReceive: (() => void) | undefined;
  #head = 0;
  #count = 0;
  #enabled = false;
  /** between a send and its flush: the guest is told of frames at the flush */
  #inBurst = false;
  #closed = false;

  constructor({ runtime, device, onReceive }: BackendOpen, options: FrameBackendOptions = {}) {
    const { slots = 64 } = options;
    this.name = device;
    this.#pool = runtime.windows;
    this.#log = runtime.log;
    this.#slots = slots;
    this.#lengths = new Uint32Array(slots);
    this.#values = runtime.counters.create(device, counterNames).values;
    this.#release = () => runtime.counters.release(device);
    this.#memory = runtime.windows.mapAnonymous((slots + 1) * SLOT_BYTES, device);
    this.#onReceive = onReceive;
  }

  /** A frame from the guest, without frame check sequence; the bytes are only valid during the call. */
  protected abstract onFrame(frame: Uint8Array): void;

  /** Called once by close(): timers, sockets and the like go here. */
  protected onClose(): void {}

  /** A frame for the guest; it is copied. False when it was dropped, because too many wait. */
  protected deliver(frame: Uint8Array): boolean {
    if (this.#closed || this.#count === this.#slots || frame.length > MAX_FRAME_LEN) {
      if (!this.#closed) this.#values[C.rx_drop_full]!++;
      return false;
    }
    const at = (this.#head + this.#count) % this.#slots;
    this.#memory.window.u8.set(frame, this.#slotOff(at));
    this.#lengths[at] = frame.length;
    this.#count++;
    if (!this.#inBurst) this.flush();
    return true;
  }

  send(iov: Iovec): number {
    if (iov.total > MAX_FRAME_LEN) {
      this.#values[C.tx_drop_too_long]!++;
      return -E.EMSGSIZE;
    }
    this.#inBurst = true;
    this.#pick(this.#slots, iov.total);
    copyPieces(this.#pool, iov.win, iov.off, iov.len, 0, iov.total, this.#slot, 0);
    const off = this.#slotOff(this.#slots);
    try {
      this.onFrame(this.#memory.window.u8.subarray(off, off + iov.total));
    } catch (error) {
      this.#failed(error);
    }
    return iov.total;
  }

  /** A mistake of the subclass costs the frame, and is told once. */
  #failed(error: unknown): void {
    if (this.#values[C.tx_drop_failed]!++ > 0) return;
    const stack = error instanceof Error ? error.stack : String(error);
    this.#log.error(
      { backend: this.name, error: stack },
      'onFrame threw; further errors are only counted (tx_drop_failed)',
    );
  }

  flush(): void {
    this.#inBurst = false;
    if (this.#enabled && this.#count > 0) this.#onReceive?.();
  }

  peekRecvLen(): number {
    return this.#count > 0 ? this.#lengths[this.#head]! : 0;
  }

  recv(iov: Iovec): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    const fits = iov.total >= len;
    if (fits) {
      this.#pick(this.#head, len);
      copyPieces(this.#pool, this.#slot.win, this.#slot.off, this.#slot.len, 0, len, iov, 0);
    } else this.#values[C.rx_no_space]!++;
    this.#shift();
    return fits ? len : -E.ENOSPC;
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
    if (this.#count > 0) this.#onReceive?.();
  }

  recvDisable(): void {
    this.#enabled = false;
  }

  getCap(): bigint {
    return 0n;
  }

  setCap(_features: bigint, vnetHdrLen: number): boolean {
    return checkVnetHdrLen(vnetHdrLen, this.name) === 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#enabled = false;
    this.#count = 0;
    try {
      this.onClose();
    } finally {
      this.#memory.close();
      this.#release();
    }
  }

  #slotOff(slot: number): number {
    return this.#memory.off + slot * SLOT_BYTES;
  }

  #pick(slot: number, len: number): void {
    this.#slot.clear();
    this.#slot.push(this.#memory.window.index, this.#slotOff(slot), len);
  }

  #shift(): void {
    this.#head = (this.#head + 1) % this.#slots;
    this.#count--;
  }
}
