/**
 * The MSI-X table and pending bits of a function, in a BAR (PCI 3.0 §6.8.2). A hypervisor keeps its own
 * table, in which it sees the driver mask vectors, and delivers the messages: here is what a driver reads
 * back that reaches this one. No bit is ever pending: the transport keeps what cannot be delivered yet.
 */
import type { AccessSize } from './pci-function.js';

const ENTRY_BYTES = 16;
const ENTRY_CONTROL = 12;
const MASKED = 1;
const PBA_BYTES = 8;

export class MsixTable {
  readonly #table: DataView;
  readonly #pbaOff: number;

  constructor(vectors: number, pbaOff: number) {
    this.#table = new DataView(new ArrayBuffer(vectors * ENTRY_BYTES));
    this.#pbaOff = pbaOff;
    this.reset();
  }

  /** -1: there is nothing. */
  read(off: number, size: AccessSize): number {
    if (off + size <= this.#table.byteLength) return readView(this.#table, off, size);
    return off >= this.#pbaOff && off + size <= this.#pbaOff + PBA_BYTES ? 0 : -1;
  }

  /** False: there is nothing that could be written. */
  write(off: number, size: AccessSize, value: number): boolean {
    const table = this.#table;
    if (off + size > table.byteLength) return false;
    if (size === 4) table.setUint32(off, value, true);
    else if (size === 2) table.setUint16(off, value, true);
    else table.setUint8(off, value);
    return true;
  }

  /** §6.8.2.9: all vectors are masked. */
  reset(): void {
    const table = this.#table;
    for (let off = 0; off < table.byteLength; off += 4)
      table.setUint32(off, off % ENTRY_BYTES === ENTRY_CONTROL ? MASKED : 0, true);
  }
}

/** A little-endian field. */
export function readView(view: DataView, off: number, size: AccessSize): number {
  return size === 4 ? view.getUint32(off, true) : size === 2 ? view.getUint16(off, true) : view.getUint8(off);
}
