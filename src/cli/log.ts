/** The log of a command: readable on a terminal, JSON lines elsewhere; always on standard error. */
import { isatty } from 'node:tty';
import { pino } from 'pino';
import { PinoPretty } from 'pino-pretty';
import type { LogFormat, LogLevel } from '../control/schema.js';
import type { Log } from '../engine/runtime.js';

export function makeLog(level: LogLevel, format: LogFormat): Log {
  const readable = format === 'pretty' || (format === 'auto' && isatty(2));
  const timestamp = pino.stdTimeFunctions.isoTime;
  if (!readable) {
    const formatters = { level: (label: string) => ({ level: label }) };
    return pino({ level, base: undefined, timestamp, formatters }, pino.destination({ fd: 2, sync: true }));
  }
  const stream = PinoPretty({
    destination: 2,
    sync: true,
    colorize: isatty(2) && process.env.NO_COLOR === undefined,
    translateTime: 'SYS:HH:MM:ss.l',
    singleLine: true,
  });
  return pino({ level, base: undefined, timestamp }, stream);
}
