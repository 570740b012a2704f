/**
 * The WebAssembly kernel of a window: see kernel.wat. Offsets and lengths are taken modulo 2^32; an
 * access outside the window would trap, so callers check bounds first, as they must anyway.
 */
import { kernelWasm } from './kernel-wasm.js';

export interface MemoryKernel {
  copy(dst: number, src: number, len: number): void;
  fill(dst: number, byte: number, len: number): void;
  /** ones' complement sum of little-endian 16-bit words (RFC 1071), folded to 16 bits, not complemented */
  sum16(off: number, len: number): number;
}

let compiled: WebAssembly.Module | undefined;

export function instantiateKernel(memory: WebAssembly.Memory): MemoryKernel {
  compiled ??= new WebAssembly.Module(Buffer.from(kernelWasm, 'base64'));
  return new WebAssembly.Instance(compiled, { window: { memory } }).exports as unknown as MemoryKernel;
}
