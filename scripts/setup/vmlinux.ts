/**
 * Takes the kernel's ELF image out of a bzImage (Linux x86 boot protocol 2.08+): QEMU enters it through
 * PVH at once, without seconds of self-extraction under emulation. Debian's cloud kernels are packed
 * with LZ4 in its legacy frame format: a magic, then blocks, each preceded by its packed size.
 */
import { NetbeError } from '../../src/errors.js';

const SETUP_SECTS = 0x1f1;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const LZ4_LEGACY_MAGIC = 0x184c2102;
const LZ4_LEGACY_BLOCK = 8 << 20;

export function unpackKernel(bzImage: Buffer): Buffer {
  if (bzImage.toString('latin1', 0x202, 0x206) !== 'HdrS') throw broken('no boot protocol header');
  const start = (bzImage.readUInt8(SETUP_SECTS) + 1) * 512 + bzImage.readUInt32LE(PAYLOAD_OFFSET);
  const end = start + bzImage.readUInt32LE(PAYLOAD_LENGTH) - 4;
  // the unpacked size follows the payload
  const image = Buffer.alloc(bzImage.readUInt32LE(end));
  const magic = bzImage.readUInt32LE(start);
  if (magic !== LZ4_LEGACY_MAGIC) throw broken(`payload magic ${magic.toString(16)} is not that of LZ4`);

  let outOff = 0;
  for (let at = start + 4; at + 4 <= end; ) {
    const blockLen = bzImage.readUInt32LE(at);
    at += 4;
    outOff += unpackLz4Block(bzImage.subarray(at, at + blockLen), image, outOff);
    at += blockLen;
  }
  if (outOff !== image.length || image.toString('latin1', 1, 4) !== 'ELF') throw broken(`unpacked to ${outOff} bytes`);
  return image;
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
