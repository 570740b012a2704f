/**
 * From a guest to the host: frames are noted until flush(), then written in one batch, out of the
 * guest's memory where they lie.
 *
 * Only the virtio-net header is copied first. It is read once, checked, and the kernel sees our copy:
 * what was checked is what is used, whatever the guest does to its buffer meanwhile. A short
 * frame is copied behind it: one piece costs the kernel less than two.
 */

import type { Burst } from '../../memory/burst.js';
import { copyPieces } from '../../memory/copy.js';
import { Iovec, iovecRead, iovecSkip } from '../../memory/iovec.js';
import type { Mapping, Window, WindowPool } from '../../memory/window.js';
import { UIO_MAXIOV } from '../../sys/iovec-io.js';
import { EBADFD } from '../../sys/libc.js';
import { NativeBuffer } from '../../sys/native-buffer.js';
import { ETH_HDR_LEN } from '../../wire/ethernet.js';
import { checkVnetHeader, forwardedHeaderWord, VNET_HDR_LEN } from '../../wire/vnet-header.js';
import { MAX_FRAME_LEN, type VnetHdrLen } from '../net-backend.js';
import { T, TX_VNET_DROPS, writeErrorCounter } from './counters.js';
import { BATCH, type TapWriter, type WriteBatch } from './io.js';

/** Frames up to this length are copied behind their header. */
const COPY_BYTES = 256;
/** A header, padded to 16 bytes, and a short frame; an odd number of cache lines, to spread over the cache. */
const SLOT_BYTES = 320;
const HDR_ROOM = 16;
const IOVECS = 4096;

export class TapTransmitter {
  writer: TapWriter;
  /** header length of our user's frames */
  hdrLen: VnetHdrLen = 0;
  /** header length of the kernel's frames */
  kernelHdrLen: VnetHdrLen = 0;
  /** OFFLOAD_* that our user may ask for */
  offloads = 0;
  /** a write found the interface deleted; whoever sees it clears it */
  gone = false;

  readonly #pool: WindowPool;
  readonly #values: Float64Array;
  readonly #slots: Mapping;
  readonly #window: Window;
  readonly #batch: WriteBatch;
  #iovecCount = 0;
  /** where a frame of more pieces than the kernel takes is put together */
  #bounce: Mapping | undefined;
  readonly #header = new Uint8Array(VNET_HDR_LEN);
  readonly #words = new Int32Array(this.#header.buffer);
  readonly #slot = new Iovec(1);
  readonly #body = new Iovec(UIO_MAXIOV + 1);

