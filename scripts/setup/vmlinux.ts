/**
 * Takes the kernel's ELF image out of a bzImage (Linux x86 boot protocol 2.08+): QEMU enters it through
 * PVH at once, without seconds of self-extraction under emulation. Debian packs its kernels with XZ, the
 * cloud kernels with LZ4 in its legacy frame format: a magic, then blocks, each preceded by its packed size.
 */
import { gunzipSync } from 'node:zlib';
import { NetbeError } from '../../src/errors.js';

const SETUP_SECTS = 0x1f1;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const LZ4_LEGACY_MAGIC = 0x184c2102;
const GZIP_MAGIC = 0x8b1f;
const XZ_MAGIC = Buffer.from('\xfd7zXZ\0', 'latin1');
const LZ4_LEGACY_BLOCK = 8 << 20;

/** Unpacks XZ (the kernel's `unxz`, https://tukaani.org/xz/xz-file-format.txt): the whole stream in, its contents out. */
export type Unxz = (packed: Buffer) => Buffer;

export function unpackKernel(bzImage: Buffer, unxz: Unxz): Buffer {
  if (bzImage.toString('latin1', 0x202, 0x206) !== 'HdrS') throw broken('no boot protocol header');
  const start = (bzImage.readUInt8(SETUP_SECTS) + 1) * 512 + bzImage.readUInt32LE(PAYLOAD_OFFSET);
  const end = start + bzImage.readUInt32LE(PAYLOAD_LENGTH) - 4;
  // the unpacked size follows the payload
  const length = bzImage.readUInt32LE(end);
  const image = unpackPayload(bzImage.subarray(start, end), length, unxz);
  if (image.length !== length || image.toString('latin1', 1, 4) !== 'ELF')
    throw broken(`unpacked to ${image.length} bytes`);
  return image;
}

function unpackPayload(payload: Buffer, length: number, unxz: Unxz): Buffer {
  if (payload.readUInt32LE(0) === LZ4_LEGACY_MAGIC) return unpackLz4(payload, length);
  if (payload.readUInt16LE(0) === GZIP_MAGIC) return gunzipSync(payload);
  if (payload.subarray(0, XZ_MAGIC.length).equals(XZ_MAGIC)) return unxz(payload);
  throw broken(`payload magic ${payload.toString('hex', 0, 6)} is not that of LZ4, gzip or XZ`);
}

function unpackLz4(payload: Buffer, length: number): Buffer {
  const image = Buffer.alloc(length);
  let outOff = 0;
  for (let at = 4; at + 4 <= payload.length; ) {
    const blockLen = payload.readUInt32LE(at);
    at += 4;
    outOff += unpackLz4Block(payload.subarray(at, at + blockLen), image, outOff);
    at += blockLen;
  }
  return image.subarray(0, outOff);
}

/** One LZ4 block (LZ4 block format 1.6): literals and matches in turn, ending with literals. Returns the bytes written. */
export function unpackLz4Block(block: Buffer, out: Buffer, outOff: number): number {
  let at = 0;
  let to = outOff;
  const limit = Math.min(out.length, outOff + LZ4_LEGACY_BLOCK);
  const length = (nibble: number): number => {
    if (nibble < 15) return nibble;
    let sum = nibble;
    for (let byte = 255; byte === 255; sum += byte) byte = block[at++] ?? 0;
    return sum;
  };
  while (at < block.length) {
    const token = block[at++]!;
    const literals = length(token >> 4);
    if (at + literals > block.length || to + literals > limit) throw broken('a literal run leaves its block');
    block.copy(out, to, at, at + literals);
    at += literals;
    to += literals;
    if (at >= block.length) break;

    const distance = block[at]! | (block[at + 1]! << 8);
    at += 2;
    const match = length(token & 15) + 4;
    if (distance === 0 || distance > to - outOff || to + match > limit) throw broken('a match leaves its block');
    if (distance >= match) out.copyWithin(to, to - distance, to - distance + match);
    else for (let i = 0; i < match; i++) out[to + i] = out[to + i - distance]!;
    to += match;
  }
  return to - outOff;
}

function broken(what: string): NetbeError {
  return new NetbeError(`the kernel image cannot be unpacked: ${what}`, { code: 'EINVAL' });
}
