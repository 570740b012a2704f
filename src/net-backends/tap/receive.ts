/**
 * From the host to a guest: frames are read in batches into buffers of our own, and handed over from
 * there, in order. A tap does not tell how long its next frame is, so it cannot be read in place.
 *
 * While all buffers hold frames that our user has not taken, the kernel's queue fills, and drops.
 */
import type { Burst } from '../../memory/burst.js';
import { copyPieces } from '../../memory/copy.js';
import type { Iovec } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import { E } from '../../sys/libc.js';
import { ETH_HDR_LEN } from '../../wire/ethernet.js';
import {
  checkVnetHeader,
  OFFLOAD_CSUM,
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VNET_HDR_LEN,
} from '../../wire/vnet-header.js';
import { MAX_FRAME_LEN, type VnetHdrLen } from '../net-backend.js';
import { RX_VNET_DROPS, T } from './counters.js';
import { BATCH, type ReadBuffers, type TapReader } from './io.js';

/** one byte more than the longest frame: one that fills it was longer */
const READ_BYTES = VNET_HDR_LEN + MAX_FRAME_LEN + 1;
/** an odd number of cache lines, so that the beginnings of the buffers spread over the cache */
const SLOT_BYTES = 64 * 1057;

export class TapReceiver {
  reader: TapReader;
  hdrLen: VnetHdrLen = 0;
  kernelHdrLen: VnetHdrLen = 0;
  /** OFFLOAD_* that our user takes unfinished */
  offloads = 0;

  readonly #pool: WindowPool;
  readonly #values: Float64Array;
  readonly #slots: ReadSlots;
  // frames that wait, oldest first: the buffer, and its length with the kernel's header
  readonly #slot = new Uint8Array(BATCH);
  readonly #len = new Int32Array(BATCH);
  #head = 0;
  #count = 0;
  // the frame in hand as a list of one piece
  readonly #srcWin = new Uint8Array(1);
  readonly #srcOff = new Uint32Array(1);
  readonly #srcLen = new Uint32Array(1);

  constructor(pool: WindowPool, values: Float64Array, reader: TapReader, slots: ReadSlots) {
    this.#pool = pool;
    this.#values = values;
    this.reader = reader;
    this.#slots = slots;
    this.#srcWin[0] = slots.mapping.window.index;
  }

  /** frames that wait */
  get count(): number {
    return this.#count;
  }

  /** Reads what the kernel has, as far as there is room. Returns the frames that came. */
  fill(): number {
    const { reader } = this;
    const n = reader.read();
    for (let i = 0; i < n; i++) {
      const slot = reader.buffer[i]!;
      const got = reader.got[i]!;
      if (!this.#accept(slot, got)) {
        reader.recycle(slot);
        continue;
      }
      const at = (this.#head + this.#count++) & (BATCH - 1);
      this.#slot[at] = slot;
      this.#len[at] = got;
    }
    this.#values[T.rx_read_errors] = reader.errors;
    return n;
  }

  /** Checks the frame of `got` bytes in a buffer. False when it is dropped. */
  #accept(slot: number, got: number): boolean {
    const { kernelHdrLen } = this;
    const values = this.#values;
    const len = got - kernelHdrLen;
    if (len < ETH_HDR_LEN || len > MAX_FRAME_LEN) {
      values[len < ETH_HDR_LEN ? T.rx_drop_runt : T.rx_drop_too_long]!++;
      return false;
    }
    if (kernelHdrLen === 0) return true;
    const { window, off } = this.#slots.mapping;
    const { u8 } = window;
    const at = off + slot * SLOT_BYTES;
    const flags = u8[at]!;
    if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0 || u8[at + 1] !== 0) {
      const verdict = checkVnetHeader(u8, at, len, this.offloads);
      if (verdict !== 0) {
        values[RX_VNET_DROPS + verdict]!++;
        return false;
      }
    } else for (let i = 2; i < 10; i++) u8[at + i] = 0;
    // DATA_VALID is for those who negotiated GUEST_CSUM (VirtIO 1.2 §5.1.6.4.1)
    const allowed =
      (this.offloads & OFFLOAD_CSUM) === 0 ? 0 : VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID;
    u8[at] = flags & allowed;
    // the kernel leaves num_buffers as it was
    if (kernelHdrLen === 12) {
      u8[at + 10] = 0;
      u8[at + 11] = 0;
    }
    return true;
  }

  /** Length of the next frame with our user's header; 0 when there is none. */
  peekLen(): number {
    return this.#count === 0 ? 0 : this.#len[this.#head]! - this.kernelHdrLen + this.hdrLen;
  }

  recv(iov: Iovec): number {
    const len = this.peekLen();
    if (len === 0) return 0;
    if (iov.total < len) {
      this.#values[T.rx_no_space]!++;
      this.#shift();
      return -E.ENOSPC;
    }
    const off = this.#frameOff();
    if (iov.len[0]! >= len && iov.win[0] === this.#srcWin[0])
      this.#slots.mapping.window.kernel.copy(iov.off[0]!, off, len);
    else {
      this.#srcOff[0] = off;
      this.#srcLen[0] = len;
      copyPieces(this.#pool, this.#srcWin, this.#srcOff, this.#srcLen, 0, len, iov, 0);
    }
    this.#shift();
    return len;
  }

  /** Takes frames, one into each of the first `count` buffers of the burst. Stops at one that does not fit. */
  recvBurst(burst: Burst, count: number): number {
    const { window } = this.#slots.mapping;
    if (burst.window !== window) return 0;
    const { kernel } = window;
    let n = 0;
    for (; n < count && this.#count > 0; n++) {
      const len = this.peekLen();
      if (burst.bufferLen(n) < len) break;
      kernel.copy(burst.bufferOff(n), this.#frameOff(), len);
      burst.setDone(n, len);
      this.#shift();
    }
    return n;
  }

  discard(): number {
    const len = this.peekLen();
    if (len > 0) {
      this.#values[T.rx_discarded]!++;
      this.#shift();
    }
    return len;
  }

  /** Drops what was read: its headers are of another length, or its interface is gone. */
  forget(): void {
    while (this.#count > 0) this.discard();
  }

  /** Offset of the next frame, with our user's header: which is as long as the kernel's, or none. */
  #frameOff(): number {
    return this.#slots.mapping.off + this.#slot[this.#head]! * SLOT_BYTES + this.kernelHdrLen - this.hdrLen;
  }

  #shift(): void {
    this.reader.recycle(this.#slot[this.#head]!);
    this.#head = (this.#head + 1) & (BATCH - 1);
    this.#count--;
  }
}

/** The buffers that frames are read into; they outlive an interface that is deleted and made again. */
export class ReadSlots implements ReadBuffers {
  readonly mapping: Mapping;
  readonly stride = SLOT_BYTES;
  readonly length = READ_BYTES;

  constructor(pool: WindowPool) {
    this.mapping = pool.mapAnonymous(BATCH * SLOT_BYTES);
  }

  get addr(): number {
    return this.mapping.addr;
  }

  close(): void {
    this.mapping.close();
  }
}
