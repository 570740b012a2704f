/**
 * Windows: the views through which all mapped memory is read and written.
 *
 * A window is the buffer of a WebAssembly memory, 4 GiB of address space of which nothing is
 * committed. Memory that guests share is mapped over parts of it (MAP_FIXED), so that
 *  - one set of typed arrays reaches the memory of every guest in that window: hot functions stay
 *    monomorphic and copies between two guests are one `memory.copy` (8 ns at 64 B, where
 *    `set(subarray)` takes over 100);
 *  - any offset in [0, 4 GiB) is backed by memory at any time: an address that outlives its mapping
 *    reads zeros instead of ending the process.
 * More guests than fit one window get further windows; see copy.ts for copies between two.
 */
import { NetbeError } from '../errors.js';
import {
  addressOf,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  PROT_READ,
  PROT_WRITE,
} from '../sys/mman.js';
import { instantiateKernel, type MemoryKernel } from './kernel.js';

const PAGE = 65536; // of WebAssembly; a multiple of every base page size of Linux
export const WINDOW_BYTES = 2 ** 32;

/** The first page holds nothing: offset 0 can say "none". The last stays free so that no mapping ends at 2^32. */
const FIRST_OFF = PAGE;
const LAST_OFF = WINDOW_BYTES - PAGE;

export class Window {
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  /** native address of offset 0 */
  readonly addr: number;
  /** copies within this window: see kernel.ts */
  readonly kernel: MemoryKernel;
  readonly #memory: WebAssembly.Memory;
  /** [start, end) of each range in use, sorted */
  readonly #used: { start: number; end: number }[] = [];

  constructor(
    readonly index: number,
    readonly byteLength: number,
  ) {
    const pages = byteLength / PAGE;
    this.#memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const { buffer } = this.#memory;
    this.u8 = new Uint8Array(buffer);
    this.u16 = new Uint16Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.addr = addressOf(this.u8);
    this.kernel = instantiateKernel(this.#memory);
  }

  /** Offset of a free range whose native address is a multiple of `align`, or -1. First fit. */
  reserve(length: number, align: number): number {
    let start = this.#alignUp(FIRST_OFF, align);
    let at = 0;
    for (; at < this.#used.length; at++) {
      const used = this.#used[at] as { start: number; end: number };
      if (start + length <= used.start) break;
      start = this.#alignUp(used.end, align);
    }
    if (start + length > Math.min(LAST_OFF, this.byteLength)) return -1;
    this.#used.splice(at, 0, { start, end: start + length });
    return start;
  }

  release(start: number): void {
    const at = this.#used.findIndex((r) => r.start === start);
    if (at >= 0) this.#used.splice(at, 1);
  }

  get inUse(): boolean {
    return this.#used.length > 0;
  }

  /** Ranges in use: what a leak test compares. */
  get rangeCount(): number {
    return this.#used.length;
  }

  #alignUp(off: number, align: number): number {
    const addr = this.addr + off;
    return off + ((align - (addr % align)) % align);
  }
}

/** A range of a window that is backed by a file's memory or by anonymous memory. */
export class Mapping {
  #closed = false;

  constructor(
    readonly window: Window,
    /** offset of the first byte in the window */
    readonly off: number,
    /** bytes that may be used; the mapping itself is rounded up to whole pages */
    readonly length: number,
    readonly mappedLength: number,
  ) {}

  /** native address of the first byte */
  get addr(): number {
    return this.window.addr + this.off;
  }

  /** Puts zero-filled private memory in its place: the window never has a hole. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    mmap(this.addr, this.mappedLength, PROT_READ | PROT_WRITE, flags, -1, 0, 'window');
    this.window.release(this.off);
  }
}

export interface MapFileOptions {
  fd: number;
  /** offset in the file; a multiple of `pageSize` */
  fileOffset: number;
  length: number;
  /** page size of the file's file system: 4096, or that of its huge pages */
  pageSize: number;
  /** what is written stays in this process (MAP_PRIVATE); the descriptor may be one for reading only */
  copyOnWrite?: boolean;
  subject?: string;
}

export class WindowPool {
  readonly windows: Window[] = [];
  readonly #windowBytes: number;

  /** `windowBytes`: smaller windows, for tests and for address-space limits (multiple of 64 KiB) */
  constructor(windowBytes: number = WINDOW_BYTES) {
    this.#windowBytes = windowBytes;
  }

  /** Largest piece that one window can hold; longer memory must be mapped in several pieces. */
  get maxPiece(): number {
    // 1 GiB of slack lets any page size up to 1 GiB be aligned
    return this.#windowBytes >= WINDOW_BYTES ? 3 * 2 ** 30 - PAGE * 2 : this.#windowBytes - 2 * PAGE;
  }

  /** Maps part of a file, writable, and shared unless asked otherwise. Throws NetbeError. */
  mapFile(options: MapFileOptions): Mapping {
    const { fd, fileOffset, length, pageSize, copyOnWrite = false, subject } = options;
    const flags = copyOnWrite ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
    return this.#map(length, pageSize, flags, fd, fileOffset, subject);
  }

  /** Zero-filled memory of our own, for rings and scratch. */
  mapAnonymous(length: number, subject?: string): Mapping {
    return this.#map(length, PAGE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, subject);
  }

  #map(length: number, pageSize: number, flags: number, fd: number, fileOffset: number, subject?: string): Mapping {
    const mappedLength = Math.ceil(length / pageSize) * pageSize;
    const { window, off } = this.#reserve(mappedLength, Math.max(pageSize, 4096), subject);
    try {
      mmap(window.addr + off, mappedLength, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, fileOffset, subject);
    } catch (error) {
      // a failed MAP_FIXED may have removed what was there
      const anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
      mmap(window.addr + off, mappedLength, PROT_READ | PROT_WRITE, anonymous, -1, 0, 'window');
      window.release(off);
      throw error;
    }
    return new Mapping(window, off, length, mappedLength);
  }

  #reserve(length: number, align: number, subject?: string): { window: Window; off: number } {
    for (const window of this.windows) {
      const off = window.reserve(length, align);
      if (off >= 0) return { window, off };
    }
    const window = this.#addWindow(subject);
    const off = window.reserve(length, align);
    if (off < 0)
      throw new NetbeError(`${length} bytes do not fit a memory window of ${window.byteLength}`, {
        code: 'ENOMEM',
        kind: 'environment',
        subject,
      });
    this.windows.push(window);
    return { window, off };
  }

  #addWindow(subject?: string): Window {
    if (this.windows.length === 255)
      throw new NetbeError('255 memory windows are in use', { code: 'ENOMEM', kind: 'environment', subject });
    try {
      return new Window(this.windows.length, this.#windowBytes);
    } catch (cause) {
      throw new NetbeError(`no address space for a memory window of ${this.#windowBytes} bytes`, {
        code: 'ENOMEM',
        kind: 'environment',
        subject,
        remedy: 'Raise the address space limit (ulimit -v), or set vm.overcommit_memory to 0 or 1.',
        cause,
      });
    }
  }
}