  constructor(pool: WindowPool, values: Float64Array, writer: TapWriter) {
    this.#pool = pool;
    this.#values = values;
    this.writer = writer;
    this.#slots = pool.mapAnonymous(BATCH * SLOT_BYTES);
    this.#window = this.#slots.window;
    this.#batch = {
      iovecs: new NativeBuffer(IOVECS * 16),
      first: new Uint16Array(BATCH),
      pieces: new Uint16Array(BATCH),
      count: 0,
    };
  }

  /** Notes a frame for flush(). Always takes it: what cannot be sent is dropped and counted. */
  send(iov: Iovec): number {
    const { hdrLen } = this;
    const values = this.#values;
    const len = iov.total - hdrLen;
    if (len < ETH_HDR_LEN || len > MAX_FRAME_LEN) {
      values[len < ETH_HDR_LEN ? T.tx_drop_runt : T.tx_drop_too_long]!++;
      return iov.total;
    }
    const off = iov.off[0]!;
    const window = this.#pool.windows[iov.win[0]!]!;
    if (iov.count === 1 && (hdrLen === 0 || ((window.u8[off]! & 1) === 0 && window.u8[off + 1] === 0))) {
      this.#sendComplete(window, off + hdrLen, len);
      return iov.total;
    }
    if (iov.count >= UIO_MAXIOV) return this.#sendPutTogether(iov);
    if (this.#batch.count === BATCH || this.#iovecCount + iov.count >= IOVECS) this.flush();
    const words = this.#words;
    words.fill(0);
    if (hdrLen !== 0) {
      iovecRead(this.#pool, iov, hdrLen, this.#header);
      if ((words[0]! & 0xff01) === 0) words.fill(0);
      else {
        const verdict = checkVnetHeader(this.#header, 0, len, this.offloads);
        if (verdict !== 0) {
          values[TX_VNET_DROPS + verdict]!++;
          return iov.total;
        }
        words[0] = forwardedHeaderWord(words[0]!);
        words[2]! &= 0xffff;
      }
    }
    this.#writeHeader(words[0]!, words[1]!, words[2]!);
    if (len <= COPY_BYTES) this.#copyBody(iov, len);
    else this.#pointToBody(iov);
    return iov.total;
  }

  /** Notes frames of a burst that ask for no offload. Returns how many: the next one is for send(). */
  sendBurst(burst: Burst, from: number, count: number): number {
    const { hdrLen } = this;
    const { window } = burst;
    const { u8 } = window;
    let k = from;
    for (; k < count; k++) {
      const off = burst.bufferOff(k);
      const len = burst.bufferLen(k) - hdrLen;
      if (len < ETH_HDR_LEN || len > MAX_FRAME_LEN) break;
      if (hdrLen !== 0 && ((u8[off]! & 1) !== 0 || u8[off + 1] !== 0)) break;
      this.#sendComplete(window, off + hdrLen, len);
      burst.setDone(k, 0);
    }
    return k - from;
  }

  /** Notes a frame that asks for no offload and lies in one piece. */
  #sendComplete(window: Window, off: number, len: number): void {
    if (this.#batch.count === BATCH || this.#iovecCount + 2 > IOVECS) this.flush();
    this.#writeHeader(0, 0, 0);
    if (len <= COPY_BYTES && window === this.#window) {
      const at = this.#bodyOff();
      window.kernel.copy(at, off, len);
      this.#onePiece(at - this.kernelHdrLen, this.kernelHdrLen + len);
      return;
    }
    const first = this.#iovecCount;
    this.#pushHeader();
    this.#piece(window, off, len);
    this.#note(first);
  }

  /** Writes what was noted. Afterwards nothing refers to the sender's memory. */
  flush(): void {
    const batch = this.#batch;
    const { count } = batch;
    if (count === 0) return;
    this.writer.write(batch);
    const { result } = this.writer;
    for (let i = 0; i < count; i++) {
      const n = result[i]!;
      if (n >= 0) continue;
      this.#values[writeErrorCounter(-n)]!++;
      if (n === -EBADFD) this.gone = true;
    }
    batch.count = 0;
    this.#iovecCount = 0;
  }

  /** Drops what was noted. */
  forget(): void {
    this.#values[T.tx_drop_gone]! += this.#batch.count;
    this.#batch.count = 0;
    this.#iovecCount = 0;
  }

  close(): void {
    this.#slots.close();
    this.#bounce?.close();
  }

  // ---- one frame: its header in the slot of its place in the batch, then its bytes ----

  #slotOff(): number {
    return this.#slots.off + this.#batch.count * SLOT_BYTES;
  }

  /** Where a copied frame begins: its header ends there, whatever its length. */
  #bodyOff(): number {
    return this.#slotOff() + HDR_ROOM;
  }

  #writeHeader(word0: number, word1: number, word2: number): void {
    const { kernelHdrLen } = this;
    if (kernelHdrLen === 0) return;
    const at = this.#bodyOff() - kernelHdrLen;
    const { u16 } = this.#window;
    const h = at >>> 1;
    u16[h] = word0;
    u16[h + 1] = word0 >>> 16;
    u16[h + 2] = word1;
    u16[h + 3] = word1 >>> 16;
    u16[h + 4] = word2;
    if (kernelHdrLen === 12) u16[h + 5] = 0;
  }

  #copyBody(iov: Iovec, len: number): void {
    const at = this.#bodyOff();
    const slot = this.#slot;
    slot.clear();
    slot.push(this.#window.index, at, len);
    iovecSkip(iov, this.hdrLen, this.#body);
    const { win, off, len: pieceLen } = this.#body;
    copyPieces(this.#pool, win, off, pieceLen, 0, len, slot, 0);
    this.#onePiece(at - this.kernelHdrLen, this.kernelHdrLen + len);
  }

  #pointToBody(iov: Iovec): void {
    const first = this.#iovecCount;
    const { windows } = this.#pool;
    this.#pushHeader();
    let skip: number = this.hdrLen;
    for (let i = 0; i < iov.count; i++) {
      const len = iov.len[i]!;
      if (skip >= len) skip -= len;
      else {
        this.#piece(windows[iov.win[i]!]!, iov.off[i]! + skip, len - skip);
        skip = 0;
      }
    }
    this.#note(first);
  }

  #pushHeader(): void {
    const { kernelHdrLen } = this;
    if (kernelHdrLen !== 0) this.#piece(this.#window, this.#bodyOff() - kernelHdrLen, kernelHdrLen);
  }

  #onePiece(off: number, len: number): void {
    const first = this.#iovecCount;
    this.#piece(this.#window, off, len);
    this.#note(first);
  }

  #piece(window: Window, off: number, len: number): void {
    const { u32 } = this.#batch.iovecs;
    const w = this.#iovecCount++ * 4;
    const addr = window.addr + off;
    u32[w] = addr;
    u32[w + 1] = addr / 2 ** 32;
    u32[w + 2] = len;
    u32[w + 3] = 0;
  }

  #note(first: number): void {
    const batch = this.#batch;
    batch.first[batch.count] = first;
    batch.pieces[batch.count++] = this.#iovecCount - first;
  }

  /** A frame in more pieces than one call takes: copied together, and sent at once. */
  #sendPutTogether(iov: Iovec): number {
    this.flush();
    this.#bounce ??= this.#pool.mapAnonymous(MAX_FRAME_LEN + VNET_HDR_LEN);
    const { window, off } = this.#bounce;
    const whole = new Iovec(1);
    whole.push(window.index, off, iov.total);
    copyPieces(this.#pool, iov.win, iov.off, iov.len, 0, iov.total, whole, 0);
    const sent = this.send(whole);
    this.flush();
    return sent;
  }
}
