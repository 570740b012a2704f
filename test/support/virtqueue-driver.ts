/**
 * The driver's side of a split virtqueue (VirtIO 1.2 §2.7), over guest memory that is mapped in a
 * window: what a guest kernel does, for tests, benches and fuzzing. Nothing here trusts the device
 * to be right: `reclaim` checks what comes back.
 *
 * Addresses are guest-physical; `base` is the offset of guest-physical 0 in the window.
 */
import assert from 'node:assert/strict';
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../../src/frontends/virtio-net/virtqueue.js';
import type { Window } from '../../src/memory/window.js';

export interface Buffer {
  gpa: number;
  len: number;
  /** the device writes it */
  writable?: boolean;
}

export interface DriverOptions {
  size: number;
  /** where the rings go; 16-byte aligned; see ringBytes */
  gpa: number;
  eventIdx?: boolean;
  /** of the used ring; 4096 for the legacy interface (§2.7.2) */
  usedAlign?: number;
}

/** Bytes that the three parts of a queue take one behind the other. */
export function ringBytes(size: number): number {
  return 16 * size + align(6 + 2 * size, 4) + align(6 + 8 * size, 16);
}

export class VirtqueueDriver {
  readonly size: number;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly eventIdx: boolean;
  /** next index to publish in the available ring */
  availIdx = 0;
  /** next entry of the used ring to reclaim */
  usedIdx = 0;
  readonly #u8: Uint8Array;
  readonly #view: DataView;
  readonly #base: number;
  readonly #free: number[] = [];
  /** descriptors of each head in flight */
  readonly #chains = new Map<number, number[]>();

  constructor(window: Window, base: number, options: DriverOptions) {
    const { size, gpa, eventIdx = false, usedAlign = 4 } = options;
    this.size = size;
    this.eventIdx = eventIdx;
    this.desc = gpa;
    this.avail = gpa + 16 * size;
    this.used = align(this.avail + 6 + 2 * size, usedAlign);
    this.#u8 = window.u8;
    this.#view = new DataView(window.u8.buffer);
    this.#base = base;
    for (let i = size - 1; i >= 0; i--) this.#free.push(i);
    this.#u8.fill(0, base + gpa, base + this.used + 6 + 8 * size);
  }

  get freeDescriptors(): number {
    return this.#free.length;
  }

  write16(gpa: number, value: number): void {
    this.#view.setUint16(this.#base + gpa, value, true);
  }

  read16(gpa: number): number {
    return this.#view.getUint16(this.#base + gpa, true);
  }

  /** Writes descriptor `i` of a table at `table`. */
  writeDescriptor(table: number, i: number, gpa: number, len: number, flags: number, next: number): void {
    const at = this.#base + table + 16 * i;
    this.#view.setBigUint64(at, BigInt(gpa), true);
    this.#view.setUint32(at + 8, len, true);
    this.#view.setUint16(at + 12, flags, true);
    this.#view.setUint16(at + 14, next, true);
  }

  /** Makes a chain of the buffers available (not yet published). Returns its head. */
  add(buffers: readonly Buffer[]): number {
    assert.ok(buffers.length > 0 && buffers.length <= this.#free.length, 'not enough descriptors are free');
    const ids = buffers.map(() => this.#free.pop() as number);
    buffers.forEach((b, k) => {
      const last = k === buffers.length - 1;
      const flags = (last ? 0 : VIRTQ_DESC_F_NEXT) | (b.writable ? VIRTQ_DESC_F_WRITE : 0);
      this.writeDescriptor(this.desc, ids[k] as number, b.gpa, b.len, flags, last ? 0 : (ids[k + 1] as number));
    });
    this.#chains.set(ids[0] as number, ids);
    this.#offer(ids[0] as number);
    return ids[0] as number;
  }

  /** Likewise through an indirect table at `table`, which needs 16 bytes a buffer. */
  addIndirect(buffers: readonly Buffer[], table: number): number {
    buffers.forEach((b, k) => {
      const last = k === buffers.length - 1;
      const flags = (last ? 0 : VIRTQ_DESC_F_NEXT) | (b.writable ? VIRTQ_DESC_F_WRITE : 0);
      this.writeDescriptor(table, k, b.gpa, b.len, flags, last ? 0 : k + 1);
    });
    const id = this.#free.pop() as number;
    this.writeDescriptor(this.desc, id, table, 16 * buffers.length, VIRTQ_DESC_F_INDIRECT, 0);
    this.#chains.set(id, [id]);
    this.#offer(id);
    return id;
  }

  /** Puts any number into the available ring as a head: for malformed rings. */
  offerRaw(head: number): void {
    this.#offer(head);
  }

  #offer(head: number): void {
    this.write16(this.avail + 4 + 2 * (this.availIdx % this.size), head);
    this.availIdx = (this.availIdx + 1) & 0xffff;
  }

  /** Publishes what was added. True if the device wants to be notified. */
  publish(): boolean {
    const old = this.read16(this.avail + 2);
    this.write16(this.avail + 2, this.availIdx);
    if (!this.eventIdx) return (this.read16(this.used) & 1) === 0;
    const event = this.read16(this.used + 4 + 8 * this.size);
    return ((this.availIdx - event - 1) & 0xffff) < ((this.availIdx - old) & 0xffff);
  }

  /** The next chain that the device returned, or undefined. Its descriptors are free again. */
  reclaim(): { head: number; len: number } | undefined {
    if (this.usedIdx === this.read16(this.used + 2)) return undefined;
    const at = this.#base + this.used + 4 + 8 * (this.usedIdx % this.size);
    const head = this.#view.getUint32(at, true);
    const len = this.#view.getUint32(at + 4, true);
    this.usedIdx = (this.usedIdx + 1) & 0xffff;
    const ids = this.#chains.get(head);
    assert.ok(ids !== undefined, `the device returned ${head}, which is no head in flight`);
    this.#chains.delete(head);
    this.#free.push(...ids);
    return { head, len };
  }

  /** Asks for an interrupt after the next chain returned, or for none. */
  wantInterrupts(wanted: boolean): void {
    if (this.eventIdx)
      this.write16(this.avail + 4 + 2 * this.size, wanted ? this.usedIdx : (this.usedIdx + 0x8000) & 0xffff);
    else this.write16(this.avail, wanted ? 0 : 1);
  }
}

function align(n: number, to: number): number {
  return Math.ceil(n / to) * to;
}
