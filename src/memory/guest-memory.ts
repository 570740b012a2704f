/**
 * A guest's memory: regions of guest-physical addresses, each mapped in one or more windows.
 *
 * Every address that a guest or a hypervisor gives is translated by an AddressMap, and nowhere else, with its
 * whole length checked. Addresses are numbers: up to 2^53, beyond any guest.
 *
 * Most memory is shared, and what lies here is the guest's memory itself. Memory that a hypervisor does not share is
 * reached by messages: it has a copy here, which only `remote` knows of, so that nobody takes it for the guest's memory.
 */
import { NetbeError } from '../errors.js';
import { AddressMap, type Piece } from './address-map.js';
import { type DmaChannel, RemoteMemory } from './remote-memory.js';
import type { WindowPool } from './window.js';

/** One region as vhost-user describes it (VHOST_USER_SET_MEM_TABLE): lengths and addresses in bytes. */
export interface RegionSpec {
  gpa: number;
  size: number;
  /** address of the region in the hypervisor's own address space */
  userAddr: number;
  /** where in the file the region begins */
  mmapOffset: number;
  fd: number;
  /** page size of the file's file system */
  pageSize: number;
  /** what devices write into it does not reach the guest: a ROM */
  readOnly?: boolean;
}

/** What is known of a region that is not shared. */
type RemoteSpec = Pick<RegionSpec, 'gpa' | 'size' | 'userAddr' | 'readOnly'>;

interface Region {
  readonly spec: RemoteSpec;
  readonly pieces: readonly Piece[];
  readonly remote: boolean;
}

export class GuestMemory extends AddressMap {
  readonly #pool: WindowPool;
  #regions: Region[] = [];
  #remote: RemoteMemory | undefined;

  constructor(pool: WindowPool) {
    super();
    this.#pool = pool;
  }

  /** How to reach memory that is not shared, and the addresses of all memory; undefined: all of it is shared. */
  get remote(): RemoteMemory | undefined {
    return this.#remote;
  }

  get regionCount(): number {
    return this.#regions.length;
  }

  get byteLength(): number {
    return this.#regions.reduce((sum, r) => sum + r.spec.size, 0);
  }

  /** Maps a region. The descriptor stays the caller's. Throws EINVAL for one that is malformed or overlaps. */
  addRegion(spec: RegionSpec): void {
    this.addRegionLater(spec);
    this.settle();
  }

  /** Unmaps the region that begins at `gpa` with this size and user address; false if there is none. */
  removeRegion(gpa: number, size: number, userAddr: number): boolean {
    const region = this.#takeRegion(gpa, size, userAddr);
    if (!region) return false;
    this.settle();
    for (const piece of region.pieces) piece.mapping.close();
    return true;
  }

  /**
   * As addRegion and removeRegion, but translations know of it only after settle(): for many changes at once.
   * Until then nobody may translate.
   */
  addRegionLater(spec: RegionSpec): void {
    this.#check(spec, spec.mmapOffset);
    this.#regions.push({ spec, pieces: this.#mapPieces(spec), remote: false });
  }

  /** Likewise for a region that `channel` reaches: the same one for all of them. */
  addRemoteRegionLater(spec: RemoteSpec, channel: DmaChannel): void {
    this.#check(spec, 0);
    this.#regions.push({ spec, pieces: this.#mapCopy(spec), remote: true });
    this.#remote ??= new RemoteMemory(channel, this.#pool);
  }

  removeRegionLater(gpa: number, size: number, userAddr: number): boolean {
    const region = this.#takeRegion(gpa, size, userAddr);
    for (const piece of region?.pieces ?? []) piece.mapping.close();
    return region !== undefined;
  }

  /** Lets translations see the regions as they are. */
  settle(): void {
    const shared = this.#regions.filter((r) => !r.remote).flatMap((r) => r.pieces);
    this.setPieces(shared);
    const copies = this.#regions.filter((r) => r.remote).flatMap((r) => r.pieces);
    this.#remote?.map.setPieces([...shared, ...copies]);
  }

