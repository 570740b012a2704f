/** A runtime without a thread: what a fabric lends to ports, for tests and benches that step it themselves. */
import { CounterPage, readCounters } from '../../src/engine/counters.js';
import { Mevent } from '../../src/engine/mevent.js';
import { PollLoop } from '../../src/engine/poll-loop.js';
import type { Log, Runtime } from '../../src/engine/runtime.js';
import { WindowPool } from '../../src/memory/window.js';

export interface LogRecord {
  level: 'debug' | 'info' | 'warn' | 'error';
  fields: object;
  message: string;
}

export interface TestRuntime extends Runtime {
  /** what was logged */
  readonly records: LogRecord[];
  count(subject: string, name: string): number;
  close(): void;
}

export function testRuntime(options: { windowBytes?: number } = {}): TestRuntime {
  const records: LogRecord[] = [];
  const logger =
    (level: LogRecord['level']) =>
    (fields: object, message: string): void =>
      void records.push({ level, fields, message });
  const log: Log = { debug: logger('debug'), info: logger('info'), warn: logger('warn'), error: logger('error') };
  const mevent = new Mevent();
  const counters = new CounterPage();
  return {
    mevent,
    loop: new PollLoop(mevent),
    windows: new WindowPool(options.windowBytes),
    counters,
    log,
    records,
    count(subject, name) {
      const value = readCounters(counters.buffer, counters.directory())[subject]?.[name];
      if (value === undefined) throw new Error(`no counter ${name} of ${subject}`);
      return value;
    },
    close: () => mevent.close(),
  };
}
