/**
 * A memory region of netmap: a file without a name that users map, with three pools of objects (interfaces,
 * rings, buffers) as netmap's allocator has them, and one of our own for CSBs.
 *
 *   0        ifs    netmap_if, one a user
 *            rings  netmap_ring with its slots, each with room for the most slots
 *            csbs   nm_csb_atok and nm_csb_ktoa of a user in another process
 *            bufs   buffers by index; 0 and 1 are nobody's
 *
 * The file can neither shrink nor grow, so no user can take memory away from under another. Which objects
 * are taken is known here only; what users write into the region never decides what is given or freed
 * without being checked. Pages are taken from the system when they are first written.
 */

import { NetbeError } from '../errors.js';
import type { Mapping, Window, WindowPool } from '../memory/window.js';
import type { Fd } from '../sys/fd.js';
import {
  addSeals,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  ftruncate,
  MFD_ALLOW_SEALING,
  memfdCreate,
} from '../sys/memfd.js';
import {
  ATOK_BYTES,
  DEFAULT_BUF_SIZE,
  FIRST_BUF_IDX,
  KTOA_BYTES,
  MAX_RINGS,
  MAX_SLOTS,
  NR_SLOTS,
  SLOT_BYTES,
} from './abi.js';

const PAGE = 4096;
const IF_BYTES = 1024;
const RING_BYTES = NR_SLOTS + MAX_SLOTS * SLOT_BYTES;
/** CSBs of a user with the most rings, the host's too, each way */
const CSB_BYTES = 2 * (MAX_RINGS + 1) * (ATOK_BYTES + KTOA_BYTES);

export interface NetmapMemorySpec {
  /** identity of the region; 1: the global one */
  id: number;
  ifTotal: number;
  ringTotal: number;
  bufTotal: number;
  /** bytes of a buffer, a multiple of 64 */
  bufSize?: number;
}

export interface PoolStatus {
  /** offset of the pool in the region */
  off: number;
  objTotal: number;
  objSize: number;
  inUse: number;
}

/** Somebody whose slots name buffers of the region. */
export interface BufferHolder {
  /** indexes as they stand in the slots: anything, where a user has written */
  buffers(): Iterable<number>;
}

/** Objects of one size; the lowest free one is taken first. */
class ObjectPool {
  /** 1: taken */
  readonly #taken: Uint8Array;
  #lowest: number;
  inUse = 0;

  constructor(
    readonly off: number,
    readonly objTotal: number,
    readonly objSize: number,
    readonly first = 0,
  ) {
    this.#taken = new Uint8Array(objTotal);
    this.#lowest = first;
  }

  get end(): number {
    return this.off + this.objTotal * this.objSize;
  }

  get free(): number {
    return this.objTotal - this.first - this.inUse;
  }

