/** pkt-gen in one of its threads. */
import { cpus } from 'node:os';
import { usageError } from '../../errors.js';
import { setThreadCpu } from '../../sys/process.js';
import { C_COMPLETED, C_MIN_SPACE, NO_MIN_SPACE, threadCounters } from './pkt-gen-counters.js';
import { OPT_INDIRECT, type PktGenFunction, type PktGenOptions } from './pkt-gen-options.js';
import { ping, pong } from './pkt-gen-ping.js';
import { receiver, sequenceReceiver } from './pkt-gen-rx.js';
import type { PktGenThread } from './pkt-gen-thread.js';
import { sender, sequenceSender } from './pkt-gen-tx.js';
import type { ToolThread } from './tool-worker.js';

/** What each thread is started with. */
export interface PktGenStart {
  options: PktGenOptions;
  /** name of the port, with the thread's ring where there are several threads */
  port: string;
  srcMac: number[];
}

/** What the main thread learns of the port. */
export interface PktGenPortInfo {
  txRings: number;
  rxRings: number;
  vnetHdrLen: number;
  memId: number;
  ringSlots: { tx: number[]; rx: number[] };
}

const bodies: Record<PktGenFunction, (thread: PktGenThread) => boolean> = {
  tx: sender,
  rx: receiver,
  ping,
  pong,
  txseq: sequenceSender,
  rxseq: sequenceReceiver,
};

export function runPktGen(tool: ToolThread): boolean {
  const { options, port: name, srcMac } = tool.options as PktGenStart;
  const port = tool.access.open(name, { ...options.config, acceptVnetHdr: true }, tool.thread === 0);
  if ((options.options & OPT_INDIRECT) !== 0 && !tool.access.ownFabric)
    throw usageError(
      `-I: the fabric of ${name} is another process's, and reads nothing of this one's memory but the port's buffers`,
      '-I',
      'Leave out -I; or name a fabric that does not run with --fabric, and pkt-gen makes one of its own.',
    );
  if (options.vnetHdrLen !== 0) port.vnetHdrLen = options.vnetHdrLen;
  const counters = threadCounters(tool.counters, tool.thread);
  counters[C_MIN_SPACE] = NO_MIN_SPACE;
  const poll = tool.access.makePoll([port]);
  const info: PktGenPortInfo = {
    txRings: port.txRings.length,
    rxRings: port.rxRings.length,
    vnetHdrLen: port.vnetHdrLen,
    memId: port.memId,
    ringSlots: { tx: port.txRings.map((r) => r.numSlots), rx: port.rxRings.map((r) => r.numSlots) },
  };
  if (options.affinity >= 0) setThreadCpu((options.affinity + tool.thread) % cpus().length);
  const { windows, cancelled, say, print } = tool;
  let good = false;
  if (tool.ready(poll, info))
    good = bodies[options.function]({ options, port, poll, counters, srcMac, windows, cancelled, say, print });
  if (good) counters[C_COMPLETED] = 1;
  return good;
}
