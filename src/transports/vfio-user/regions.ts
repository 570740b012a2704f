/**
 * REGION_READ and REGION_WRITE: from bytes of a region to accesses of registers.
 *
 * A register access has 1, 2 or 4 bytes. Longer ones are split into aligned accesses of 4 as far as
 * that goes, low addresses first, as a 32-bit bus does.
 */
import type { PciConfigSpace } from '../../frontends/pci/config-space.js';
import type { PciFunction } from '../../frontends/pci/pci-function.js';
import { VFIO_PCI_BAR5_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_NUM_REGIONS } from './messages.js';

export const CONFIG_REGION_BYTES = 256;

export class Regions {
  readonly #function: PciFunction;
  readonly #config: PciConfigSpace;
  /** bytes by region; 0: there is none */
  readonly #sizes: readonly number[];
  readonly #onConfigWrite: () => void;

  constructor(fn: PciFunction, onConfigWrite: () => void) {
    this.#function = fn;
    this.#config = fn.config;
    this.#onConfigWrite = onConfigWrite;
    this.#sizes = Array.from({ length: VFIO_PCI_NUM_REGIONS }, (_, i) =>
      i === VFIO_PCI_CONFIG_REGION_INDEX ? CONFIG_REGION_BYTES : (fn.bars[i]?.size ?? 0),
    );
  }

  /** Bytes of a region; 0 for one that is not there, and for numbers beyond all of them. */
  size(region: number): number {
    return this.#sizes[region] ?? 0;
  }

  /** Fills `out` from [off, off + out.length), which lies within the region. */
  read(region: number, off: number, out: DataView, at: number, count: number): void {
    if (region > VFIO_PCI_BAR5_REGION_INDEX) {
      this.#config.read(off, new Uint8Array(out.buffer, out.byteOffset + at, count));
      return;
    }
    const fn = this.#function;
    if (count === 4) {
      out.setUint32(at, fn.readBar(region, off, 4), true);
      return;
    }
    for (let done = 0; done < count; ) {
      const size = pieceOf(off + done, count - done);
      const value = fn.readBar(region, off + done, size);
      if (size === 4) out.setUint32(at + done, value, true);
      else if (size === 2) out.setUint16(at + done, value, true);
      else out.setUint8(at + done, value);
      done += size;
    }
  }

  write(region: number, off: number, data: DataView, at: number, count: number): void {
    if (region > VFIO_PCI_BAR5_REGION_INDEX) {
      this.#config.write(off, new Uint8Array(data.buffer, data.byteOffset + at, count));
      this.#onConfigWrite();
      return;
    }
    const fn = this.#function;
    if (count === 4) {
      fn.writeBar(region, off, 4, data.getUint32(at, true));
      return;
    }
    for (let done = 0; done < count; ) {
      const size = pieceOf(off + done, count - done);
      const from = at + done;
      const value =
        size === 4 ? data.getUint32(from, true) : size === 2 ? data.getUint16(from, true) : data.getUint8(from);
      fn.writeBar(region, off + done, size, value);
      done += size;
    }
  }
}

/** The largest aligned access at `off` of at most `left` bytes; one that is short and odd stays whole. */
function pieceOf(off: number, left: number): 1 | 2 | 4 {
  if (left === 2) return 2;
  if (left >= 4 && off % 4 === 0) return 4;
  return left >= 2 && off % 2 === 0 ? 2 : 1;
}
