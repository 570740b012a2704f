/**
 * The learning table of a VALE switch: MAC address to port, with ageing.
 *
 * Set-associative: a hash names a bucket of WAYS entries. A full bucket gives up its stalest entry.
 * An address is two integers, as little-endian loads give them: `lo` its first four bytes, signed,
 * `hi` the other two.
 *
 * Unlike netmap's table it forgets (ageing, flush of a port that detaches) and relearns at once when
 * an address shows up on another port.
 */
const WAYS = 4;
const NO_PORT = 255;

export class ForwardingTable {
  readonly #buckets: number;
  readonly #lo: Int32Array;
  readonly #hi: Uint32Array;
  readonly #port: Uint8Array;
  /** second of the switch's clock when a frame last came from the address */
  readonly #seen: Uint32Array;
  /** entries that were pushed out by another address */
  evicted = 0;
  /** addresses that moved from one port to another */
  moved = 0;
  learned = 0;

  /** `entries`: a power of two, at least 4. `maxAge`: seconds without a frame after which an entry is void. */
  constructor(
    readonly entries = 4096,
    readonly maxAge = 300,
  ) {
    this.#buckets = entries / WAYS;
    this.#lo = new Int32Array(entries);
    this.#hi = new Uint32Array(entries);
    this.#port = new Uint8Array(entries).fill(NO_PORT);
    this.#seen = new Uint32Array(entries);
  }

  #bucket(hi: number, lo: number): number {
    const h = Math.imul(lo ^ (hi << 16) ^ hi, 0x9e3779b1);
    return ((h ^ (h >>> 15)) & (this.#buckets - 1)) * WAYS;
  }

  /** Notes that `port` sent from this address at second `now`. Returns the entry, a hint for `relearn`. */
  learn(hi: number, lo: number, port: number, now: number): number {
    const first = this.#bucket(hi, lo);
    let victim = first;
    for (let i = first; i < first + WAYS; i++) {
      if (this.#lo[i] === lo && this.#hi[i] === hi && this.#port[i] !== NO_PORT) {
        if (this.#port[i] !== port) {
          if (!this.#stale(i, now)) this.moved++;
          this.#port[i] = port;
        }
        this.#seen[i] = now;
        return i;
      }
      if (this.#rank(i, now) < this.#rank(victim, now)) victim = i;
    }
    if (this.#port[victim] !== NO_PORT && !this.#stale(victim, now)) this.evicted++;
    this.learned++;
    this.#lo[victim] = lo;
    this.#hi[victim] = hi;
    this.#port[victim] = port;
    this.#seen[victim] = now;
    return victim;
  }

  /** True if entry `hint` says already that the address is at `port`: it is refreshed, and learn need not search. */
  relearn(hint: number, hi: number, lo: number, port: number, now: number): boolean {
    if (this.#lo[hint] !== lo || this.#hi[hint] !== hi || this.#port[hint] !== port) return false;
    this.#seen[hint] = now;
    return true;
  }

  /** Entry of an address, or -1 when it is unknown or its entry too old. */
  find(hi: number, lo: number, now: number): number {
    const first = this.#bucket(hi, lo);
    for (let i = first; i < first + WAYS; i++) if (this.holds(i, hi, lo, now)) return i;
    return -1;
  }

  /** True if `entry` is that of the address, and valid. */
  holds(entry: number, hi: number, lo: number, now: number): boolean {
    return (
      this.#lo[entry] === lo && this.#hi[entry] === hi && this.#port[entry] !== NO_PORT && !this.#stale(entry, now)
    );
  }

  portOf(entry: number): number {
    return this.#port[entry]!;
  }

  /** Forgets every address of a port. */
  flush(port: number): void {
    for (let i = 0; i < this.entries; i++) if (this.#port[i] === port) this.#port[i] = NO_PORT;
  }

  /** The valid entries, for people. */
  list(now: number): { mac: string; port: number; ageSec: number }[] {
    const out: { mac: string; port: number; ageSec: number }[] = [];
    for (let i = 0; i < this.entries; i++) {
      if (this.#port[i] === NO_PORT || this.#stale(i, now)) continue;
      const lo = this.#lo[i]!;
      const hi = this.#hi[i]!;
      const bytes = [lo & 255, (lo >>> 8) & 255, (lo >>> 16) & 255, lo >>> 24, hi & 255, hi >>> 8];
      const mac = bytes.map((b) => b.toString(16).padStart(2, '0')).join(':');
      out.push({ mac, port: this.#port[i]!, ageSec: now - this.#seen[i]! });
    }
    return out;
  }

  #stale(i: number, now: number): boolean {
    return now - this.#seen[i]! > this.maxAge;
  }

  /** Free entries go first, then the stalest. */
  #rank(i: number, now: number): number {
    return this.#port[i] === NO_PORT ? -1 : 2 ** 32 - (now - this.#seen[i]!);
  }
}
