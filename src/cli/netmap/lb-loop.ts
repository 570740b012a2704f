/** netbe lb in its thread. */

import { NetbeError } from '../../errors.js';
import { POLLERR, POLLIN, POLLOUT, type PollEntry } from '../../netmap/port-socket/poll.js';
import { Balancer, LbInput, LbPipe } from './lb-balancer.js';
import { LbStats } from './lb-stats.js';
import { shareMemory, type ToolPort } from './tool-port.js';
import type { ToolThread } from './tool-worker.js';

export interface LbStart {
  interface: string;
  /** names of the pipes' master ends, without memory, by group */
  groups: string[][];
  extraBufs: number;
  batch: number;
  busyWait: boolean;
  stdoutInterval: number;
  logInterval: number;
}

export interface LbInfo {
  extraBufs: number;
  memId: number;
}

const POLL_MS = 10;

export function runLb(tool: ToolThread): boolean {
  const start = tool.options as LbStart;
  const input = tool.access.open(start.interface, { extraBufs: start.extraBufs, acceptVnetHdr: true }, true);
  tool.say('main', `successfully opened ${start.interface}`);
  if (start.extraBufs > 0) tool.say('main', `obtained ${input.extraBufs} extra buffers`);
  const free = takeExtraBufs(input);
  const outputs: ToolPort[] = [];
  const groups = start.groups.map((names) => names.map((name) => openPipe(tool, input, name, free.length, outputs)));
  const balancer = new Balancer(groups, free);
  const stats = new LbStats(start, balancer);
  const poll = tool.access.makePoll([input, ...outputs]);
  const info: LbInfo = { extraBufs: free.length, memId: input.memId };
  if (!tool.ready(poll, info)) return true;
  const rings = input.rxRings.map((ring) => new LbInput(ring));
  const [inputEntry, ...outputEntries] = poll.entries as [PollEntry, ...PollEntry[]];
  let good = true;
  while (!tool.cancelled()) {
    inputEntry.events = POLLIN;
    balancer.pipes.forEach((pipe, i) => {
      const pending = pipe.ring.next(pipe.ring.tail) !== pipe.ring.head;
      // when there is something under way, slots that come back are to wake us
      pipe.ring.cur = pending ? pipe.ring.tail : pipe.ring.head;
      outputEntries[i]!.events = pending && (pipe.queue?.count ?? 0) > 0 ? POLLOUT : 0;
    });
    poll.poll(start.busyWait ? 0 : POLL_MS);
    if ((inputEntry.revents & POLLERR) !== 0) {
      tool.say('main', 'the fabric has closed the ports');
      good = false;
      break;
    }
    balancer.passOn();
    balancer.drainQueues();
    let batch = 0;
    for (const ring of rings) {
      batch += balancer.take(ring, start.batch, input.vnetHdrLen);
      if (batch < start.batch) continue;
      input.rxsync();
      batch = 0;
    }
    for (const output of outputs) output.txsync();
    stats.report(tool);
  }
  giveBackBufs(input, balancer);
  tool.say('free_buffers', `added ${free.length} buffers to netmap free list`);
  tool.print(
    `${balancer.forwarded} packets forwarded.  ${balancer.dropped} packets dropped. Total ${balancer.forwarded + balancer.dropped}\n`,
  );
  return good;
}

function openPipe(tool: ToolThread, input: ToolPort, name: string, queueSize: number, outputs: ToolPort[]): LbPipe {
  const text = `${name}/xT@${input.memId}`;
  tool.say('main', `opening pipe named ${text}`);
  const port = tool.access.open(text, {}, true);
  if (!shareMemory(port, input))
    throw new NetbeError(`failed to open pipe ${name} in zero-copy mode`, {
      code: 'EXDEV',
      kind: 'usage',
      subject: name,
      remedy: 'Close the programs that have an end of it open, and try again.',
    });
  outputs.push(port);
  const pipe = new LbPipe(name, port.txRings[0]!, queueSize);
  tool.say('main', `successfully opened pipe #${outputs.length} ${text} (tx slots: ${pipe.ring.numSlots})`);
  tool.say('main', 'zerocopy enabled');
  return pipe;
}

/** The list of extra buffers: each has the index of the next one in its first four bytes. */
function takeExtraBufs(port: ToolPort): number[] {
  const ring = port.rxRings[0]!;
  const out: number[] = [];
  for (let idx = port.bufsHead; idx !== 0 && out.length < port.extraBufs; idx = ring.u32[ring.bufOff(idx) >>> 2]!)
    out.push(idx);
  port.bufsHead = 0;
  return out;
}

function giveBackBufs(port: ToolPort, balancer: Balancer): void {
  const ring = port.rxRings[0]!;
  for (const idx of balancer.takeBuffers()) {
    ring.u32[ring.bufOff(idx) >>> 2] = port.bufsHead;
    port.bufsHead = idx;
  }
}
