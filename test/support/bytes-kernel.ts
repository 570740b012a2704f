/** A window's kernel for any array of bytes, in plain TypeScript. */
import { type FrameKernel, sum16 } from '../../src/wire/checksum.js';

export function bytesKernel(u8: Uint8Array): FrameKernel {
  return {
    copy: (dst, src, len) => void u8.copyWithin(dst, src, src + len),
    sum16: (off, len) => sum16(u8, off, len),
  };
}