  /** Number of a free object; there must be one. */
  take(): number {
    let i = this.#lowest;
    while (this.#taken[i] === 1) i++;
    this.#taken[i] = 1;
    this.#lowest = i + 1;
    this.inUse++;
    return i;
  }

  isTaken(i: number): boolean {
    return this.#taken[i] === 1;
  }

  /** False if it was not taken. */
  giveBack(i: number): boolean {
    if (this.#taken[i] !== 1) return false;
    this.#taken[i] = 0;
    if (i < this.#lowest) this.#lowest = i;
    this.inUse--;
    return true;
  }

  status(): PoolStatus {
    const { off, objTotal, objSize, inUse } = this;
    return { off, objTotal, objSize, inUse };
  }
}

export class NetmapMemory {
  readonly id: number;
  readonly bufSize: number;
  /** of the region */
  readonly byteLength: number;
  readonly window: Window;
  /** offset of the region in the window */
  readonly off: number;
  readonly #fd: Fd;
  readonly #mapping: Mapping;
  readonly #ifs: ObjectPool;
  readonly #rings: ObjectPool;
  readonly #csbs: ObjectPool;
  readonly #bufs: ObjectPool;
  #users = 0;
  readonly holders = new Set<BufferHolder>();
  /** the last user has gone */
  onUnused: (() => void) | undefined;

  constructor(pool: WindowPool, spec: NetmapMemorySpec) {
    const { id, ifTotal, ringTotal, bufTotal, bufSize = DEFAULT_BUF_SIZE } = spec;
    this.id = id;
    this.bufSize = bufSize;
    this.#ifs = new ObjectPool(0, ifTotal, IF_BYTES);
    this.#rings = new ObjectPool(pageUp(this.#ifs.end), ringTotal, RING_BYTES);
    this.#csbs = new ObjectPool(pageUp(this.#rings.end), ifTotal, CSB_BYTES);
    this.#bufs = new ObjectPool(pageUp(this.#csbs.end), bufTotal + FIRST_BUF_IDX, bufSize, FIRST_BUF_IDX);
    this.byteLength = pageUp(this.#bufs.end);
    const subject = `netmap memory ${id}`;
    this.#fd = memfdCreate(`netmap-${id}`, MFD_ALLOW_SEALING);
    try {
      ftruncate(this.#fd.number, this.byteLength);
      addSeals(this.#fd.number, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
      this.#mapping = pool.mapFile({
        fd: this.#fd.number,
        fileOffset: 0,
        length: this.byteLength,
        pageSize: PAGE,
        subject,
      });
    } catch (error) {
      this.#fd.close();
      throw error;
    }
    this.window = this.#mapping.window;
    this.off = this.#mapping.off;
  }

  /** The region's file, to be handed to who may map it; it stays ours. */
  get fd(): number {
    return this.#fd.number;
  }

  /** Buffers of the region, the two that are nobody's included: indexes are below this. */
  get bufTotal(): number {
    return this.#bufs.objTotal;
  }

  /** Offset of buffer 0 in the region. */
  get bufsOff(): number {
    return this.#bufs.off;
  }

  /** Buffers that can be had. */
  get freeBufs(): number {
    return this.#bufs.free;
  }

  retain(): void {
    this.#users++;
  }

  /** The region goes with its last user. */
  release(): void {
    if (--this.#users > 0) return;
    this.#mapping.close();
    this.#fd.close();
    this.onUnused?.();
  }

  // ---- objects: offsets are of the region ----

  allocIf(): number {
    return this.#alloc(this.#ifs, 'ports');
  }

  freeIf(off: number): void {
    this.#free(this.#ifs, off);
  }

  allocRing(): number {
    return this.#alloc(this.#rings, 'rings');
  }

  freeRing(off: number): void {
    this.#free(this.#rings, off);
  }

  allocCsb(): number {
    return this.#alloc(this.#csbs, 'ports of other processes');
  }

  freeCsb(off: number): void {
    this.#free(this.#csbs, off);
  }

  /** Index of a buffer, or 0 when there is none. */
  allocBuf(): number {
    return this.#bufs.free === 0 ? 0 : this.#bufs.take();
  }

  /** False if the index is no buffer that is taken. */
  freeBuf(idx: number): boolean {
    return this.isBuf(idx) && this.#bufs.giveBack(idx);
  }

  /** Gives back the buffers that only `holder` names: what it wrote into its slots takes none from others. */
  freeBufsOf(holder: BufferHolder): void {
    this.holders.delete(holder);
    const own = new Set(holder.buffers());
    for (const other of this.holders) for (const idx of other.buffers()) own.delete(idx);
    for (const idx of own) this.freeBuf(idx);
  }

  isBuf(idx: number): boolean {
    return idx >= FIRST_BUF_IDX && idx < this.#bufs.objTotal;
  }

  /** Takes up to `count` buffers as a list, each with the index of the next in its first 4 bytes; the last has 0. */
  allocBufList(count: number): { head: number; count: number } {
    const { u32 } = this.window;
    let head = 0;
    let n = 0;
    for (; n < count && this.#bufs.free > 0; n++) {
      const idx = this.#bufs.take();
      u32[this.bufOff(idx) >>> 2] = head;
      head = idx;
    }
    return { head, count: n };
  }

  /**
   * Gives back the buffers of a list that users may have changed: as far as it leads over buffers that are
   * taken, each once, and none that is in somebody's slots.
   */
  freeBufList(head: number): void {
    const { u32 } = this.window;
    const list = new Set<number>();
    for (let idx = head; this.isBuf(idx) && this.#bufs.isTaken(idx) && !list.has(idx); ) {
      list.add(idx);
      idx = u32[this.bufOff(idx) >>> 2]!;
    }
    if (list.size === 0) return;
    for (const holder of this.holders) for (const idx of holder.buffers()) list.delete(idx);
    for (const idx of list) this.freeBuf(idx);
  }

  /** Offset of a buffer in the window. */
  bufOff(idx: number): number {
    return this.off + this.#bufs.off + idx * this.bufSize;
  }

  /** As NETMAP_REQ_POOLS_INFO_GET tells. */
  status(): { id: number; byteLength: number; ifs: PoolStatus; rings: PoolStatus; bufs: PoolStatus } {
    const { id, byteLength } = this;
    return { id, byteLength, ifs: this.#ifs.status(), rings: this.#rings.status(), bufs: this.#bufs.status() };
  }

  #alloc(pool: ObjectPool, what: string): number {
    if (pool.free === 0)
      throw new NetbeError(`netmap memory ${this.id} has no room for more ${what}: ${pool.objTotal} are in use`, {
        code: 'ENOMEM',
        kind: 'usage',
        subject: `netmap memory ${this.id}`,
        remedy: 'Close some, or use a port with memory of its own.',
      });
    const off = pool.off + pool.take() * pool.objSize;
    this.window.kernel.fill(this.off + off, 0, pool.objSize);
    return off;
  }

  #free(pool: ObjectPool, off: number): void {
    pool.giveBack((off - pool.off) / pool.objSize);
  }
}

function pageUp(n: number): number {
  return Math.ceil(n / PAGE) * PAGE;
}
