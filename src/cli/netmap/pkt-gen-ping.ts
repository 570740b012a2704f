/** pkt-gen -f ping and pong: round trips, with a histogram of their times by powers of two. */
import { NS_BUF_CHANGED } from '../../netmap/abi.js';
import { POLLIN } from '../../netmap/port-socket/poll.js';
import type { NetmapRing } from '../../netmap/ring.js';
import { be16, be32, setBe32 } from '../../wire/bytes.js';
import { ETH_HDR_LEN, ETHERTYPE_IPV4 } from '../../wire/ethernet.js';
import { IPV4_MIN_HDR_LEN, IPV4_SRC } from '../../wire/ipv4.js';
import { UDP_HDR_LEN } from '../../wire/udp.js';
import { begin, count, Frame, finish, Pacer, type PktGenThread, waitFor } from './pkt-gen-thread.js';

/** behind the UDP header: sequence number, seconds, nanoseconds */
const STAMP_OFF = ETH_HDR_LEN + IPV4_MIN_HDR_LEN + UDP_HDR_LEN;
const STAMP_LEN = 12;
const ANSWER_MS = 3000;
const REPORT_MS = 1000;

/** Times in nanoseconds, by the power of two that they reach. */
class RttHistogram {
  readonly buckets = new Array<number>(53).fill(0);
  count = 0;
  sum = 0;
  min = Number.POSITIVE_INFINITY;

  add(ns: number): void {
    this.count++;
    this.sum += ns;
    if (ns < this.min) this.min = ns;
    this.buckets[ns < 1 ? 0 : Math.floor(Math.log2(ns))]!++;
  }

  get average(): number {
    return this.count === 0 ? 0 : this.sum / this.count;
  }

  lines(): [string, string] {
    const low = this.buckets.findIndex((n) => n > 0);
    const high = this.buckets.findLastIndex((n) => n > 0);
    const counts = this.buckets.slice(low, high + 1).map((n) => ` ${String(n).padStart(5)}`);
    return [
      `count ${this.count} RTT: min ${Math.floor(this.min)} av ${Math.floor(this.average)} ns`,
      `k: ${2 ** low} .. ${2 ** high}\n\t${counts.join('')}`,
    ];
  }
}

export function ping(thread: PktGenThread): boolean {
  const { options, counters, poll } = thread;
  if (!alone(thread, 'ping_body', 'can only ping with 1 thread')) return false;
  if (options.size < STAMP_OFF + STAMP_LEN) {
    thread.say(
      'ping_body',
      `packets of ${options.size} bytes have no room for a time stamp: -l ${STAMP_OFF + STAMP_LEN}`,
    );
    return false;
  }
  const frame = new Frame(thread);
  const pacer = new Pacer(options);
  const all = new RttHistogram();
  let recent = new RttHistogram();
  let reportAt = performance.now() + REPORT_MS;
  let sent = 0;
  let events = 0;
  let good = true;
  begin(thread);
  while (!thread.cancelled() && (options.packets === 0 || sent < options.packets)) {
    pacer.wait(poll, thread.cancelled);
    const most = pacer.limited ? Math.max(pacer.budget, 1) : options.burst;
    const n = sendPings(thread, frame, options.packets === 0 ? most : Math.min(most, options.packets - sent), sent);
    if (n > 0) events++;
    sent += n;
    pacer.budget -= n;
    count(counters, sent, sent * frame.size, events);
    if (!waitFor(thread, 'ping_body', POLLIN, ANSWER_MS)) {
      good = thread.cancelled();
      break;
    }
    takeAnswers(thread, (ns) => {
      all.add(ns);
      recent.add(ns);
    });
    if (performance.now() < reportAt || recent.count === 0) continue;
    for (const line of recent.lines()) thread.say('ping_body', line);
    recent = new RttHistogram();
    reportAt = performance.now() + REPORT_MS;
  }
  if (recent.count > 0) for (const line of recent.lines()) thread.say('ping_body', line);
  if (sent > 0) {
    const min = all.count === 0 ? 0 : Math.floor(all.min);
    thread.say('ping_body', `RTT over ${sent} packets: min ${min} av ${Math.floor(all.average)} ns`);
  }
  finish(thread);
  frame.close();
  return good;
}

