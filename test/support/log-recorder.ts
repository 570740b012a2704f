import type { Log } from '../../src/engine/runtime.js';
import type { LogRecord } from './runtime.js';

/** A log that keeps its records. */
export function recordingLog(): Log & { records: LogRecord[] } {
  const records: LogRecord[] = [];
  const at =
    (level: LogRecord['level']) =>
    (fields: object, message: string): void =>
      void records.push({ level, fields, message });
  return { records, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
