/**
 * The guest memory of one connection: regions that the client maps and unmaps (DMA_MAP, DMA_UNMAP).
 *
 * A region with a descriptor is mapped; one that the device may only read is mapped so that its writes
 * stay here. A region without a descriptor, as QEMU has them for ROMs and for memory that is not shared, is
 * reached by messages. One that may not be read is known, and what the device wants of it is a fault of the driver.
 *
 * A guest that starts maps and unmaps dozens of regions while its firmware shadows ROMs, and clients
 * pipeline these messages; translations are brought up to date once for all of them (settle).
 */
import { NetbeError } from '../../errors.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { DmaChannel } from '../../memory/remote-memory.js';
import type { Fd } from '../../sys/fd.js';
import { checkFile, unsealedError } from '../memory-file.js';
import { MAX_DMA_MAPS, VFIO_USER_F_DMA_REGION_READ, VFIO_USER_F_DMA_REGION_WRITE } from './messages.js';

export interface DmaRegion {
  /** guest-physical address of the first byte */
  gpa: number;
  size: number;
  /** in the file */
  offset: number;
  /** VFIO_USER_F_DMA_REGION_* */
  flags: number;
}

export interface DmaTableOptions {
  /** of the connection, and nobody else's */
  memory: GuestMemory;
  /** reaches what is not shared */
  channel: DmaChannel;
  /** refuse files that their owner can take away */
  strict: boolean;
  /** told once for each connection that has such a file */
  onUnsealed: () => void;
  /** told once for each connection that has more unshared memory than is reachable */
  onBeyond: () => void;
}

/**
 * Bytes that regions without a descriptor may have in all: their copies take address space, of which all connections have 1 TiB. What is
 * beyond is known and not reachable, as a client whose DMA_MAP is refused may not go on.
 */
const MAX_COPIED_BYTES = 2 ** 37;

interface Entry {
  readonly gpa: number;
  readonly size: number;
  readonly readOnly: boolean;
  /** how the device gets there: it is mapped, by messages, or not at all */
  readonly reached: 'mapped' | 'messages' | 'not';
}

function fail(code: string, why: string): never {
  throw new NetbeError(why, { code });
}

export class DmaTable {
  readonly memory: GuestMemory;
  readonly #options: DmaTableOptions;
  readonly #entries = new Map<number, Entry>();
  #unsealed = false;
  #beyond = false;
  #dirty = false;

  constructor(options: DmaTableOptions) {
    this.#options = options;
    this.memory = options.memory;
  }

  /** Regions that the client has mapped, those that are not reachable included. */
  get count(): number {
    return this.#entries.size;
  }

  /** Bytes of regions that are reached by messages; ROMs, which usually are, do not count. */
  get unshared(): number {
    return this.#bytes((entry) => entry.reached === 'messages' && !entry.readOnly);
  }

  /** every mapped region is of a file that nobody can take away */
  get sealed(): boolean {
    return !this.#unsealed;
  }

  /** The descriptor stays the caller's. Throws EEXIST for a region that overlaps another one. */
  map(region: DmaRegion, fd: Fd | undefined): void {
    const { gpa, size } = region;
    const what = describe(gpa, size);
    if (size === 0) fail('EINVAL', `${what}: empty`);
    if (!Number.isSafeInteger(gpa + size)) fail('EINVAL', `${what}: its end is beyond 2^53`);
    if (this.#entries.size >= MAX_DMA_MAPS) fail('ENOSPC', `all ${MAX_DMA_MAPS} regions are in use`);
    for (const other of this.#entries.values())
      if (gpa < other.gpa + other.size && other.gpa < gpa + size)
        fail('EEXIST', `${what}: overlaps the region ${describe(other.gpa, other.size)}`);
    const reached = this.#reach(region, fd);
    const readOnly = isReadOnly(region);
    if (reached === 'mapped') this.#map(region, fd as Fd, what);
    else if (reached === 'messages') this.#mapRemote(region);
    this.#entries.set(gpa, { gpa, size, readOnly, reached });
  }

  /**
   * "The address and size … must match exactly a previous mapping." QEMU does not keep to it when its guest's IOMMU is reset: then it
   * unmaps ranges that all regions lie in. So a range may hold any number of whole regions. Throws ENOENT if it holds none, EINVAL if
   * it holds a part of one.
   */
  unmap(gpa: number, size: number): void {
    const within: Entry[] = [];
    for (const entry of this.#entries.values()) {
      if (entry.gpa >= gpa + size || gpa >= entry.gpa + entry.size) continue;
      if (entry.gpa < gpa || entry.gpa + entry.size > gpa + size)
        fail('EINVAL', `${describe(gpa, size)}: a part of the region ${describe(entry.gpa, entry.size)}`);
      within.push(entry);
    }
    if (within.length === 0) fail('ENOENT', `${describe(gpa, size)}: no such region`);
    for (const entry of within) this.#remove(entry);
  }

  #remove({ gpa, size, reached }: Entry): void {
    this.#entries.delete(gpa);
    if (reached === 'not') return;
    this.memory.removeRegionLater(gpa, size, gpa);
    this.#dirty = true;
  }

  unmapAll(): void {
    for (const entry of [...this.#entries.values()]) this.#remove(entry);
  }

  /** Brings translations up to date. True if anything has changed since the last time. */
  settle(): boolean {
    if (!this.#dirty) return false;
    this.#dirty = false;
    this.memory.settle();
    return true;
  }

  close(): void {
    this.#entries.clear();
    this.memory.close();
  }

  #reach({ flags, size }: DmaRegion, fd: Fd | undefined): Entry['reached'] {
    if ((flags & VFIO_USER_F_DMA_REGION_READ) === 0) return 'not';
    if (fd !== undefined) return 'mapped';
    if (this.#bytes((entry) => entry.reached === 'messages') + size <= MAX_COPIED_BYTES) return 'messages';
    if (!this.#beyond) this.#options.onBeyond();
    this.#beyond = true;
    return 'not';
  }

  #bytes(which: (entry: Entry) => boolean): number {
    let bytes = 0;
    for (const entry of this.#entries.values()) if (which(entry)) bytes += entry.size;
    return bytes;
  }

  #mapRemote(region: DmaRegion): void {
    const { gpa, size } = region;
    const spec = { gpa, size, userAddr: gpa, readOnly: isReadOnly(region) };
    this.memory.addRemoteRegionLater(spec, this.#options.channel);
    this.#dirty = true;
  }

  #map(region: DmaRegion, fd: Fd, what: string): void {
    const { gpa, size, offset } = region;
    const { pageSize, sealed } = checkFile(fd, offset + size, what);
    if (!sealed && this.#options.strict) throw unsealedError(what, pageSize);
    this.memory.addRegionLater({
      gpa,
      size,
      // clients speak of guest-physical addresses only
      userAddr: gpa,
      mmapOffset: offset,
      fd: fd.number,
      pageSize,
      readOnly: isReadOnly(region),
    });
    this.#dirty = true;
    if (sealed || this.#unsealed) return;
    this.#unsealed = true;
    this.#options.onUnsealed();
  }
}

function isReadOnly({ flags }: DmaRegion): boolean {
  return (flags & VFIO_USER_F_DMA_REGION_WRITE) === 0;
}

function describe(gpa: number, size: number): string {
  return `0x${gpa.toString(16)} of 0x${size.toString(16)} bytes`;
}
