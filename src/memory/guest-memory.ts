/**
 * A guest's memory: regions of guest-physical addresses, each mapped in one or more windows.
 *
 * Every address that a guest or a hypervisor gives is translated here, and nowhere else, with its
 * whole length checked. Addresses are numbers: up to 2^53, beyond any guest.
 */
import { NetbeError } from '../errors.js';
import type { Iovec } from './iovec.js';
import type { Mapping, WindowPool } from './window.js';

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

/** A piece of a region that lies in one window. */
interface Piece {
  readonly gpa: number;
  readonly size: number;
  readonly userAddr: number;
  readonly mapping: Mapping;
  readonly off: number;
}

interface Region {
  readonly spec: RegionSpec;
  readonly pieces: readonly Piece[];
}

/** Where something contiguous lies; reused by the caller. */
export interface Place {
  win: number;
  off: number;
}

export class GuestMemory {
  readonly #pool: WindowPool;
  #regions: Region[] = [];
  // pieces, flattened for the data path: [start, end) in guest-physical addresses, where in which window
  #starts = new Float64Array(0);
  #ends = new Float64Array(0);
  #wins = new Uint8Array(0);
  #offs = new Float64Array(0);
  /** piece of the last hit: most guests have one that matters */
  #last = 0;
  /** the largest piece: guest-physical [mainStart, mainEnd) begins at mainOff in window mainWin (-1: none) */
  mainStart = 0;
  mainEnd = 0;
  mainOff = 0;
  mainWin = -1;

  constructor(pool: WindowPool) {
    this.#pool = pool;
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
    this.#check(spec);
    this.#regions.push({ spec, pieces: this.#mapPieces(spec) });
  }

  removeRegionLater(gpa: number, size: number, userAddr: number): boolean {
    const region = this.#takeRegion(gpa, size, userAddr);
    for (const piece of region?.pieces ?? []) piece.mapping.close();
    return region !== undefined;
  }

  /** Lets translations see the regions as they are. */
  settle(): void {
    this.#flatten();
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
    this.#flatten();
    for (const region of regions) for (const piece of region.pieces) piece.mapping.close();
  }

  /**
   * Appends the pieces of [gpa, gpa + len) to `iov`. Data path.
   * Returns 0, -EFAULT (14) when any byte of it is outside guest memory, or -EMSGSIZE (90) when `iov` is full.
   */
  translate(gpa: number, len: number, iov: Iovec): number {
    let i = this.#last;
    if (!(gpa >= (this.#starts[i] as number) && gpa + len <= (this.#ends[i] as number))) {
      i = this.#find(gpa);
      if (i < 0) return -14;
      if (gpa + len > (this.#ends[i] as number)) return this.#translateAcross(i, gpa, len, iov);
      this.#last = i;
    }
    const off = gpa - (this.#starts[i] as number) + (this.#offs[i] as number);
    return iov.push(this.#wins[i] as number, off, len) ? 0 : -90;
  }

  /** Where [gpa, gpa + len) lies if it is contiguous in one window: rings and tables must be. */
  locate(gpa: number, len: number, place: Place): boolean {
    const i = this.#find(gpa);
    if (i < 0 || gpa + len > (this.#ends[i] as number)) return false;
    place.win = this.#wins[i] as number;
    place.off = gpa - (this.#starts[i] as number) + (this.#offs[i] as number);
    return true;
  }

  /** Guest-physical address of a hypervisor's user address, or -1. Control path. */
  userToGpa(userAddr: number): number {
    for (const { spec } of this.#regions)
      if (userAddr >= spec.userAddr && userAddr < spec.userAddr + spec.size)
        return spec.gpa + (userAddr - spec.userAddr);
    return -1;
  }

  #find(gpa: number): number {
    const starts = this.#starts;
    for (let i = 0; i < starts.length; i++)
      if (gpa >= (starts[i] as number) && gpa < (this.#ends[i] as number)) return i;
    return -1;
  }

  /** A buffer that crosses from one piece into the next: legal where the addresses are adjacent. */
  #translateAcross(first: number, gpa: number, len: number, iov: Iovec): number {
    let i = first;
    let at = gpa;
    let left = len;
    for (;;) {
      const n = Math.min(left, (this.#ends[i] as number) - at);
      const off = at - (this.#starts[i] as number) + (this.#offs[i] as number);
      if (!iov.push(this.#wins[i] as number, off, n)) return -90;
      left -= n;
      if (left === 0) return 0;
      at += n;
      i = this.#find(at);
      if (i < 0) return -14;
    }
  }

  #check(spec: RegionSpec): void {
    const { gpa, size, userAddr, mmapOffset } = spec;
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
          userAddr: spec.userAddr + start,
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

  #flatten(): void {
    const pieces = this.#regions.flatMap((r) => r.pieces).sort((a, b) => b.size - a.size);
    this.#starts = Float64Array.from(pieces, (p) => p.gpa);
    this.#ends = Float64Array.from(pieces, (p) => p.gpa + p.size);
    this.#wins = Uint8Array.from(pieces, (p) => p.mapping.window.index);
    this.#offs = Float64Array.from(pieces, (p) => p.off);
    this.#last = 0;
    const main = pieces[0];
    this.mainStart = main?.gpa ?? 0;
    this.mainEnd = main === undefined ? 0 : main.gpa + main.size;
    this.mainOff = main?.off ?? 0;
    this.mainWin = main?.mapping.window.index ?? -1;
  }
}
