/** What netmap's programs need of ports and of poll(2), whether the fabric is another process's or their own. */
import type { WindowPool } from '../../memory/window.js';
import type { NetmapClientPort } from '../../netmap/port-socket/client-port.js';
import type { PollEntry } from '../../netmap/port-socket/poll.js';

/** A port as its client has it; those of a fabric of their own are the same to programs (local-port.ts). */
export type ToolPort = Omit<NetmapClientPort, 'gone' | 'wait'>;

export interface ToolPoll {
  /** of the ports, in their order */
  readonly entries: readonly PollEntry[];
  /** whoever adds 1 to it ends a poll */
  readonly wakeFd: number;
  /** Syncs and waits; returns the number of entries with revents. */
  poll(timeoutMs: number): number;
  close(): void;
}

/** What a program's thread has at hand. */
export interface ToolContext {
  readonly windows: WindowPool;
  cancelled(): boolean;
  /** a line on standard error, as netmap's D() macro writes it */
  say(fn: string, text: string): void;
  /** text on standard output */
  print(text: string): void;
}

/** Two ports whose buffers may be swapped. */
export function shareMemory(a: ToolPort, b: ToolPort): boolean {
  return a.fabric === b.fabric && a.memId === b.memId;
}
