/** What was typed at the prompt of netbe ngctl, kept from one time to the next. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const SIZE = 500;

/** NETBE_NGCTL_HISTORY, else in XDG_STATE_HOME or ~/.local/state */
function historyFile(env: NodeJS.ProcessEnv = process.env): string {
  if (env.NETBE_NGCTL_HISTORY) return env.NETBE_NGCTL_HISTORY;
  return join(env.XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'netbe', 'ngctl-history');
}

export interface History {
  readonly size: number;
  /** Newest first. */
  load(): string[];
  save(lines: readonly string[]): void;
}

/** A history that cannot be kept is none, and no error. */
export function ngctlHistory(path = historyFile()): History {
  return {
    size: SIZE,
    load: () => {
      try {
        return readFileSync(path, 'utf8')
          .split('\n')
          .filter((line) => line !== '')
          .reverse();
      } catch {
        return [];
      }
    },
    save: (lines) => {
      try {
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
        writeFileSync(path, `${[...lines].reverse().join('\n')}\n`, { mode: 0o600 });
      } catch {
        // a home that cannot be written to
      }
    },
  };
}
