/**
 * What lies between a port's receive ring and its user: frames that ask for more than the user takes are
 * completed here, and what the kernel did not say about them is found out.
 */
import { copyPieces } from '../../memory/copy.js';
import { Iovec } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import { completeChecksum } from '../../wire/checksum.js';
import { ETH_HDR_LEN, MAX_FRAME_LEN, VLAN_TAG_LEN } from '../../wire/ethernet.js';
import { PartialChecksum } from '../../wire/partial-checksum.js';
import { Segmenter } from '../../wire/segmentation.js';
import { checkVnetHeader, neededOffloads, OFFLOAD_ALL, OFFLOAD_CSUM } from '../../wire/vnet-header.js';
import { H } from './counters.js';
import { type HostPort, RxFrame } from './host-port.js';

const NEEDS_CSUM = 1;
/** the frame, linear, then one segment of it */
const SCRATCH_BYTES = 2 * (MAX_FRAME_LEN + 64);
const SEGMENT_OFF = MAX_FRAME_LEN + 64;

export class HostReceiver {
  /** OFFLOAD_* that the user takes undone */
  offloads = 0;
  /** IP bytes of a frame that is none of several in one */
  mtu: number;
  /** bytes of the frame in hand, without header; 0: none */
  len = 0;
  /** the frame in hand */
  readonly pieces: Iovec;
  hdr0 = 0;
  hdr1 = 0;
  hdr2 = 0;
  readonly #port: HostPort;
  readonly #pool: WindowPool;
  readonly #values: Float64Array;
  /** the kernel's own stack may have sent the frame here, with work left undone */
  readonly #looksInside: boolean;
  readonly #frame = new RxFrame();
  readonly #partial = new PartialChecksum();
  readonly #scratch: Mapping;
  readonly #segmenter: Segmenter;
  readonly #header = new Uint8Array(12);
  readonly #headerWords = new Int32Array(this.#header.buffer);
  readonly #linear = new Iovec(1);
  #segmenting = false;
  /** bytes that the checksum covers, from the frame's start: not its padding, where that is known */
  #csumEnd = 0;
  /** the port's frame is held until what was made of it is taken */
  #holds = false;

  constructor(port: HostPort, pool: WindowPool, values: Float64Array, looksInside: boolean, mtu: number) {
    this.#port = port;
    this.#pool = pool;
    this.#values = values;
    this.#looksInside = looksInside;
    this.mtu = mtu;
    this.pieces = this.#frame.pieces;
    this.#scratch = pool.mapAnonymous(SCRATCH_BYTES);
    this.#segmenter = new Segmenter(this.#scratch.window.u8, this.#scratch.window.kernel);
  }