  #takeRegion(gpa: number, size: number, userAddr: number): Region | undefined {
    const at = this.#regions.findIndex(
      ({ spec }) => spec.gpa === gpa && spec.size === size && spec.userAddr === userAddr,
    );
    return at < 0 ? undefined : this.#regions.splice(at, 1)[0];
  }

  /** Unmaps everything. */
  close(): void {
    const regions = this.#regions;
    this.#regions = [];
    this.settle();
    for (const region of regions) for (const piece of region.pieces) piece.mapping.close();
  }

  /** Guest-physical address of a hypervisor's user address, or -1. Control path. */
  userToGpa(userAddr: number): number {
    for (const { spec } of this.#regions)
      if (userAddr >= spec.userAddr && userAddr < spec.userAddr + spec.size)
        return spec.gpa + (userAddr - spec.userAddr);
    return -1;
  }

  #check({ gpa, size, userAddr }: RemoteSpec, mmapOffset: number): void {
    const bad = (why: string): never => {
      const what = `region gpa 0x${gpa.toString(16)} size 0x${size.toString(16)}`;
      throw new NetbeError(`${what}: ${why}`, { code: 'EINVAL', subject: what });
    };
    if (!(size > 0)) bad('empty');
    for (const n of [gpa, size, userAddr, mmapOffset, gpa + size, userAddr + size, mmapOffset + size])
      if (!Number.isSafeInteger(n) || n < 0) bad('an address or length is beyond 2^53');
    for (const { spec: other } of this.#regions) {
      if (gpa < other.gpa + other.size && other.gpa < gpa + size) bad('overlaps another region');
      if (userAddr < other.userAddr + other.size && other.userAddr < userAddr + size)
        bad('overlaps the user addresses of another region');
    }
  }

  #mapPieces(spec: RegionSpec): Piece[] {
    const pieces: Piece[] = [];
    const subject = `guest memory at 0x${spec.gpa.toString(16)}`;
    // mmap wants a file offset on a page boundary: what lies before the region is mapped, never used
    const pad = spec.mmapOffset % spec.pageSize;
    const maxPiece = Math.floor(this.#pool.maxPiece / spec.pageSize) * spec.pageSize;
    try {
      if (maxPiece === 0)
        throw new NetbeError(`${subject}: pages of ${spec.pageSize} bytes do not fit a window`, {
          code: 'EINVAL',
          subject,
        });
      for (let done = -pad; done < spec.size; ) {
        const length = Math.min(maxPiece, spec.size - done);
        const { fd, pageSize, readOnly: copyOnWrite = false } = spec;
        const fileOffset = spec.mmapOffset + done;
        const mapping = this.#pool.mapFile({ fd, fileOffset, length, pageSize, copyOnWrite, subject });
        const skip = Math.max(0, -done);
        const start = done + skip;
        pieces.push({
          gpa: spec.gpa + start,
          size: length - skip,
          mapping,
          off: mapping.off + skip,
        });
        done += length;
      }
      return pieces;
    } catch (error) {
      for (const piece of pieces) piece.mapping.close();
      throw error;
    }
  }

  #mapCopy({ gpa, size, readOnly = false }: RemoteSpec): Piece[] {
    const pieces: Piece[] = [];
    try {
      for (let done = 0; done < size; ) {
        const length = Math.min(this.#pool.maxPiece, size - done);
        const mapping = this.#pool.mapAnonymous(length, `guest memory at 0x${gpa.toString(16)}`);
        pieces.push({ gpa: gpa + done, size: length, mapping, off: mapping.off, remote: true, readOnly });
        done += length;
      }
      return pieces;
    } catch (error) {
      for (const piece of pieces) piece.mapping.close();
      throw error;
    }
  }
}
