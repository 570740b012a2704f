/** What netmap's programs need of ports and of poll(2), whether the fabric is another process's or their own. */
import type { Window, WindowPool } from '../../memory/window.js';
import type { PollablePort, PollEntry } from '../../netmap/port-socket/poll.js';
import type { NetmapRing } from '../../netmap/ring.js';

export interface ToolPort extends PollablePort {
  /** nr_name */
  readonly name: string;
  readonly memId: number;
  /** which fabric the memory belongs to */
  readonly fabric: string;
  readonly window: Window;
  readonly txRings: readonly NetmapRing[];
  readonly rxRings: readonly NetmapRing[];
  /** of the rings, the last ones */
  readonly hostTxRings: number;
  readonly hostRxRings: number;
  readonly extraBufs: number;
  bufsHead: number;
  vnetHdrLen: number;
  txsync(ring?: number): void;
  rxsync(ring?: number): void;
  close(): void;
}

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