  /** Brings the next frame to hand; false when there is none. */
  next(): boolean {
    if (this.len > 0) return true;
    if (this.#segmenting && this.#nextSegment()) return true;
    const frame = this.#frame;
    while (this.#port.fetch(frame)) {
      this.#holds = true;
      if (this.#take(frame)) return true;
      this.drop();
    }
    this.#port.releaseAll();
    return false;
  }

  /** The frame in hand has been taken, or is not wanted. */
  drop(): void {
    this.len = 0;
    if (this.#segmenting || !this.#holds) return;
    this.#holds = false;
    this.#port.release();
  }

  /** Forgets frames that are half handed over. */
  forget(): void {
    this.#segmenting = false;
    this.drop();
  }

  close(): void {
    this.#scratch.close();
  }

  /** False: drop it; counted. */
  #take(frame: RxFrame): boolean {
    const { total } = frame.pieces;
    if (total < ETH_HDR_LEN || total > MAX_FRAME_LEN) {
      this.#values[total < ETH_HDR_LEN ? H.rx_drop_runt : H.rx_drop_too_long]!++;
      return false;
    }
    this.#csumEnd = total;
    if (this.#looksInside && !this.#look(frame)) return false;
    this.hdr0 = frame.hdr0;
    this.hdr1 = frame.hdr1;
    this.hdr2 = frame.hdr2;
    this.len = total;
    const flags = frame.hdr0 & 0xff;
    const gsoType = (frame.hdr0 >>> 8) & 0xff;
    if ((flags & NEEDS_CSUM) === 0 && gsoType === 0) {
      // DATA_VALID is for who has asked for it
      if ((this.offloads & OFFLOAD_CSUM) === 0) this.hdr0 = 0;
      return true;
    }
    this.#headerWords[0] = frame.hdr0;
    this.#headerWords[1] = frame.hdr1;
    this.#headerWords[2] = frame.hdr2;
    if (checkVnetHeader(this.#header, 0, total, OFFLOAD_ALL) !== 0) {
      this.#values[H.rx_drop_vnet_header]!++;
      return false;
    }
    if ((neededOffloads(flags, gsoType) & ~this.offloads) === 0) return true;
    return gsoType === 0 ? this.#complete(frame) : this.#segment(frame, gsoType);
  }

  /** Finds out what AF_XDP does not tell. */
  #look(frame: RxFrame): boolean {
    const { pieces } = frame;
    const { total } = pieces;
    const partial = this.#partial;
    const { u8 } = this.#pool.windows[pieces.win[0]!]!;
    const isPartial = partial.find(u8, pieces.off[0]!, pieces.len[0]!, total);
    // with room for a tag that is in the frame, but not in the MTU
    const isLong = total > this.mtu + ETH_HDR_LEN + VLAN_TAG_LEN;
    if (!isPartial) {
      if (isLong) this.#values[H.rx_drop_too_long]!++;
      return !isLong;
    }
    this.#csumEnd = partial.end;
    frame.hdr0 = NEEDS_CSUM;
    frame.hdr1 = partial.csumStart << 16;
    frame.hdr2 = partial.csumOffset;
    if (!isLong) return true;
    const step = this.mtu - (partial.payloadOff - partial.l3Off);
    if (partial.gsoType === 0 || step <= 0) {
      // several datagrams in one: nobody says how long each is
      this.#values[H.rx_drop_too_long]!++;
      return false;
    }
    frame.hdr0 = NEEDS_CSUM | (partial.gsoType << 8) | (partial.payloadOff << 16);
    frame.hdr1 |= step;
    return true;
  }

  /** Computes the checksum; in the ring's memory where the frame lies there in one piece. */
  #complete(frame: RxFrame): boolean {
    const { pieces, hdr1, hdr2 } = frame;
    if (pieces.count > 1) this.#linearize(pieces);
    const { u8, kernel } = this.#pool.windows[pieces.win[0]!]!;
    completeChecksum(u8, kernel, pieces.off[0]!, this.#csumEnd, hdr1 >>> 16, hdr2 & 0xffff);
    this.hdr0 = 0;
    this.hdr1 = 0;
    this.hdr2 = 0;
    this.#values[H.rx_checksums_completed]!++;
    return true;
  }

  /** Makes the frame one piece, in the scratch memory. */
  #linearize(pieces: Iovec): void {
    const { window, off } = this.#scratch;
    const linear = this.#linear;
    const { total } = pieces;
    linear.clear();
    linear.push(window.index, off, total);
    copyPieces(this.#pool, pieces.win, pieces.off, pieces.len, 0, total, linear, 0);
    pieces.clear();
    pieces.push(window.index, off, total);
  }

  #segment(frame: RxFrame, gsoType: number): boolean {
    this.#linearize(frame.pieces);
    const { hdr1, hdr2 } = frame;
    const at = this.#scratch.off;
    const verdict = this.#segmenter.begin(at, this.len, gsoType, hdr1 & 0xffff, hdr1 >>> 16, hdr2 & 0xffff);
    if (verdict !== 0) {
      this.#values[H.rx_drop_gso]!++;
      return false;
    }
    this.#values[H.rx_frames_segmented]!++;
    // the ring's memory is not needed any more
    this.#holds = false;
    this.#port.release();
    this.#segmenting = true;
    return this.#nextSegment();
  }

  #nextSegment(): boolean {
    const at = this.#scratch.off + SEGMENT_OFF;
    const len = this.#segmenter.next(at, MAX_FRAME_LEN);
    if (len <= 0) {
      this.#segmenting = false;
      return false;
    }
    this.pieces.clear();
    this.pieces.push(this.#scratch.window.index, at, len);
    this.len = len;
    this.hdr0 = 0;
    this.hdr1 = 0;
    this.hdr2 = 0;
    return true;
  }
}
