/**
 * The learning table of a VALE switch: MAC address to port, with ageing.
 *
 * Set-associative: a hash names a bucket of four entries, a cache line. A full bucket gives up its
 * stalest entry. An address is two integers, as little-endian loads give them: `lo` its first four
 * bytes, signed, `hi` the other two. The entries lie in a window, where the kernel's `forward` reads
 * and refreshes them; whatever it does not find it leaves to the functions here.
 *
 * Unlike netmap's table it forgets (ageing, flush of a port that detaches) and relearns at once when
 * an address shows up on another port.
 */
import type { Mapping, Window, WindowPool } from '../../memory/window.js';

const WAYS = 4;
/** port of a free entry: beyond any port's index */
const NO_PORT = 255;
// an entry's words
const WORDS = 4;
const LO = 0;
const HI = 1;
const PORT = 2;
const SEEN = 3;

export class ForwardingTable {
  readonly window: Window;
  /** offset of the entries in the window */
  readonly off: number;
  readonly bucketMask: number;
  /** addresses that were pushed out by another one */
  evicted = 0;
  /** addresses that moved from one port to another */
  moved = 0;
  learned = 0;
  readonly #mapping: Mapping;
  /** four words an entry: lo, hi, port, and the second of the switch's clock when it was last seen */
  readonly #words: Int32Array;

  /** `entries`: a power of two, at least 4. `maxAge`: seconds without a frame after which an entry is void. */
  constructor(
    pool: WindowPool,
    readonly entries = 4096,
    readonly maxAge = 300,
  ) {
    this.#mapping = pool.mapAnonymous(entries * WORDS * 4);
    this.window = this.#mapping.window;
    this.off = this.#mapping.off;
    this.bucketMask = entries / WAYS - 1;
    this.#words = new Int32Array(this.window.u8.buffer, this.off, entries * WORDS);
    for (let i = 0; i < entries; i++) this.#words[i * WORDS + PORT] = NO_PORT;
  }

  close(): void {
    this.#mapping.close();
  }

  /** First entry of an address's bucket. */
  #bucket(hi: number, lo: number): number {
    const h = Math.imul(lo ^ (hi << 16) ^ hi, 0x9e3779b1);
    return ((h ^ (h >>> 15)) & this.bucketMask) * WAYS;
  }

  /** Notes that `port` sent from this address at second `now`. */
  learn(hi: number, lo: number, port: number, now: number): void {
    const words = this.#words;
    const first = this.#bucket(hi, lo);
    let victim = first;
    for (let i = first; i < first + WAYS; i++) {
      if (this.#matches(i, hi, lo)) {
        if (this.portOf(i) !== port && !this.#stale(i, now)) this.moved++;
        words[i * WORDS + PORT] = port;
        words[i * WORDS + SEEN] = now;
        return;
      }
      if (this.#rank(i, now) < this.#rank(victim, now)) victim = i;
    }
    if (this.portOf(victim) !== NO_PORT && !this.#stale(victim, now)) this.evicted++;
    this.learned++;
    words[victim * WORDS + LO] = lo;
    words[victim * WORDS + HI] = hi;
    words[victim * WORDS + PORT] = port;
    words[victim * WORDS + SEEN] = now;
  }

  /** Port of an address, or -1 when it is unknown or its entry too old. */
  lookup(hi: number, lo: number, now: number): number {
    const first = this.#bucket(hi, lo);
    for (let i = first; i < first + WAYS; i++)
      if (this.#matches(i, hi, lo)) return this.#stale(i, now) ? -1 : this.portOf(i);
    return -1;
  }

  /** Forgets every address of a port. */
  flush(port: number): void {
    for (let i = 0; i < this.entries; i++) if (this.portOf(i) === port) this.#words[i * WORDS + PORT] = NO_PORT;
  }

  /** The valid entries, for people. */
  list(now: number): { mac: string; port: number; ageSec: number }[] {
    const out: { mac: string; port: number; ageSec: number }[] = [];
    for (let i = 0; i < this.entries; i++) {
      if (this.portOf(i) === NO_PORT || this.#stale(i, now)) continue;
      const lo = this.#words[i * WORDS + LO]!;
      const hi = this.#words[i * WORDS + HI]!;
      const bytes = [lo & 255, (lo >>> 8) & 255, (lo >>> 16) & 255, lo >>> 24, hi & 255, hi >>> 8];
      const mac = bytes.map((b) => b.toString(16).padStart(2, '0')).join(':');
      out.push({ mac, port: this.portOf(i), ageSec: now - this.#words[i * WORDS + SEEN]! });
    }
    return out;
  }

  portOf(i: number): number {
    return this.#words[i * WORDS + PORT]!;
  }

  #matches(i: number, hi: number, lo: number): boolean {
    const words = this.#words;
    const at = i * WORDS;
    return words[at + LO] === lo && words[at + HI] === hi && words[at + PORT] !== NO_PORT;
  }

  #stale(i: number, now: number): boolean {
    return now - this.#words[i * WORDS + SEEN]! > this.maxAge;
  }

  /** Free entries go first, then the stalest. */
  #rank(i: number, now: number): number {
    return this.portOf(i) === NO_PORT ? -1 : 2 ** 32 - (now - this.#words[i * WORDS + SEEN]!);
  }
}
