/**
 * A thread of one of netmap's programs: opens its ports, waits for the others, moves frames until it is done or
 * told to end. It blocks; what it has to say goes to the main thread as messages.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { toNetbeError } from '../../control/fabric-host.js';
import type { Log } from '../../engine/runtime.js';
import { closeAio } from '../../sys/aio.js';
import { setThreadName } from '../../sys/process.js';
import { NetmapAccess } from './access.js';
import { runBridge } from './bridge-loop.js';
import { runLb } from './lb-loop.js';
import { runPktGen } from './pkt-gen-run.js';
import type { ToolContext, ToolPoll } from './tool-port.js';
import {
  STATE_CANCEL,
  STATE_DONE,
  STATE_GO,
  type ToolMessage,
  type ToolName,
  type ToolStart,
} from './tool-protocol.js';

const start = workerData as ToolStart;
const state = new Int32Array(start.state);

function post(message: ToolMessage): void {
  parentPort?.postMessage(message);
}

const logAs = (level: string) => (_fields: object, message: string) => post({ type: 'say', fn: level, text: message });
const log: Log = { debug() {}, info() {}, warn: logAs('warning'), error: logAs('error') };

/** What a program does in a thread: opens its ports with `tool`, calls `tool.ready`, and moves frames. */
export interface ToolThread extends ToolContext {
  readonly access: NetmapAccess;
  readonly thread: number;
  readonly options: unknown;
  readonly counters: SharedArrayBuffer;
  /** The ports are open, and `info` is told to the main thread. False: told to end before it began. */
  ready(poll: ToolPoll, info: unknown): boolean;
}

const programs: Record<ToolName, (tool: ToolThread) => boolean> = {
  'pkt-gen': runPktGen,
  lb: runLb,
  bridge: runBridge,
};

function run(): void {
  const access = new NetmapAccess(start.socket, log);
  let poll: ToolPoll | undefined;
  const cancelled = () => Atomics.load(state, STATE_CANCEL) !== 0;
  const tool: ToolThread = {
    access,
    thread: start.thread,
    options: start.options,
    counters: start.counters,
    get windows() {
      return access.windows;
    },
    cancelled,
    say: (fn, text) => post({ type: 'say', fn, text }),
    print: (text) => post({ type: 'print', text }),
    ready: (made, info) => {
      poll = made;
      post({ type: 'opened', wakeFd: made.wakeFd, ownFabric: access.ownFabric, info });
      // the other threads join a fabric of our own meanwhile
      while (Atomics.load(state, STATE_GO) === 0 && !cancelled()) made.poll(100);
      return !cancelled();
    },
  };
  let good = false;
  try {
    good = programs[start.tool](tool);
  } catch (error) {
    post({ type: 'failed', error: toNetbeError(error).toJSON() });
  }
  Atomics.add(state, STATE_DONE, 1);
  post({ type: 'done', good });
  // a fabric of our own serves the other threads to their end
  if (access.ownFabric && poll !== undefined) serveOthers(poll);
  access.close();
  closeAio();
}

function serveOthers(poll: ToolPoll): void {
  for (const entry of poll.entries) entry.events = 0;
  while (Atomics.load(state, STATE_DONE) < Atomics.load(state, STATE_GO)) poll.poll(20);
}

setThreadName('netbe-netmap');
run();
