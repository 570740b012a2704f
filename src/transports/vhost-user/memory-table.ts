/**
 * The guest memory of one connection: regions that the front-end shares by descriptor
 * ("Memory access", SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG).
 *
 * Touching a mapped page that its file does not have is SIGBUS, which ends a process; and whoever
 * holds the descriptor can shorten the file. So a region must lie inside its file, and the file is
 * sealed against shrinking (F_SEAL_SHRINK, memfds only) where it allows that. Huge pages can be taken
 * away all the same: by a hole punched into the file while nobody has pages left to fill it. A strict
 * table refuses a region that its owner can take away, another one warns: then the fabric is as safe
 * as its client.
 */
import { NetbeError } from '../../errors.js';
import { GuestMemory, type RegionSpec } from '../../memory/guest-memory.js';
import type { WindowPool } from '../../memory/window.js';
import { type Fd, filePageSize, fstat } from '../../sys/fd.js';
import { addSeals, F_SEAL_SHRINK, getSeals } from '../../sys/memfd.js';
import { pageSize as basePageSize } from '../../sys/process.js';
import type { Message } from './codec.js';
import { MEMORY_TABLE_HEADER_BYTES, VHOST_MEMORY_BASELINE_NREGIONS } from './messages.js';

/** Most regions of one guest (GET_MAX_MEM_SLOTS). */
export const MAX_MEM_SLOTS = 64;

/** A region as the protocol has it: a "memory regions description" without its descriptor. */
export interface RegionAddresses {
  gpa: number;
  size: number;
  userAddr: number;
  mmapOffset: number;
}

/** A file that [0, bytes) may be mapped of. */
export interface CheckedFile {
  pageSize: number;
  /** nobody can take its pages away any more */
  sealed: boolean;
}

/** Checks that `bytes` of a file can be mapped, and seals it against shrinking if it allows that. */
export function checkFile(fd: Fd, bytes: number, what: string): CheckedFile {
  const refuse = (why: string): never => {
    throw new NetbeError(`${what}: ${why}`, { code: 'EINVAL' });
  };
  if (!fstat(fd.number).isFile) refuse('its descriptor is not a file of memory');
  const seals = getSeals(fd.number);
  const sealed = seals !== null && ((seals & F_SEAL_SHRINK) !== 0 || addSeals(fd.number, F_SEAL_SHRINK));
  // its size is asked for only now: sealed, it does not shrink any more
  const { size } = fstat(fd.number);
  if (bytes > size) refuse(`reaches to byte ${bytes} of a file of ${size}`);
  const filePages = filePageSize(fd.number);
  return { pageSize: filePages, sealed: sealed && filePages === basePageSize };
}

export interface MemoryTableOptions {
  windows: WindowPool;
  /** refuse files that their owner can take away */
  strict: boolean;
  /** told once for each table that holds such a file */
  onUnsealed: () => void;
}

interface TableState {
  readonly memory: GuestMemory;
  unsealed: boolean;
}

export class MemoryTable {
  readonly #options: MemoryTableOptions;
  #state: TableState;

  constructor(options: MemoryTableOptions) {
    this.#options = options;
    this.#state = this.#newState();
  }

  /** What the device sees. Another one after each replace(). */
  get memory(): GuestMemory {
    return this.#state.memory;
  }

  /** every region is of a file that nobody can take away */
  get sealed(): boolean {
    return !this.#state.unsealed;
  }

  /**
   * Maps a whole new table beside the present one, which stays untouched on failure. On success
   * `swap` is called with the new memory in place, then the old one is unmapped.
   */
  replace(regions: readonly RegionAddresses[], fds: readonly Fd[], swap: () => void): void {
    const old = this.#state;
    const fresh = this.#newState();
    try {
      regions.forEach((region, i) => {
        this.#map(fresh, region, fds[i] as Fd);
      });
    } catch (error) {
      fresh.memory.close();
      throw error;
    }
    this.#state = fresh;
    try {
      swap();
    } finally {
      old.memory.close();
    }
  }

  add(region: RegionAddresses, fd: Fd): void {
    if (this.memory.regionCount >= MAX_MEM_SLOTS)
      throw new NetbeError(`all ${MAX_MEM_SLOTS} memory slots are in use`, { code: 'ENOSPC' });
    this.#map(this.#state, region, fd);
  }

  /** "identified by its guest address, user address and size. The mmap offset is ignored." */
  remove({ gpa, size, userAddr }: RegionAddresses): void {
    if (this.memory.removeRegion(gpa, size, userAddr)) return;
    const what = `gpa 0x${gpa.toString(16)}, user address 0x${userAddr.toString(16)}, size 0x${size.toString(16)}`;
    throw new NetbeError(`no such region: ${what}`, { code: 'EINVAL' });
  }

  close(): void {
    this.#state.memory.close();
  }

  #newState(): TableState {
    return { memory: new GuestMemory(this.#options.windows), unsealed: false };
  }

  #map(state: TableState, region: RegionAddresses, fd: Fd): void {
    const what = `region gpa 0x${region.gpa.toString(16)} size 0x${region.size.toString(16)}`;
    const { pageSize, sealed } = checkFile(fd, region.mmapOffset + region.size, what);
    if (!sealed && this.#options.strict)
      throw new NetbeError(
        `${what}: its file ${pageSize === basePageSize ? 'cannot be sealed against shrinking' : 'is of huge pages, which can be taken away'}, and strict memory is asked for`,
        {
          code: 'EPERM',
          remedy: 'Let the hypervisor use memfds that allow sealing (QEMU: -object memory-backend-memfd,share=on).',
        },
      );
    const spec: RegionSpec = { ...region, fd: fd.number, pageSize };
    state.memory.addRegion(spec);
    if (sealed || state.unsealed) return;
    state.unsealed = true;
    this.#options.onUnsealed();
  }
}

/** A region whose first byte is at `off` of the payload. */
export function decodeRegion(message: Message, off: number): RegionAddresses {
  return {
    gpa: message.address(off, 'guest address'),
    size: message.address(off + 8, 'size'),
    userAddr: message.address(off + 16, 'user address'),
    mmapOffset: message.address(off + 24, 'mmap offset'),
  };
}

/** The regions of a SET_MEM_TABLE; their count must fit its payload. */
export function decodeMemoryTable(message: Message): RegionAddresses[] {
  const count = message.u32(0);
  const room = Math.floor((message.payload.length - MEMORY_TABLE_HEADER_BYTES) / 32);
  if (count > Math.min(room, VHOST_MEMORY_BASELINE_NREGIONS))
    throw new NetbeError(`${count} regions, room for ${room} in its payload of ${message.payload.length} bytes`, {
      code: 'EINVAL',
    });
  return Array.from({ length: count }, (_, i) => decodeRegion(message, MEMORY_TABLE_HEADER_BYTES + 32 * i));
}
