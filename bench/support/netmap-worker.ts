/**
 * The measured side of netmap-vale and netmap-pipe: pkt-gen's transmitter and receiver in one thread, on two
 * netmap ports.
 *
 *   netmap-worker TX_PORT RX_PORT LENGTH     for instance vale0:a vale0:b 64, or vale0:a{1 vale0:a}1 64
 *   each line "MS" on standard input is answered by {"mpps":N}
 */
import { NS_MOREFRAG } from '../../src/netmap/abi.js';
import { netmapOf } from '../../src/netmap/netmap.js';
import type { NetmapRing } from '../../src/netmap/ring.js';
import { testRuntime } from '../../test/support/runtime.js';
import { answerMpps } from './measured.js';

/** as pkt-gen's -b */
const BURST = 512;
const [txName = '', rxName = '', length = '64'] = process.argv.slice(2);
const frameLen = Number(length);
const runtime = testRuntime();
const tx = netmapOf(runtime).open(txName);
const rx = netmapOf(runtime).open(rxName);
const txRing = tx.txRings[0]!;
const rxRing = rx.rxRings[0]!;
const frags = Math.ceil(frameLen / txRing.bufSize);

/** Addresses into each buffer that can begin a frame. */
function fill(ring: NetmapRing, to: number, from: number): void {
  for (let i = 0; i < ring.numSlots; i++)
    ring.window.u8.set([2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0], ring.slotOff(i));
}

/** Fills up to BURST frames' slots. */
function send(): void {
  const ring = txRing;
  const { u32, slotWord, numSlots, bufSize } = ring;
  let frames = Math.min(BURST, Math.floor(ring.space() / frags));
  let at = ring.head;
  if (frags === 1)
    for (; frames > 0; frames--) {
      u32[slotWord + at * 4 + 1] = frameLen;
      if (++at === numSlots) at = 0;
    }
  else
    for (; frames > 0; frames--) {
      let left = frameLen;
      for (let k = frags; k > 0; k--) {
        u32[slotWord + at * 4 + 1] = Math.min(left, bufSize) | (k > 1 ? NS_MOREFRAG << 16 : 0);
        left -= bufSize;
        if (++at === numSlots) at = 0;
      }
    }
  ring.cur = at;
  ring.head = at;
  tx.txsync(0);
}

let bytes = 0;

/** Takes all there is. Returns the frames. */
function receive(): number {
  rx.rxsync(0);
  const ring = rxRing;
  const { u32, slotWord, numSlots, tail } = ring;
  let frames = 0;
  let at = ring.head;
  while (at !== tail) {
    const word = u32[slotWord + at * 4 + 1]!;
    bytes += word & 0xffff;
    if ((word & (NS_MOREFRAG << 16)) === 0) frames++;
    if (++at === numSlots) at = 0;
  }
  ring.cur = at;
  ring.head = at;
  return frames;
}

function measure(ms: number): number {
  let frames = 0;
  bytes = 0;
  const start = performance.now();
  let end = start;
  while (end - start < ms) {
    for (let round = 0; round < 64; round++) {
      send();
      frames += receive();
    }
    end = performance.now();
  }
  if (bytes !== frames * frameLen) throw new Error(`${frames} frames had ${bytes} bytes`);
  return frames / (end - start) / 1000;
}

fill(txRing, 2, 1);
// the receiver's address is learned from a frame of its own
fill(rx.txRings[0]!, 1, 2);
const own = rx.txRings[0]!;
own.setLenAndFlags(own.head, 60, 0);
own.advance(1);
rx.txsync();

await answerMpps(measure);
