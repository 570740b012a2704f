/**
 * The guest memory of one connection: regions that the front-end shares by descriptor
 * ("Memory access", SET_MEM_TABLE, ADD_MEM_REG, REM_MEM_REG).
 *
 * A strict table refuses a region that its owner can take away (see ../memory-file.ts), another one
 * warns: then the fabric is as safe as its client.
 */
import { NetbeError } from '../../errors.js';
import { GuestMemory, type RegionSpec } from '../../memory/guest-memory.js';
import type { WindowPool } from '../../memory/window.js';
import type { Fd } from '../../sys/fd.js';
import { checkFile, unsealedError } from '../memory-file.js';
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
    if (!sealed && this.#options.strict) throw unsealedError(what, pageSize);
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
