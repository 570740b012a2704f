/** pkt-gen -f tx and txseq: fills transmit rings. */
import { NS_BUF_CHANGED, NS_INDIRECT, NS_MOREFRAG, NS_REPORT } from '../../netmap/abi.js';
import { POLLOUT } from '../../netmap/port-socket/poll.js';
import type { NetmapRing } from '../../netmap/ring.js';
import { OPT_DUMP, OPT_INDIRECT, OPT_RUBBISH } from './pkt-gen-options.js';
import {
  begin,
  count,
  drain,
  dumpSlot,
  Frame,
  finish,
  Pacer,
  type PktGenThread,
  packetsOfThread,
  waitFor,
} from './pkt-gen-thread.js';

const WAIT_MS = 2000;

/** How a frame is cut into slots. */
interface Fragments {
  count: number;
  size: number;
}

function fragmentsOf({ options }: PktGenThread, frame: Frame, ring: NetmapRing): Fragments {
  const most = Math.min(options.fragSize, ring.bufSize);
  const size = Math.ceil(frame.size / options.frags);
  if (size <= most) return { count: options.frags, size };
  return { count: Math.ceil(frame.size / most), size: most };
}

/** Returns false if something was wrong. */
export function sender(thread: PktGenThread): boolean {
  const { options, port, counters } = thread;
  const frame = new Frame(thread);
  const fragments = fragmentsOf(thread, frame, port.txRings[0]!);
  const wanted = packetsOfThread(thread);
  const pacer = new Pacer(options);
  thread.say('sender_body', `frags ${fragments.count} frag_size ${fragments.size}`);
  // so that each buffer gets its copy
  for (const ring of port.txRings) for (let i = 0; i < ring.numSlots; i++) ring.setLenAndFlags(i, 0, NS_BUF_CHANGED);
  let sent = 0;
  let bytes = 0;
  let events = 0;
  let good = true;
  begin(thread);
  while (!thread.cancelled() && (wanted === 0 || sent < wanted)) {
    pacer.wait(thread.poll, thread.cancelled);
    if (!waitFor(thread, 'sender_body', POLLOUT, WAIT_MS)) {
      good = thread.cancelled();
      break;
    }
    for (const ring of port.txRings) {
      const most = pacer.limited ? pacer.budget : options.burst;
      const limit = wanted === 0 ? most : Math.min(most, wanted - sent);
      if (limit <= 0) break;
      frame.randomize(options);
      const n = sendPackets(thread, frame, fragments, ring, limit);
      if (n === 0) continue;
      sent += n;
      bytes += n * frame.size;
      events++;
      pacer.budget -= n;
    }
    count(counters, sent, bytes, events);
  }
  drain(thread);
  finish(thread);
  frame.close();
  return good;
}

/** Puts up to `limit` frames into a ring, as many as there is room for. */
function sendPackets(
  thread: PktGenThread,
  frame: Frame,
  fragments: Fragments,
  ring: NetmapRing,
  limit: number,
): number {
  const { options } = thread.options;
  const space = ring.space();
  const frames = Math.min(limit, Math.floor(space / fragments.count));
  if (frames === 0) {
    // more slots are wanted than there are
    ring.cur = ring.tail;
    return 0;
  }
  const from = ring.head;
  const special = fragments.count > 1 || (options & (OPT_RUBBISH | OPT_INDIRECT)) !== 0;
  const end = special ? fillSpecial(frame, fragments, ring, frames, options) : fillPlain(frame, ring, frames);
  const last = end === 0 ? ring.numSlots - 1 : end - 1;
  ring.setSlotFlags(last, ring.slotFlags(last) | NS_REPORT);
  if ((options & OPT_DUMP) !== 0) for (let i = from; i !== end; i = ring.next(i)) dumpSlot(thread, ring, i);
  ring.cur = frames < limit ? ring.tail : end;
  ring.head = end;
  return frames;
}

