/** pkt-gen -f rx and rxseq: empties receive rings. */
import { NS_MOREFRAG } from '../../netmap/abi.js';
import { POLLERR, POLLIN } from '../../netmap/port-socket/poll.js';
import type { NetmapRing } from '../../netmap/ring.js';
import { be32 } from '../../wire/bytes.js';
import { ETH_HDR_LEN, ETHERTYPE_IPV4 } from '../../wire/ethernet.js';
import { IPV4_MIN_HDR_LEN } from '../../wire/ipv4.js';
import { IPV6_HDR_LEN } from '../../wire/ipv6.js';
import { UDP_HDR_LEN } from '../../wire/udp.js';
import { C_MIN_SPACE, nowMs } from './pkt-gen-counters.js';
import { OPT_DUMP } from './pkt-gen-options.js';
import { begin, count, dumpSlot, finish, type PktGenThread, packetsOfThread } from './pkt-gen-thread.js';

/** Without -W nothing ends the wait; with it this much silence does. */
const SILENCE_MS = 1000;

/** What receiver and sequence receiver do with a ring's frames. */
interface Taker {
  readonly name: string;
  /** Takes up to `limit` slots. */
  take(ring: NetmapRing, index: number, limit: number): void;
  readonly pkts: number;
  readonly bytes: number;
}

class Counter implements Taker {
  readonly name = 'receiver_body';
  pkts = 0;
  bytes = 0;
  readonly #thread: PktGenThread;
  readonly #dump: boolean;

  constructor(thread: PktGenThread) {
    this.#thread = thread;
    this.#dump = (thread.options.options & OPT_DUMP) !== 0;
  }

  /** The loop that decides how fast pkt-gen is. */
  take(ring: NetmapRing, _index: number, limit: number): void {
    const { u32, slotWord, numSlots } = ring;
    let slot = ring.head;
    let bytes = 0;
    let pkts = 0;
    for (let i = 0; i < limit; i++) {
      const word = u32[slotWord + slot * 4 + 1]!;
      if (this.#dump) dumpSlot(this.#thread, ring, slot);
      bytes += word & 0xffff;
      if ((word & (NS_MOREFRAG << 16)) === 0) pkts++;
      slot = slot + 1 === numSlots ? 0 : slot + 1;
    }
    ring.cur = slot;
    ring.head = slot;
    this.bytes += bytes;
    this.pkts += pkts;
  }
}

class SequenceChecker implements Taker {
  readonly name = 'rxseq_body';
  pkts = 0;
  bytes = 0;
  readonly #thread: PktGenThread;
  /** next number by ring; -1 before the first */
  readonly #expected: Float64Array;
  #frags = 0;
  #fragsExpected = 0;
  #saidAt = 0;
  #said = 0;

  constructor(thread: PktGenThread) {
    this.#thread = thread;
    this.#expected = new Float64Array(thread.port.rxRings.length).fill(-1);
  }

  take(ring: NetmapRing, index: number, limit: number): void {
    let slot = ring.head;
    for (let i = 0; i < limit; i++) {
      dumpSlot(this.#thread, ring, slot);
      this.#checkFrags(ring, slot);
      this.#checkSequence(ring, slot, index);
      this.bytes += ring.len(slot);
      this.pkts++;
      slot = ring.next(slot);
    }
    ring.cur = slot;
    ring.head = slot;
  }

  #checkFrags(ring: NetmapRing, slot: number): void {
    this.#frags++;
    if ((ring.slotFlags(slot) & NS_MOREFRAG) !== 0) return;
    if (this.#fragsExpected !== 0 && this.#frags !== this.#fragsExpected)
      this.#say(`Received packets with ${this.#frags} frags, expected ${this.#fragsExpected}`);
    this.#fragsExpected = this.#frags;
    this.#frags = 0;
  }

  #checkSequence(ring: NetmapRing, slot: number, index: number): void {
    const { u8 } = ring.window;
    const ether = ring.slotOff(slot) + this.#thread.port.vnetHdrLen;
    const len = Math.min(ring.len(slot), ring.bufSize) - this.#thread.port.vnetHdrLen;
    const v4 = ((u8[ether + 12]! << 8) | u8[ether + 13]!) === ETHERTYPE_IPV4;
    const at = ETH_HDR_LEN + (v4 ? IPV4_MIN_HDR_LEN : IPV6_HDR_LEN) + UDP_HDR_LEN;
    if (len < at + 4) {
      this.#say(`rxseq_body: packet too small (len=${ring.len(slot)})`);
      return;
    }
    const sequence = be32(u8, ether + at);
    const expected = this.#expected[index]!;
    if (expected >= 0 && sequence !== expected) {
      const ahead = (sequence - expected) >>> 0 < 0x7fffffff;
      this.#say(`Sequence ${ahead ? 'GAP' : 'OUT OF ORDER'}: exp ${expected} found ${sequence}`);
    }
    this.#expected[index] = (sequence + 1) >>> 0;
  }

  /** Twice a second at most. */
  #say(text: string): void {
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#saidAt) this.#said = 0;
    this.#saidAt = second;
    if (this.#said++ < 2) this.#thread.say(this.name, text);
  }
}

export function receiver(thread: PktGenThread): boolean {
  return receive(thread, new Counter(thread), packetsOfThread(thread));
}

export function sequenceReceiver(thread: PktGenThread): boolean {
  return receive(thread, new SequenceChecker(thread), 0);
}

function receive(thread: PktGenThread, taker: Taker, wanted: number): boolean {
  const { options, port, poll, counters } = thread;
  const entry = poll.entries[0]!;
  entry.events = POLLIN;
  thread.say(taker.name, `reading from ${options.interface}`);
  if (!waitForFirst(thread, taker.name)) {
    finish(thread);
    return thread.cancelled();
  }
  begin(thread);
  let events = 0;
  let end: number | undefined;
  while (!thread.cancelled() && (wanted === 0 || taker.pkts < wanted)) {
    const from = nowMs();
    if (poll.poll(SILENCE_MS) === 0 && !options.forever && nowMs() - from >= SILENCE_MS) {
      end = from;
      break;
    }
    if ((entry.revents & (POLLERR | POLLIN)) === POLLERR) {
      thread.say(taker.name, `the fabric has closed port ${port.name}`);
      break;
    }
    let free = 0;
    for (let i = 0; i < port.rxRings.length; i++) {
      const ring = port.rxRings[i]!;
      const space = ring.space();
      free += ring.numSlots - space;
      if (space === 0) continue;
      taker.take(ring, i, Math.min(space, options.burst));
      events++;
    }
    if (free < counters[C_MIN_SPACE]!) counters[C_MIN_SPACE] = free;
    count(counters, taker.pkts, taker.bytes, events);
  }
  port.rxsync();
  finish(thread, end);
  return true;
}

/** For as long as it takes; with -W one look, as the first poll finds nothing. */
function waitForFirst(thread: PktGenThread, fn: string): boolean {
  const { poll } = thread;
  while (!thread.cancelled()) {
    if (poll.poll(SILENCE_MS) > 0) {
      const { revents } = poll.entries[0]!;
      if ((revents & POLLIN) !== 0) return true;
      thread.say(fn, 'poll() error: the fabric has closed the port');
      return false;
    }
    if (!thread.cancelled()) thread.say(fn, 'waiting for initial packets, poll returns 0 0');
  }
  return false;
}
