/** The statistics registers (manual §13.7): they count up to their greatest value and stay there until they are read. */
import * as R from './registers.js';

/** bytes of the frame check sequence, which all octet counts include */
export const FCS_LEN = 4;

export class Statistics {
  readonly #words: Uint32Array;

  constructor(words: Uint32Array) {
    this.#words = words;
  }

  /** Adds to the register at `offset`. */
  count(offset: number, n = 1): void {
    const at = offset >> 2;
    this.#words[at] = Math.min(this.#words[at]! + n, 0xffffffff);
  }

  /** `n` frames of `len` bytes (without frame check sequence) were received; `first` is byte 0 of the address. */
  received(len: number, first: number, broadcast: boolean): void {
    this.#sized(R.PRC64, len, 1);
    this.count(R.GPRC);
    this.count(R.TPR);
    if (broadcast) this.count(R.BPRC);
    else if ((first & 1) !== 0) this.count(R.MPRC);
    this.#add64(R.GORCL, len + FCS_LEN);
    this.#add64(R.TORL, len + FCS_LEN);
  }

  transmitted(n: number, len: number, first: number, broadcast: boolean): void {
    this.#sized(R.PTC64, len, n);
    this.count(R.GPTC, n);
    this.count(R.TPT, n);
    if (broadcast) this.count(R.BPTC, n);
    else if ((first & 1) !== 0) this.count(R.MPTC, n);
    this.#add64(R.GOTCL, (len + FCS_LEN) * n);
    this.#add64(R.TOTL, (len + FCS_LEN) * n);
  }

  /** The six registers by length begin at `first`: 64, to 127, 255, 511, 1023 and above. */
  #sized(first: number, len: number, n: number): void {
    const size = len + FCS_LEN;
    const step = size <= 64 ? 0 : size < 128 ? 1 : size < 256 ? 2 : size < 512 ? 3 : size < 1024 ? 4 : 5;
    this.count(first + 4 * step, n);
  }

  #add64(low: number, n: number): void {
    const at = low >> 2;
    const sum = this.#words[at]! + n;
    const carry = Math.floor(sum / 0x100000000);
    const high = this.#words[at + 1]! + carry;
    if (high > 0xffffffff) {
      this.#words[at] = 0xffffffff;
      this.#words[at + 1] = 0xffffffff;
      return;
    }
    this.#words[at] = sum;
    this.#words[at + 1] = high;
  }
}