/** One slot a frame: the loop that decides how fast pkt-gen is. Returns the new head. */
function fillPlain(frame: Frame, ring: NetmapRing, frames: number): number {
  const { u32, slotWord, numSlots, bufsOff, bufSize } = ring;
  const { size, varies, packet } = frame;
  const source = frame.mapping.window;
  const same = source === ring.window;
  const { kernel } = ring.window;
  let slot = ring.head;
  for (let i = 0; i < frames; i++) {
    const w = slotWord + slot * 4;
    if (varies || (u32[w + 1]! & (NS_BUF_CHANGED << 16)) !== 0) {
      const to = bufsOff + u32[w]! * bufSize;
      if (same) kernel.copy(to, frame.off, size);
      else frame.copyTo(ring, to, 0, size);
      if (varies) packet?.nextAddresses();
    }
    u32[w + 1] = size;
    slot = slot + 1 === numSlots ? 0 : slot + 1;
  }
  return slot;
}

/** Several slots a frame, frames that are what lies in the buffers, frames elsewhere. */
function fillSpecial(frame: Frame, fragments: Fragments, ring: NetmapRing, frames: number, options: number): number {
  const rubbish = (options & OPT_RUBBISH) !== 0;
  const indirect = (options & OPT_INDIRECT) !== 0;
  let slot = ring.head;
  for (let i = 0; i < frames; i++) {
    for (let at = 0; at < frame.size; at += fragments.size) {
      const len = Math.min(fragments.size, frame.size - at);
      const more = at + len < frame.size ? NS_MOREFRAG : 0;
      if (indirect) {
        ring.setPtr(slot, frame.mapping.window.addr + frame.off + at);
        ring.setLenAndFlags(slot, len, NS_INDIRECT | more);
      } else {
        if (!rubbish) frame.copyTo(ring, ring.slotOff(slot), at, len);
        ring.setLenAndFlags(slot, len, more);
      }
      slot = ring.next(slot);
    }
    if (frame.varies) frame.packet?.nextAddresses();
  }
  return slot;
}

/** Frames with a number in their payload; with -F so many slots a frame, each with a whole copy and a number. */
export function sequenceSender(thread: PktGenThread): boolean {
  const { options, port, counters } = thread;
  if (options.threads > 1) {
    thread.say('txseq_body', 'can only txseq ping with 1 thread');
    return false;
  }
  if (options.packets > 0) thread.say('txseq_body', 'Ignoring -n argument');
  const frame = new Frame(thread);
  const ring = port.txRings[0]!;
  const pacer = new Pacer(options);
  let sequence = 0;
  let sent = 0;
  let events = 0;
  let good = true;
  begin(thread);
  while (!thread.cancelled()) {
    pacer.wait(thread.poll, thread.cancelled);
    if (!waitFor(thread, 'txseq_body', POLLOUT, WAIT_MS)) {
      good = thread.cancelled();
      break;
    }
    const most = Math.min(ring.space(), pacer.limited ? Math.max(pacer.budget, options.frags) : options.burst);
    const slots = most - (most % options.frags);
    let slot = ring.head;
    for (let i = 0; i < slots; i++) {
      frame.packet?.setSequence(sequence++ >>> 0);
      frame.copyTo(ring, ring.slotOff(slot), 0, frame.size);
      const last = (i + 1) % options.frags === 0;
      ring.setLenAndFlags(slot, frame.size, last ? (i === slots - 1 ? NS_REPORT : 0) : NS_MOREFRAG);
      dumpSlot(thread, ring, slot);
      if (last && frame.varies) frame.packet?.nextAddresses();
      slot = ring.next(slot);
    }
    ring.head = slot;
    ring.cur = slots === 0 ? ring.tail : slot;
    sent += slots;
    pacer.budget -= slots;
    if (slots > 0) events++;
    count(counters, sent, sent * frame.size, events);
  }
  drain(thread);
  finish(thread);
  frame.close();
  return good;
}
