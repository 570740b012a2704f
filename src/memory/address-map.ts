/**
 * Guest-physical addresses, and where in which window they lie. The data path's side of guest memory: what maps regions
 * settles which pieces there are.
 */
import type { Iovec } from './iovec.js';
import type { Mapping } from './window.js';

/** A run of guest-physical addresses that lies in one window. */
export interface Piece {
  readonly gpa: number;
  readonly size: number;
  readonly mapping: Mapping;
  readonly off: number;
  /** what lies here is a copy, and the guest's memory is reached by messages */
  readonly remote?: boolean;
  /** with `remote`: what is written to the copy stays there */
  readonly readOnly?: boolean;
}

/** Where something contiguous lies; reused by the caller. */
export interface Place {
  win: number;
  off: number;
}

export class AddressMap {
  // [start, end) in guest-physical addresses, where in which window
  #starts = new Float64Array(0);
  #ends = new Float64Array(0);
  #wins = new Uint8Array(0);
  #offs = new Float64Array(0);
  #remote = new Uint8Array(0);
  #readOnly = new Uint8Array(0);
  #mappings: readonly Mapping[] = [];
  /** piece of the last hit: most guests have one that matters */
  #last = 0;
  /** the largest piece: guest-physical [mainStart, mainEnd) begins at mainOff in window mainWin (-1: none) */
  mainStart = 0;
  mainEnd = 0;
  mainOff = 0;
  mainWin = -1;

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

  /** Whether what lies at `gpa` is a copy of memory that is reached by messages. */
  isRemote(gpa: number): boolean {
    const i = this.#find(gpa);
    return i >= 0 && this.#remote[i] === 1;
  }

  /** Whether that memory may only be read. */
  isReadOnly(gpa: number): boolean {
    const i = this.#find(gpa);
    return i >= 0 && this.#readOnly[i] === 1;
  }

  /** The mapping that `gpa` lies in; another one when the memory there is another. */
  mappingAt(gpa: number): Mapping | undefined {
    return this.#mappings[this.#find(gpa)];
  }

  /**
   * The first run of [gpa, gpa + len) that lies in one piece: its length is returned, and `place` is where it is. 0: `gpa` lies nowhere.
   */
  run(gpa: number, len: number, place: Place): number {
    const i = this.#find(gpa);
    if (i < 0) return 0;
    place.win = this.#wins[i] as number;
    place.off = gpa - (this.#starts[i] as number) + (this.#offs[i] as number);
    return Math.min(len, (this.#ends[i] as number) - gpa);
  }

  /** These pieces, which do not overlap, from now on. */
  setPieces(unsorted: readonly Piece[]): void {
    const pieces = [...unsorted].sort((a, b) => b.size - a.size);
    this.#starts = Float64Array.from(pieces, (p) => p.gpa);
    this.#ends = Float64Array.from(pieces, (p) => p.gpa + p.size);
    this.#wins = Uint8Array.from(pieces, (p) => p.mapping.window.index);
    this.#offs = Float64Array.from(pieces, (p) => p.off);
    this.#remote = Uint8Array.from(pieces, (p) => (p.remote === true ? 1 : 0));
    this.#readOnly = Uint8Array.from(pieces, (p) => (p.readOnly === true ? 1 : 0));
    this.#mappings = pieces.map((p) => p.mapping);
    this.#last = 0;
    const main = pieces[0];
    this.mainStart = main?.gpa ?? 0;
    this.mainEnd = main === undefined ? 0 : main.gpa + main.size;
    this.mainOff = main?.off ?? 0;
    this.mainWin = main?.mapping.window.index ?? -1;
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
}
