/**
 * Where a fabric runs, seen from the thread of the library's user: in a thread of its own
 * (ThreadHost) or in the user's (LocalHost). And what crosses between the two threads.
 */
import type { CounterDirectoryEntry } from '../engine/counters.js';
import { NetbeError, type NetbeErrorJson } from '../errors.js';
import type { FabricCore } from './fabric-core.js';
import type { PollOptions } from './fabric-types.js';

/** The calls of FabricCore that may come from elsewhere. */
export type FabricOp =
  | 'addNic'
  | 'removeNic'
  | 'setLink'
  | 'addPatch'
  | 'removePatch'
  | 'listenPorts'
  | 'show'
  | 'startCapture'
  | 'stopCapture'
  | 'ngctlOpen'
  | 'ngctlRun'
  | 'ngctlEvents'
  | 'ngctlClose';
export type FabricArgs<Op extends FabricOp> = Parameters<FabricCore[Op]>;
export type FabricResult<Op extends FabricOp> = ReturnType<FabricCore[Op]>;

export interface FabricHost {
  call<Op extends FabricOp>(op: Op, ...args: FabricArgs<Op>): Promise<FabricResult<Op>>;
  /** the page of counters, and where each subject's are in it */
  readonly counterBuffer: SharedArrayBuffer;
  readonly directory: readonly CounterDirectoryEntry[];
  /** why the fabric has ended without being asked to; undefined while it runs, or was closed */
  readonly failure: NetbeError | undefined;
  /** Resolves when everything is released. Idempotent. */
  close(): Promise<void>;
}

/** What a host tells its Fabric, once: undefined after close(). */
export type ExitListener = (failure: NetbeError | undefined) => void;

/** Something has come to a session of ngctl. */
export type NgctlListener = (session: number) => void;

/** The error of a call, as plain data or an Error, as a NetbeError for people. */
export function toNetbeError(error: unknown): NetbeError {
  if (error instanceof NetbeError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new NetbeError(`internal error: ${message}`, {
    code: 'EIO',
    cause: error,
    remedy: 'This is a defect of netbe, or of a backend that was added to it: please report it with the log.',
  });
}

// ---- messages between the threads ----

/** What the fabric thread begins with (workerData). */
export interface ThreadStart {
  /** two 32-bit integers: see THREAD_STOP and THREAD_CLOSED */
  control: SharedArrayBuffer;
  /** URLs of modules with backends */
  backends: string[];
  poll: PollOptions | undefined;
  strictMemory: boolean | undefined;
}

/** Set by the main thread, followed by a wake-up: close everything and end, without an answer. */
export const THREAD_STOP = 0;
/** Set by the fabric thread when everything is closed. */
export const THREAD_CLOSED = 1;

export interface ThreadRequest {
  id: number;
  op: FabricOp | 'close';
  args: unknown[];
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export type ThreadMessage =
  | { type: 'ready'; wakeFd: number; counterBuffer: SharedArrayBuffer }
  | { type: 'failed'; error: NetbeErrorJson }
  | { type: 'result'; id: number; result: unknown }
  | { type: 'error'; id: number; error: NetbeErrorJson }
  | { type: 'ngctl'; session: number }
  | { type: 'directory'; directory: CounterDirectoryEntry[] }
  | { type: 'log'; level: LogLevel; fields: object; message: string };
