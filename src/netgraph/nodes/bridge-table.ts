/**
 * The hosts that a bridge knows: Ethernet address to link, since when and last heard when.
 *
 * Set-associative: a hash names a bucket of four entries. The original's table grows with every address that
 * a guest makes up; this one is bounded, and a full bucket gives up the host that was silent longest. An
 * address is two integers as little-endian loads give them: `lo` its first four bytes, signed, `hi` the other two.
 * The entries lie in a window, where the kernel's `bridge` reads and refreshes them. Links are numbered from 1.
 */
import type { Mapping, Window, WindowPool } from '../../memory/window.js';

const BUCKETS = 4096;
const WAYS = 4;
// an entry's words
const WORDS = 8;
const LO = 0;
const HI = 1;
const LINK = 2;
const SINCE = 3;
const SEEN = 4;
/** link of a free entry: memory that was never written is free */
const FREE = 0;

export interface BridgeHost {
  addr: string;
  link: number;
  ageSec: number;
  staleSec: number;
}

export class BridgeTable {
  readonly window: Window;
  /** offset of the entries in the window */
  readonly off: number;
  readonly #mapping: Mapping;
  readonly #words: Int32Array;
  /** hosts that were pushed out by another one */
  evicted = 0;

  constructor(pool: WindowPool) {
    this.#mapping = pool.mapAnonymous(BUCKETS * WAYS * WORDS * 4, 'netgraph bridge');
    this.window = this.#mapping.window;
    this.off = this.#mapping.off;
    this.#words = new Int32Array(this.window.u8.buffer, this.off, BUCKETS * WAYS * WORDS);
  }

  close(): void {
    this.#mapping.close();
  }

  /** The entry of an address, or -1. A host that was silent for `maxStaleness` seconds is forgotten here. */
  find(hi: number, lo: number, now: number, maxStaleness: number): number {
    const words = this.#words;
    const first = bucketOf(hi, lo);
    for (let e = first; e < first + WAYS * WORDS; e += WORDS) {
      if (words[e] !== lo || words[e + HI] !== hi || words[e + LINK] === FREE) continue;
      if (now - words[e + SEEN]! < maxStaleness) return e;
      words[e + LINK] = FREE;
      return -1;
    }
    return -1;
  }

  /** Adds an address that is not there. */
  add(hi: number, lo: number, link: number, now: number): void {
    const words = this.#words;
    const first = bucketOf(hi, lo);
    let victim = first;
    for (let e = first; e < first + WAYS * WORDS; e += WORDS) {
      if (words[e + LINK] === FREE) {
        victim = e;
        break;
      }
      if (words[e + SEEN]! < words[victim + SEEN]!) victim = e;
    }
    if (words[victim + LINK] !== FREE) this.evicted++;
    words[victim + LO] = lo;
    words[victim + HI] = hi;
    this.move(victim, link, now);
    words[victim + SEEN] = now;
  }

  /** Puts a host on another link: it is new there. */
  move(e: number, link: number, now: number): void {
    this.#words[e + LINK] = link;
    this.#words[e + SINCE] = now;
  }

  linkOf(e: number): number {
    return this.#words[e + LINK]!;
  }

  /** Seconds since the host came to its link. */
  ageOf(e: number, now: number): number {
    return now - this.#words[e + SINCE]!;
  }

  heard(e: number, now: number): void {
    this.#words[e + SEEN] = now;
  }

  /** Forgets the hosts of a link. */
  removeLink(link: number): void {
    const words = this.#words;
    for (let e = 0; e < words.length; e += WORDS) if (words[e + LINK] === link) words[e + LINK] = FREE;
  }

  clear(): void {
    const words = this.#words;
    for (let e = 0; e < words.length; e += WORDS) words[e + LINK] = FREE;
  }

  list(now: number, maxStaleness: number): BridgeHost[] {
    const words = this.#words;
    const hosts: BridgeHost[] = [];
    for (let e = 0; e < words.length; e += WORDS) {
      const staleSec = now - words[e + SEEN]!;
      if (words[e + LINK] === FREE || staleSec >= maxStaleness) continue;
      const addr = formatAddress(words[e + HI]!, words[e + LO]!);
      hosts.push({ addr, link: words[e + LINK]!, ageSec: this.ageOf(e, now), staleSec });
    }
    return hosts;
  }
}

/** First entry of an address's bucket. */
function bucketOf(hi: number, lo: number): number {
  const h = Math.imul(lo ^ (hi << 16) ^ hi, 0x9e3779b1);
  return ((h ^ (h >>> 15)) & (BUCKETS - 1)) * (WAYS * WORDS);
}

function formatAddress(hi: number, lo: number): string {
  const bytes = [lo & 255, (lo >>> 8) & 255, (lo >>> 16) & 255, lo >>> 24, hi & 255, hi >>> 8];
  return bytes.map((b) => b.toString(16).padStart(2, '0')).join(':');
}

/** `hi` and `lo` of an address in text. */
export function addressWords(addr: string): { hi: number; lo: number } {
  const b = addr.split(':').map((part) => Number.parseInt(part, 16)) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  return { hi: b[4] | (b[5] << 8), lo: b[0] | (b[1] << 8) | (b[2] << 16) | (b[3] << 24) };
}
