/**
 * The buffer in which a back-end notes what it has in hand, so that its successor can go on after a
 * crash ("Inflight I/O tracking", split virtqueues).
 *
 * The device serves its rings strictly in order and returns every chain of a burst before the burst
 * ends. So what our own predecessor had in hand is exactly what lies between the used index and the
 * available ring: starting at the used index serves it again, and none of our entries ever has
 * `inflight` set. `last_batch_head` and `used_idx` serve only to clear such flags; `used_idx` is
 * brought up to date when a ring starts and stops.
 *
 * A back-end of another make may have left entries in flight out of order. The driver still waits
 * for those: they are returned to it in the order of their counters with a used length of 0. No
 * descriptor is lost; a frame in one of them is, as on any network.
 */
import { NetbeError } from '../../errors.js';
import type { Place } from '../../memory/address-map.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import type { Fd } from '../../sys/fd.js';
import {
  addSeals,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  ftruncate,
  MFD_ALLOW_SEALING,
  memfdCreate,
} from '../../sys/memfd.js';
import { INFLIGHT_PADDED_BYTES } from './messages.js';

/** An inflight description without its descriptor. */
export interface InflightDescription {
  mmapSize: number;
  mmapOffset: number;
  queueCount: number;
  queueSize: number;
}

// struct QueueRegionSplit
const VERSION_OFF = 8;
const DESC_NUM_OFF = 10;
const LAST_BATCH_HEAD_OFF = 12;
const USED_IDX_OFF = 14;
const DESC_OFF = 16;
const INFLIGHT_VERSION = 1;
// struct DescStateSplit
const DESC_BYTES = 16;
const DESC_INFLIGHT_OFF = 0;
const DESC_NEXT_OFF = 6;
const DESC_COUNTER_OFF = 8;
/** what each queue's region is padded to, as in the back-ends there are */
const REGION_ALIGN = 64;

function regionBytes(queueSize: number): number {
  return Math.ceil((DESC_OFF + DESC_BYTES * queueSize) / REGION_ALIGN) * REGION_ALIGN;
}

export function decodeInflight(view: DataView): InflightDescription {
  const u64 = (off: number) => view.getUint32(off, true) + view.getUint32(off + 4, true) * 2 ** 32;
  return {
    mmapSize: u64(0),
    mmapOffset: u64(8),
    queueCount: view.getUint16(16, true),
    queueSize: view.getUint16(18, true),
  };
}

/** `length`: that of the request, since C pads the structure and some front-ends do not. */
export function encodeInflight(description: InflightDescription, length = INFLIGHT_PADDED_BYTES): Uint8Array {
  const view = new DataView(new ArrayBuffer(length));
  view.setBigUint64(0, BigInt(description.mmapSize), true);
  view.setBigUint64(8, BigInt(description.mmapOffset), true);
  view.setUint16(16, description.queueCount, true);
  view.setUint16(18, description.queueSize, true);
  return new Uint8Array(view.buffer);
}

function checkShape({ queueCount, queueSize }: InflightDescription, maxQueues: number, maxSize: number): void {
  if (queueCount < 1 || queueCount > maxQueues)
    throw new NetbeError(`${queueCount} queues: this device has ${maxQueues}`, { code: 'EINVAL' });
  if (queueSize < 1 || queueSize > maxSize)
    throw new NetbeError(`queues of ${queueSize}: sizes go from 1 to ${maxSize}`, { code: 'EINVAL' });
}

