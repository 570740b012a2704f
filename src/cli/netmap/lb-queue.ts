/** A queue of slots that wait for room in a pipe of lb: buffer index, length with flags, and hash of each. */

const WORDS = 3;

export class OverflowQueue {
  readonly #words: Uint32Array;
  #head = 0;
  #count = 0;

  constructor(readonly size: number) {
    this.#words = new Uint32Array(Math.max(1, size) * WORDS);
  }

  get count(): number {
    return this.#count;
  }

  get full(): boolean {
    return this.#count >= this.size;
  }

  /** There must be room. */
  push(bufIdx: number, lenAndFlags: number, hash: number): void {
    const at = ((this.#head + this.#count++) % this.size) * WORDS;
    this.#words[at] = bufIdx;
    this.#words[at + 1] = lenAndFlags;
    this.#words[at + 2] = hash;
  }

  // the oldest one: there must be one

  get bufIdx(): number {
    return this.#words[this.#head * WORDS]!;
  }

  get lenAndFlags(): number {
    return this.#words[this.#head * WORDS + 1]!;
  }

  get hash(): number {
    return this.#words[this.#head * WORDS + 2]!;
  }

  drop(): void {
    this.#head = (this.#head + 1) % this.size;
    this.#count--;
  }

  /** Length and flags of the newest one, 0 when there is none. */
  get newest(): number {
    return this.#count === 0 ? 0 : this.#words[this.#last * WORDS + 1]!;
  }

  /** Takes the newest one out again. Returns its buffer. */
  popNewest(): number {
    const idx = this.#words[this.#last * WORDS]!;
    this.#count--;
    return idx;
  }

  get #last(): number {
    return (this.#head + this.#count - 1) % this.size;
  }
}