function sendPings(thread: PktGenThread, frame: Frame, limit: number, sequence: number): number {
  const { port } = thread;
  const ring = port.txRings[0]!;
  const n = Math.min(limit, ring.space());
  if (n === 0) thread.say('ping_body', '-- ouch, cannot send');
  let slot = ring.head;
  for (let i = 0; i < n; i++) {
    const off = ring.slotOff(slot);
    frame.copyTo(ring, off, 0, frame.size);
    stamp(ring.window.u8, off + port.vnetHdrLen + STAMP_OFF, (sequence + i) >>> 0);
    ring.setLenAndFlags(slot, frame.size, 0);
    slot = ring.next(slot);
  }
  ring.cur = slot;
  ring.head = slot;
  return n;
}

function takeAnswers(thread: PktGenThread, answered: (ns: number) => void): void {
  for (const ring of thread.port.rxRings) {
    let slot = ring.head;
    for (let n = ring.space(); n > 0; n--) {
      const off = ring.slotOff(slot) + thread.port.vnetHdrLen;
      const len = Math.min(ring.len(slot), ring.bufSize) - thread.port.vnetHdrLen;
      if (len >= STAMP_OFF + STAMP_LEN) answered(sinceStamp(ring.window.u8, off + STAMP_OFF));
      slot = ring.next(slot);
    }
    ring.cur = slot;
    ring.head = slot;
  }
}

/** Of this process alone: nobody else reads the time in it. */
function stamp(u8: Uint8Array, off: number, sequence: number): void {
  const now = performance.now();
  const seconds = Math.floor(now / 1000);
  setBe32(u8, off, sequence);
  setBe32(u8, off + 4, seconds);
  setBe32(u8, off + 8, Math.floor((now - seconds * 1000) * 1e6));
}

function sinceStamp(u8: Uint8Array, off: number): number {
  const now = performance.now();
  return Math.max(0, now * 1e6 - be32(u8, off + 4) * 1e9 - be32(u8, off + 8));
}

export function pong(thread: PktGenThread): boolean {
  const { options, port, counters } = thread;
  if (!alone(thread, 'pong_body', 'can only reply ping with 1 thread')) return false;
  let answered = 0;
  let bytes = 0;
  let events = 0;
  let good = true;
  begin(thread);
  while (!thread.cancelled() && (options.packets === 0 || answered < options.packets)) {
    if (!waitFor(thread, 'pong_body', POLLIN, 1000)) {
      good = thread.cancelled();
      break;
    }
    const out = port.txRings[0]!;
    const before = answered;
    for (const ring of port.rxRings) {
      for (let n = ring.space(); n > 0; n--) {
        const len = answer(ring, out, port.vnetHdrLen);
        if (len === 0) continue;
        answered++;
        bytes += len;
      }
    }
    if (answered > before) events++;
    port.txsync();
    count(counters, answered, bytes, events);
  }
  port.rxsync();
  finish(thread);
  return good;
}

/** Sends one frame back to where it came from; returns its length, 0 where there is no room. Takes it either way. */
function answer(ring: NetmapRing, out: NetmapRing, hdrLen: number): number {
  const from = ring.head;
  const src = ring.slotOff(from);
  const len = Math.min(ring.len(from), ring.bufSize, out.bufSize);
  ring.advance(1);
  if (out.space() === 0 || len < hdrLen + ETH_HDR_LEN) return 0;
  const to = out.head;
  const dst = out.slotOff(to);
  out.window.kernel.copy(dst, src, len);
  const { u8 } = out.window;
  const ether = dst + hdrLen;
  swap(u8, ether, ether + 6, 6);
  if (be16(u8, ether + 12) === ETHERTYPE_IPV4 && len >= hdrLen + ETH_HDR_LEN + IPV4_MIN_HDR_LEN)
    swap(u8, ether + ETH_HDR_LEN + IPV4_SRC, ether + ETH_HDR_LEN + IPV4_SRC + 4, 4);
  out.setLenAndFlags(to, len, out.slotFlags(to) & NS_BUF_CHANGED);
  out.advance(1);
  return len;
}

function swap(u8: Uint8Array, a: number, b: number, len: number): void {
  for (let i = 0; i < len; i++) {
    const byte = u8[a + i]!;
    u8[a + i] = u8[b + i]!;
    u8[b + i] = byte;
  }
}

function alone(thread: PktGenThread, fn: string, why: string): boolean {
  if (thread.options.threads > 1) thread.say(fn, why);
  else if (thread.options.family === 6) thread.say(fn, 'Warning: ping-pong with IPv6 not supported');
  return thread.options.threads === 1;
}