/** A new, empty buffer for GET_INFLIGHT_FD. The descriptor is the caller's. */
export function createInflight(
  request: InflightDescription,
  maxQueues: number,
  maxSize: number,
): { fd: Fd; description: InflightDescription } {
  checkShape(request, maxQueues, maxSize);
  const mmapSize = request.queueCount * regionBytes(request.queueSize);
  const fd = memfdCreate('netbe-inflight', MFD_ALLOW_SEALING);
  try {
    ftruncate(fd.number, mmapSize);
    addSeals(fd.number, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    return { fd, description: { ...request, mmapSize, mmapOffset: 0 } };
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Where a ring's used ring is, for recovery. */
export interface UsedRing {
  memory: GuestMemory;
  /** guest-physical address of the used ring */
  gpa: number;
  size: number;
}

/** A buffer that the front-end handed over (SET_INFLIGHT_FD), mapped. */
export class Inflight {
  readonly #windows: WindowPool;
  readonly #mapping: Mapping;
  readonly #off: number;
  readonly #description: InflightDescription;

  /** Maps it. The descriptor stays the caller's, who has checked that its file is long enough. Throws EINVAL. */
  constructor(
    windows: WindowPool,
    description: InflightDescription,
    file: { fd: number; pageSize: number },
    limits: { queues: number; queueSize: number },
  ) {
    const { mmapSize, mmapOffset, queueCount, queueSize } = description;
    checkShape(description, limits.queues, limits.queueSize);
    const needed = queueCount * regionBytes(queueSize);
    if (mmapSize < needed)
      throw new NetbeError(`a buffer of ${mmapSize} bytes: ${queueCount} queues of ${queueSize} need ${needed}`, {
        code: 'EINVAL',
      });
    if (mmapOffset % 8 !== 0) throw new NetbeError(`mmap offset ${mmapOffset} is odd`, { code: 'EINVAL' });
    const pad = mmapOffset % file.pageSize;
    this.#windows = windows;
    this.#description = description;
    this.#mapping = windows.mapFile({
      ...file,
      fileOffset: mmapOffset - pad,
      length: pad + needed,
      subject: 'inflight buffer',
    });
    this.#off = this.#mapping.off + pad;
  }

  /**
   * Settles what a predecessor left of this queue, and returns where to go on in the available
   * ring; undefined when the buffer does not cover the queue.
   */
  recover(queue: number, used: UsedRing): number | undefined {
    const { queueCount, queueSize } = this.#description;
    const place: Place = { win: 0, off: 0 };
    if (queue >= queueCount || used.size > queueSize) return undefined;
    if (used.gpa % 4 !== 0 || !used.memory.locate(used.gpa, 6 + 8 * used.size, place)) return undefined;
    const guest = this.#windows.windows[place.win]!;
    const usedIdx = guest.u16[place.off / 2 + 1]!;
    const region = this.#region(queue);
    const { u16 } = this.#mapping.window;
    const returned = u16[(region + VERSION_OFF) / 2] === 0 ? 0 : this.#returnLeft(region, used.size, guest, place.off);
    u16[(region + VERSION_OFF) / 2] = INFLIGHT_VERSION;
    u16[(region + DESC_NUM_OFF) / 2] = used.size;
    u16[(region + LAST_BATCH_HEAD_OFF) / 2] = 0;
    u16[(region + USED_IDX_OFF) / 2] = usedIdx + returned;
    return (usedIdx + returned) & 0xffff;
  }

  /** Notes that everything up to `usedIdx` has been returned, and nothing else has been taken. */
  settle(queue: number, usedIdx: number): void {
    if (queue < this.#description.queueCount)
      this.#mapping.window.u16[(this.#region(queue) + USED_IDX_OFF) / 2] = usedIdx;
  }

  close(): void {
    this.#mapping.close();
  }

  #region(queue: number): number {
    return this.#off + queue * regionBytes(this.#description.queueSize);
  }

  /** Puts the entries in flight into the used ring at `usedOff`, oldest first. Returns their number. */
  #returnLeft(region: number, size: number, guest: { u16: Uint16Array; u32: Uint32Array }, usedOff: number): number {
    const { u8, u16, u32 } = this.#mapping.window;
    const usedIdx = guest.u16[usedOff / 2 + 1]!;
    // "Subtract the value of used_idx from the idx value of used ring to get last batch size": those
    // had been returned already, only their flags were not cleared in time
    const batch = (usedIdx - u16[(region + USED_IDX_OFF) / 2]!) & 0xffff;
    for (let i = 0, head = u16[(region + LAST_BATCH_HEAD_OFF) / 2]!; i < batch && i < size && head < size; i++) {
      u8[region + DESC_OFF + head * DESC_BYTES + DESC_INFLIGHT_OFF] = 0;
      head = u16[(region + DESC_OFF + head * DESC_BYTES + DESC_NEXT_OFF) / 2]!;
    }
    const counter = (head: number) => {
      const at = (region + DESC_OFF + head * DESC_BYTES + DESC_COUNTER_OFF) / 4;
      return u32[at]! + u32[at + 1]! * 2 ** 32;
    };
    const left: number[] = [];
    for (let head = 0; head < size; head++)
      if (u8[region + DESC_OFF + head * DESC_BYTES + DESC_INFLIGHT_OFF] === 1) left.push(head);
    left.sort((a, b) => counter(a) - counter(b));
    left.forEach((head, i) => {
      const entry = usedOff / 4 + 1 + 2 * ((usedIdx + i) % size);
      guest.u32[entry] = head;
      guest.u32[entry + 1] = 0;
    });
    guest.u16[usedOff / 2 + 1] = usedIdx + left.length;
    for (const head of left) u8[region + DESC_OFF + head * DESC_BYTES + DESC_INFLIGHT_OFF] = 0;
    return left.length;
  }
}
