/** netbe bridge in its thread: moves frames between two ports, by swapping buffers where they share memory. */
import { copyPiece } from '../../memory/copy.js';
import { NS_BUF_CHANGED, NS_MOREFRAG } from '../../netmap/abi.js';
import { POLLERR, POLLIN, POLLOUT } from '../../netmap/port-socket/poll.js';
import type { NetmapRing } from '../../netmap/ring.js';
import { shareMemory, type ToolPort } from './tool-port.js';
import type { ToolThread } from './tool-worker.js';

export interface BridgeStart {
  a: string;
  b: string;
  burst: number;
  zerocopy: boolean;
  verbose: number;
}

export interface BridgeInfo {
  zerocopy: boolean;
  a: { name: string; rings: number };
  b: { name: string; rings: number };
}

const POLL_MS = 2500;

export function runBridge(tool: ToolThread): boolean {
  const start = tool.options as BridgeStart;
  const a = tool.access.open(start.a, { acceptVnetHdr: true }, true);
  const b = tool.access.open(start.b, { acceptVnetHdr: true }, true);
  const zerocopy = start.zerocopy && shareMemory(a, b);
  const poll = tool.access.makePoll([a, b]);
  const info: BridgeInfo = {
    zerocopy,
    a: { name: a.name, rings: a.rxRings.length },
    b: { name: b.name, rings: b.rxRings.length },
  };
  if (!tool.ready(poll, info)) return true;
  const [inA, inB] = poll.entries as [(typeof poll.entries)[0], (typeof poll.entries)[0]];
  while (!tool.cancelled()) {
    // wait for room only where there is something to send, and for frames only where there are none
    const waitingA = hasFrames(a);
    const waitingB = hasFrames(b);
    inA.events = (waitingB ? POLLOUT : 0) | (waitingA ? 0 : POLLIN);
    inB.events = (waitingA ? POLLOUT : 0) | (waitingB ? 0 : POLLIN);
    const ready = poll.poll(POLL_MS);
    if (ready === 0 && !tool.cancelled() && start.verbose > 0)
      tool.say(
        'main',
        `poll timeout [0] ev ${inA.events} rx ${waitingA ? 1 : 0}, [1] ev ${inB.events} rx ${waitingB ? 1 : 0}`,
      );
    if (((inA.revents | inB.revents) & POLLERR) !== 0) {
      tool.say('main', 'the fabric has closed the ports');
      return false;
    }
    const there = movePorts(a, b, start, zerocopy);
    const back = movePorts(b, a, start, zerocopy);
    if (start.verbose > 1 && there + back > 0)
      tool.say('rings_move', `${a.name} --> ${b.name}: ${there}, ${b.name} --> ${a.name}: ${back}`);
  }
  return true;
}

function hasFrames(port: ToolPort): boolean {
  return port.rxRings.some((ring) => ring.head !== ring.tail);
}

/** Moves up to `burst` slots a ring. Returns how many. */
function movePorts(from: ToolPort, to: ToolPort, { burst }: BridgeStart, zerocopy: boolean): number {
  let moved = 0;
  let r = 0;
  let t = 0;
  while (r < from.rxRings.length && t < to.txRings.length) {
    const rx = from.rxRings[r]!;
    const tx = to.txRings[t]!;
    const slots = Math.min(burst, rx.space(), tx.space());
    if (slots > 0) moveSlots(rx, tx, slots, zerocopy);
    moved += slots;
    if (rx.head === rx.tail || slots === burst) r++;
    else t++;
  }
  return moved;
}

function moveSlots(rx: NetmapRing, tx: NetmapRing, slots: number, zerocopy: boolean): void {
  const u32rx = rx.u32;
  const u32tx = tx.u32;
  let from = rx.head;
  let to = tx.head;
  for (let i = 0; i < slots; i++) {
    const r = rx.slotWord + from * 4;
    const t = tx.slotWord + to * 4;
    const word = u32rx[r + 1]!;
    // a length that the buffer does not have is nobody's: the slot goes empty
    const len = (word & 0xffff) > rx.bufSize ? 0 : Math.min(word & 0xffff, tx.bufSize);
    const more = (word >>> 16) & NS_MOREFRAG;
    if (zerocopy) {
      const buf = u32tx[t]!;
      u32tx[t] = u32rx[r]!;
      u32rx[r] = buf;
      u32tx[t + 1] = len | ((NS_BUF_CHANGED | more) << 16);
      u32rx[r + 1] = NS_BUF_CHANGED << 16;
    } else {
      copyPiece(tx.window, tx.slotOff(to), rx.window, rx.slotOff(from), len);
      u32tx[t + 1] = len | (more << 16);
    }
    from = rx.next(from);
    to = tx.next(to);
  }
  rx.cur = from;
  rx.head = from;
  tx.cur = to;
  tx.head = to;
}
