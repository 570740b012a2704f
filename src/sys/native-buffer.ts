/**
 * Memory for the structures that system calls read and fill.
 *
 * Always reach the address through the object (`buffer.addr`), never keep the address alone: memory that
 * only a number points to is garbage to the collector. Small typed arrays made in one step are no
 * alternative either: they may live in the heap that the collector moves.
 */
import { addressOf } from './mman.js';

export class NativeBuffer {
  readonly u8: Uint8Array<ArrayBuffer>;
  readonly i32: Int32Array<ArrayBuffer>;
  readonly u32: Uint32Array<ArrayBuffer>;
  /** native address of the first byte */
  readonly addr: number;

  /** Zeroed; `byteLength` is rounded up to a multiple of 8. */
  constructor(byteLength: number) {
    const buffer = new ArrayBuffer(Math.ceil(byteLength / 8) * 8);
    this.u8 = new Uint8Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.addr = addressOf(this.u8);
  }

  /** Stores a 64-bit number at a byte offset that is a multiple of 4 (little-endian, as both ABIs are). */
  setU64(off: number, value: number): void {
    this.u32[off / 4] = value;
    this.u32[off / 4 + 1] = value / 2 ** 32;
  }

  getU64(off: number): number {
    return (this.u32[off / 4] as number) + (this.u32[off / 4 + 1] as number) * 2 ** 32;
  }
}
