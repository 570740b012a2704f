/**
 * A process that measures on command: it answers each line on its standard input with one line of
 * JSON on its standard output. Pinned to a core, and put before other processes where root allows it.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { NetbeError } from '../../src/errors.js';

export interface WorkerCommand {
  command: string;
  args: readonly string[];
  /** core that it runs on; undefined: any */
  cpu?: number;
  env?: NodeJS.ProcessEnv;
}

/** The core that measurements run on, and the one for whoever makes the load. */
export function measuringCpus(): { measured: number; load: number } {
  const count = cpus().length;
  return { measured: count - 1, load: Math.max(0, count - 2) };
}

export class Worker {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #lines: AsyncIterator<string>;
  #stderr = '';
  readonly #name: string;

  constructor({ command, args, cpu, env }: WorkerCommand) {
    this.#name = command;
    const [first = command, ...rest] =
      cpu === undefined ? [command, ...args] : ['taskset', '-c', String(cpu), command, ...args];
    // a session of its own: the kernel's autogroup shares a core by session, whatever the nice value
    this.#child = spawn(first, rest, { detached: true, stdio: 'pipe', env: env ?? process.env });
    this.#child.stderr.on('data', (bytes) => {
      this.#stderr = (this.#stderr + bytes).slice(-4000);
    });
    this.#child.stdin.on('error', () => {});
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
    liveWorkers.add(this);
    favour(this.#child.pid);
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  get ended(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** The next line of JSON that it writes; other lines are passed over. Throws with its stderr when it ends first. */
  async next<T>(): Promise<T> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw this.failure();
      if (value.startsWith('{')) return JSON.parse(value) as T;
    }
  }

  async ask<T>(line: string): Promise<T> {
    this.#child.stdin.write(`${line}\n`);
    return this.next<T>();
  }

  /** Takes the core from it, or gives it back: two that poll share one core by turns. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  /** Ends it: at the end of its input if it heeds that, else by force. */
  async close(): Promise<void> {
    liveWorkers.delete(this);
    if (this.ended) return;
    const exit = once(this.#child, 'exit');
    this.resume();
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 2000);
    await exit;
    clearTimeout(timer);
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  /** Why it is not there any more. */
  failure(): NetbeError {
    return new NetbeError(`${this.#name} ended early: ${this.#stderr.trim() || 'without a word'}`, {
      code: 'ECHILD',
      kind: 'environment',
    });
  }
}

const liveWorkers = new Set<Worker>();

/** Nothing that was started outlives the bench, whatever ends it. */
process.on('exit', () => {
  for (const worker of liveWorkers) worker.kill();
});

function favour(pid: number | undefined): void {
  if (pid === undefined || process.getuid?.() !== 0) return;
  try {
    writeFileSync(`/proc/${pid}/autogroup`, '-20');
  } catch {
    // no autogroups in this kernel: nothing to put in order
  }
}
