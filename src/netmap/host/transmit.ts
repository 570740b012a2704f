/** What lies between a user and a port's transmit ring: offloads that the port cannot do are done here. */
import { copyPieces } from '../../memory/copy.js';
import { Iovec, iovecRead, iovecSkip } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import { E } from '../../sys/libc.js';
import { completeChecksum } from '../../wire/checksum.js';
import { ETH_HDR_LEN, MAX_FRAME_LEN, VLAN_TAG_LEN } from '../../wire/ethernet.js';
import { Segmenter } from '../../wire/segmentation.js';
import { checkVnetHeader, neededOffloads } from '../../wire/vnet-header.js';
import { H, SEGMENT_DROPS, VNET_DROPS } from './counters.js';
import type { HostPort } from './host-port.js';

/** a frame, linear, then one segment of it */
const SCRATCH_BYTES = 2 * (MAX_FRAME_LEN + 64);
const SEGMENT_OFF = MAX_FRAME_LEN + 64;

export class HostTransmitter {
  /** bytes of header before each frame: 0, 10 or 12 */
  vnetHdrLen = 0;
  /** OFFLOAD_* that the user may ask for */
  offloads = 0;
  mtu: number;
  readonly #port: HostPort;
  readonly #pool: WindowPool;
  readonly #values: Float64Array;
  readonly #scratch: Mapping;
  readonly #segmenter: Segmenter;
  readonly #header = new Uint8Array(12);
  readonly #headerWords = new Int32Array(this.#header.buffer);
  readonly #body = new Iovec(1024);
  readonly #linear = new Iovec(1);

  constructor(port: HostPort, pool: WindowPool, values: Float64Array, mtu: number) {
    this.#port = port;
    this.#pool = pool;
    this.#values = values;
    this.mtu = mtu;
    this.#scratch = pool.mapAnonymous(SCRATCH_BYTES);
    this.#segmenter = new Segmenter(this.#scratch.window.u8, this.#scratch.window.kernel);
  }

  /** As NetBackend.send. A frame that is dropped has been taken, but for one that the interface cannot carry. */
  send(iov: Iovec): number {
    const hdrLen = this.vnetHdrLen;
    const len = iov.total - hdrLen;
    const values = this.#values;
    if (len < ETH_HDR_LEN || len > MAX_FRAME_LEN) {
      values[len < ETH_HDR_LEN ? H.tx_drop_runt : H.tx_drop_too_long]!++;
      return -E.EMSGSIZE;
    }
    if (hdrLen === 0) return this.#pass(iov, 0, len, 0, 0, 0);
    iovecRead(this.#pool, iov, hdrLen, this.#header);
    const flags = this.#header[0]! & 1;
    const gsoType = this.#header[1]!;
    if (flags === 0 && gsoType === 0) return this.#pass(iov, hdrLen, len, 0, 0, 0);
    const verdict = checkVnetHeader(this.#header, 0, len, this.offloads);
    if (verdict !== 0) {
      values[VNET_DROPS + verdict]!++;
      return iov.total;
    }
    // of the flags only NEEDS_CSUM is a driver's to set
    this.#header[0] = flags;
    const words = this.#headerWords;
    const needs = neededOffloads(flags, gsoType);
    if ((needs & ~this.#port.txOffloads) === 0)
      return this.#pass(iov, hdrLen, len, words[0]!, words[1]!, words[2]! & 0xffff);
    return this.#complete(iov, hdrLen, len, gsoType);
  }

  close(): void {
    this.#scratch.close();
  }

  #pass(iov: Iovec, skip: number, len: number, hdr0: number, hdr1: number, hdr2: number): number {
    if (((hdr0 >>> 8) & 0xff) === 0 && len > this.mtu + ETH_HDR_LEN + VLAN_TAG_LEN) {
      this.#values[H.tx_drop_too_long]!++;
      return -E.EMSGSIZE;
    }
    const sent = this.#port.send(iov, skip, hdr0, hdr1, hdr2);
    if (sent > 0) return iov.total;
    if (sent < 0) this.#values[H.tx_drop_refused]!++;
    return sent;
  }

  /** On a copy of the frame: the guest may change its own while it is looked at. */
  #complete(iov: Iovec, skip: number, len: number, gsoType: number): number {
    const { window, off } = this.#scratch;
    iovecSkip(iov, skip, this.#body);
    this.#place(off, len);
    const { win, off: pieceOff, len: pieceLen } = this.#body;
    copyPieces(this.#pool, win, pieceOff, pieceLen, 0, len, this.#linear, 0);
    const csumStart = this.#headerWords[1]! >>> 16;
    const csumOffset = this.#headerWords[2]! & 0xffff;
    if (gsoType !== 0) return this.#segment(iov.total, len, gsoType, csumStart, csumOffset);
    completeChecksum(window.u8, window.kernel, off, len, csumStart, csumOffset);
    const sent = this.#pass(this.#linear, 0, len, 0, 0, 0);
    if (sent <= 0) return sent;
    this.#values[H.tx_checksums_completed]!++;
    return iov.total;
  }

  #segment(total: number, len: number, gsoType: number, csumStart: number, csumOffset: number): number {
    const { off } = this.#scratch;
    const segmenter = this.#segmenter;
    const values = this.#values;
    const gsoSize = this.#headerWords[1]! & 0xffff;
    const verdict = segmenter.begin(off, len, gsoType, gsoSize, csumStart, csumOffset);
    if (verdict !== 0) {
      values[SEGMENT_DROPS + verdict]!++;
      return total;
    }
    // all of them or none: a frame that is half sent cannot be offered again
    if (this.#port.txRoom(segmenter.maxLen, segmenter.count) < segmenter.count) {
      if (segmenter.count <= this.#port.txSlots) return 0;
      values[H.tx_drop_too_big_to_segment]!++;
      return total;
    }
    values[H.tx_frames_segmented]!++;
    for (;;) {
      const n = segmenter.next(off + SEGMENT_OFF, MAX_FRAME_LEN);
      if (n <= 0) return total;
      this.#place(off + SEGMENT_OFF, n);
      this.#pass(this.#linear, 0, n, 0, 0, 0);
    }
  }

  #place(off: number, len: number): void {
    this.#linear.clear();
    this.#linear.push(this.#scratch.window.index, off, len);
  }
}
