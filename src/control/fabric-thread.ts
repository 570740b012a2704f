/**
 * The fabric thread: a worker that runs a FabricCore and takes its calls from the main thread.
 *
 * It blocks in the fabric's event queue, not in Node's: the main thread writes to `wakeFd` after
 * each message, and messages are taken by receiveMessageOnPort. Node's own queue gets a turn after
 * each wake-up and once a second, so that imports settle and output flows; backends of the user's
 * own wait for descriptors and time with `runtime.mevent`.
 */
import { setImmediate as nodeTurn } from 'node:timers/promises';
import { type MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import type { Log } from '../engine/runtime.js';
import { closeAio } from '../sys/aio.js';
import { setThreadName } from '../sys/process.js';
import { loadBackendModule } from './backend-modules.js';
import { FabricCore } from './fabric-core.js';
import {
  type LogLevel,
  THREAD_CLOSED,
  THREAD_STOP,
  type ThreadMessage,
  type ThreadRequest,
  type ThreadStart,
  toNetbeError,
} from './fabric-host.js';

const NODE_TURN_MS = 1000;

const { port, start } = workerData as { port: MessagePort; start: ThreadStart };
const control = new Int32Array(start.control);

function post(message: ThreadMessage): void {
  port.postMessage(message);
}

function logger(level: LogLevel): Log['debug'] {
  return (fields, message) => post({ type: 'log', level, fields: structuredFields(fields), message });
}

/** Fields that cannot be copied to another thread as text: a log line must never throw. */
function structuredFields(fields: object): object {
  try {
    return structuredClone(fields);
  } catch {
    return { fields: String(fields) };
  }
}

const log: Log = { debug: logger('debug'), info: logger('info'), warn: logger('warn'), error: logger('error') };

async function run(): Promise<void> {
  const core = new FabricCore({
    log,
    poll: start.poll,
    strictMemory: start.strictMemory,
    onNgctl: (session) => post({ type: 'ngctl', session }),
  });
  // an exception in a backend's own promise or timer ends this thread: sockets and memory go first
  process.on('uncaughtExceptionMonitor', () => {
    crashed = true;
    close(core);
  });
  try {
    for (const url of start.backends) await loadBackendModule(url);
    const { mevent, counters } = core.runtime;
    counters.onDirectoryChange = () => {
      directoryChanged = true;
    };
    mevent.onWake = endOfSteps;
    mevent.addTimer(NODE_TURN_MS, endOfSteps);
    post({ type: 'ready', wakeFd: mevent.wakeFd, counterBuffer: counters.buffer });
    await serve(core);
  } finally {
    close(core);
  }
}

/** the main thread learns the reason from Node */
let crashed = false;
let directoryChanged = false;
// calls may have come while modules were loaded
let nodeTurnDue = true;

function endOfSteps(): void {
  nodeTurnDue = true;
}

function close(core: FabricCore): void {
  core.close();
  closeAio();
  Atomics.store(control, THREAD_CLOSED, 1);
  Atomics.notify(control, THREAD_CLOSED);
}

async function serve(core: FabricCore): Promise<void> {
  for (;;) {
    while (!nodeTurnDue) core.step(-1);
    nodeTurnDue = false;
    for (;;) {
      if (Atomics.load(control, THREAD_STOP) === 1) return;
      const received = receiveMessageOnPort(port) as { message: ThreadRequest } | undefined;
      if (received === undefined) break;
      if (execute(core, received.message)) return;
    }
    postDirectory(core);
    await nodeTurn();
  }
}

/** Returns true when the thread is to end. */
function execute(core: FabricCore, { id, op, args }: ThreadRequest): boolean {
  if (op === 'close') {
    close(core);
    post({ type: 'result', id, result: undefined });
    return true;
  }
  try {
    const result = (core[op] as (...args: unknown[]) => unknown).apply(core, args);
    // before the answer: whoever has it finds the counters of the new NIC
    postDirectory(core);
    post({ type: 'result', id, result });
  } catch (error) {
    const failure = toNetbeError(error);
    if (failure !== error) log.error({ op, error: (error as Error).stack ?? String(error) }, 'a call failed');
    post({ type: 'error', id, error: failure.toJSON() });
  }
  return false;
}

function postDirectory(core: FabricCore): void {
  if (!directoryChanged) return;
  directoryChanged = false;
  post({ type: 'directory', directory: core.runtime.counters.directory() });
}

setThreadName('netbe-fabric');
try {
  await run();
} catch (error) {
  if (!crashed) post({ type: 'failed', error: toNetbeError(error).toJSON() });
} finally {
  port.close();
}
