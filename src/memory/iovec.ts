/**
 * A reusable scatter-gather list (struct iovec): pieces of memory windows, in order.
 *
 * Hot code reads and writes the arrays directly: `win[i]` is the index of the window, `off[i]` the
 * offset in it, `len[i]` the bytes. [0, count) is in use.
 */
export class Iovec {
  readonly win: Uint8Array;
  readonly off: Uint32Array;
  readonly len: Uint32Array;
  count = 0;
  /** bytes in all */
  total = 0;

  constructor(readonly capacity: number) {
    this.win = new Uint8Array(capacity);
    this.off = new Uint32Array(capacity);
    this.len = new Uint32Array(capacity);
  }

  clear(): void {
    this.count = 0;
    this.total = 0;
  }

  /** false, and nothing added, when the list is full */
  push(win: number, off: number, len: number): boolean {
    const i = this.count;
    if (i >= this.capacity) return false;
    this.win[i] = win;
    this.off[i] = off;
    this.len[i] = len;
    this.count = i + 1;
    this.total += len;
    return true;
  }
}
