/**
 * Cuts a stream of pcapng bytes into whole blocks, so that a file never ends in the middle of one.
 * A block is type and total length (32 bits each, little-endian as netbe writes them), a body, and the
 * length again (draft-ietf-opsawg-pcapng §3.1).
 */
import { NetbeError } from '../errors.js';

/** Enhanced Packet Block (§4.3) */
const PACKET_BLOCK = 6;

/** A frame of 64 KiB and its headers, with room: what is longer did not come from a fabric. */
const MAX_BLOCK_LEN = 1024 * 1024;

export interface Blocks {
  /** whole blocks */
  bytes: Uint8Array;
  packets: number;
}

export class PcapngBlocks {
  #rest: Uint8Array<ArrayBufferLike> = new Uint8Array(0);

  /** Whole blocks of what came so far and was not given yet, up to and including `maxPackets` packets. */
  push(chunk: Uint8Array, maxPackets = Number.POSITIVE_INFINITY): Blocks {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    let packets = 0;
    while (at + 8 <= bytes.length && packets < maxPackets) {
      const length = view.getUint32(at + 4, true);
      if (length < 12 || length % 4 !== 0 || length > MAX_BLOCK_LEN)
        throw new NetbeError(`not pcapng: a block of ${length} bytes`, { code: 'EPROTO' });
      if (at + length > bytes.length) break;
      if (view.getUint32(at, true) === PACKET_BLOCK) packets++;
      at += length;
    }
    this.#rest = bytes.subarray(at);
    return { bytes: bytes.subarray(0, at), packets };
  }
}
