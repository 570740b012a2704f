/**
 * What a descriptor chain refers to, found before it is served: its buffers are fetched when it is to be read, and stored
 * when it was written.
 */
import { MAX_SEGMENTS } from './receiver.js';
import { MAX_CHAIN_BYTES, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from './virtqueue.js';

export class RemoteChain {
  /** its buffers, without empty ones */
  readonly gpas: number[] = [];
  readonly lens: number[] = [];
  /** of all buffers */
  bytes = 0;
  /** the indirect table that it goes on with; no bytes: none */
  tableGpa = 0;
  tableLen = 0;

  constructor(readonly head: number) {}

  /**
   * Adds the buffers of a chain in a table of `size` descriptors that begins with `first`. One that Virtqueue will refuse
   * has none: whatever is refused here is refused there, by the same rules.
   */
  walk(table: Uint32Array, base32: number, size: number, first: number, direction: number, mayIndirect: boolean): void {
    for (let i = first, steps = 0; i < size && steps < size; steps++) {
      const at = base32 + 4 * i;
      const gpa = table[at]! + table[at + 1]! * 2 ** 32;
      const len = table[at + 2]!;
      const flagsNext = table[at + 3]!;
      if ((flagsNext & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (!mayIndirect || (flagsNext & VIRTQ_DESC_F_NEXT) !== 0) break;
        this.tableGpa = gpa;
        this.tableLen = len;
        return;
      }
      if ((flagsNext & VIRTQ_DESC_F_WRITE) !== direction || !this.#add(gpa, len)) break;
      if ((flagsNext & VIRTQ_DESC_F_NEXT) === 0) return;
      i = flagsNext >>> 16;
    }
    this.refuse();
  }

  #add(gpa: number, len: number): boolean {
    if (len === 0) return true;
    if (this.bytes + len > MAX_CHAIN_BYTES || this.gpas.length === MAX_SEGMENTS) return false;
    this.gpas.push(gpa);
    this.lens.push(len);
    this.bytes += len;
    return true;
  }

  /** It has nothing that is worth a transfer. */
  refuse(): void {
    this.gpas.length = 0;
    this.lens.length = 0;
    this.bytes = 0;
    this.tableLen = 0;
  }
}
