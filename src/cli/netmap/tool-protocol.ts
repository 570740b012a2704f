/** What goes between the main thread of one of netmap's programs and those that move its frames. */
import type { NetbeErrorJson } from '../../errors.js';

export type ToolName = 'pkt-gen' | 'lb' | 'bridge';

export interface ToolStart {
  tool: ToolName;
  /** port socket of the fabric */
  socket: string;
  /** 0 is the first one: only it may make a fabric of its own */
  thread: number;
  /** plain data for the program */
  options: unknown;
  /** 32-bit words: see STATE_* */
  state: SharedArrayBuffer;
  /** doubles that the program's threads count in */
  counters: SharedArrayBuffer;
}

/** 1: end */
export const STATE_CANCEL = 0;
/** 1: all threads have their ports, begin */
export const STATE_GO = 1;
/** threads that have ended */
export const STATE_DONE = 2;
export const STATE_WORDS = 4;

export type ToolMessage =
  | { type: 'say'; fn: string; text: string }
  | { type: 'print'; text: string }
  /** its ports are open; whoever adds 1 to wakeFd ends its wait */
  | { type: 'opened'; wakeFd: number; ownFabric: boolean; info: unknown }
  | { type: 'failed'; error: NetbeErrorJson }
  | { type: 'done'; good: boolean };
