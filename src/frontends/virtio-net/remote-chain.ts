/**
 * What a descriptor chain refers to, found before it is served: its buffers are fetched when it is to be read, and stored
 * when it was written.
 */
import type { AddressMap, Place } from '../../memory/address-map.js';
import type { DmaBatch, RemoteMemory } from '../../memory/remote-memory.js';
import type { Mapping } from '../../memory/window.js';
import { MAX_SEGMENTS } from './receiver.js';
import {
  DESC_BYTES,
  MAX_CHAIN_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from './virtqueue.js';

/** §2.7: most descriptors of a table */
const MAX_TABLE = 32768;

export class RemoteChain {
  /** its buffers, without empty ones */
  readonly gpas: number[] = [];
  readonly lens: number[] = [];
  /** of all buffers */
  bytes = 0;
  /** the indirect table that it goes on with; no bytes: none */
  tableGpa = 0;
  tableLen = 0;

  /** what was fetched of it, each beginning in a mapping of its own */
  readonly #fetched: { gpa: number; mapping: Mapping | undefined }[] = [];
  /** something was not found in guest memory */
  #lost = false;

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
    this.#refuse();
  }

  #add(gpa: number, len: number): boolean {
    if (len === 0) return true;
    if (this.bytes + len > MAX_CHAIN_BYTES || this.gpas.length === MAX_SEGMENTS) return false;
    this.gpas.push(gpa);
    this.lens.push(len);
    this.bytes += len;
    return true;
  }

  /** Adds the table to `batch`. One that Virtqueue will refuse is not asked for. */
  fetchTable(batch: DmaBatch, memory: RemoteMemory): void {
    const { tableGpa, tableLen } = this;
    if (tableLen % DESC_BYTES !== 0 || tableLen > MAX_TABLE * DESC_BYTES) this.#refuse();
    else {
      const place: Place = { win: 0, off: 0 };
      this.#lost = !memory.map.locate(tableGpa, tableLen, place);
      if (this.#lost || place.off % 4 !== 0 || !this.#fetch(batch, memory, tableGpa, tableLen)) this.#refuse();
    }
  }

  /** Adds all buffers to `batch`, or those before the first that is not found: Virtqueue will not find it, either. */
  fetchBuffers(batch: DmaBatch, memory: RemoteMemory): void {
    this.gpas.every((gpa, i) => this.#fetch(batch, memory, gpa, this.lens[i]!));
  }

  #fetch(batch: DmaBatch, memory: RemoteMemory, gpa: number, len: number): boolean {
    this.#lost = !memory.fetch(batch, gpa, len);
    if (this.#lost) return false;
    const place: Place = { win: 0, off: 0 };
    for (let at = gpa; at < gpa + len; at += memory.map.run(at, gpa + len - at, place))
      this.#fetched.push({ gpa: at, mapping: memory.map.mappingAt(at) });
    return true;
  }

  /** Whether memory is still as it was when it was fetched: what lies there is what came. */
  isCurrent(map: AddressMap): boolean {
    return !this.#lost && this.#fetched.every(({ gpa, mapping }) => map.mappingAt(gpa) === mapping);
  }

  /** It has nothing that is worth a transfer. */
  #refuse(): void {
    this.gpas.length = 0;
    this.lens.length = 0;
    this.bytes = 0;
    this.tableLen = 0;
  }
}
