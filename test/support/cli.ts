/** The command line as a child process: what it prints, its exit status, and its end with the test. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export interface CliResult {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** A folder for one test: working directory, and runtime directory of its fabrics. */
export class CliFolder {
  constructor(
    readonly t: TestContext,
    readonly dir: string,
  ) {}

  start(...args: string[]): CliProcess {
    const env = { ...process.env, XDG_RUNTIME_DIR: `${this.dir}/run`, NO_COLOR: '1' };
    const child = spawn(process.execPath, [main, ...args], { cwd: this.dir, env });
    const cli = new CliProcess(child);
    this.t.after(() => cli.kill());
    return cli;
  }

  /** Runs to the end. */
  run(...args: string[]): Promise<CliResult> {
    const cli = this.start(...args);
    cli.child.stdin.end();
    return cli.end();
  }

  /** A fabric in the foreground, once it says that it is ready. */
  async fabric(...args: string[]): Promise<CliProcess> {
    const cli = this.start(...args);
    await cli.prints(/Ready\./);
    return cli;
  }
}

export class CliProcess {
  stdout = '';
  stderr = '';
  readonly #closed: Promise<CliResult>;

  constructor(readonly child: ChildProcessWithoutNullStreams) {
    child.stdout.on('data', (chunk) => {
      this.stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      this.stderr += chunk;
    });
    this.#closed = once(child, 'close').then(([status, signal]) => ({
      status,
      signal,
      stdout: this.stdout,
      stderr: this.stderr,
    }));
  }

  /** Waits until standard output has it. */
  prints(what: RegExp): Promise<void> {
    return this.#waitFor('stdout', what);
  }

  complains(what: RegExp): Promise<void> {
    return this.#waitFor('stderr', what);
  }

  end(signal?: NodeJS.Signals): Promise<CliResult> {
    if (signal) this.child.kill(signal);
    return this.#closed;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#closed;
  }

  #waitFor(stream: 'stdout' | 'stderr', what: RegExp): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (!what.test(this[stream])) return;
        this.child[stream].off('data', look);
        resolve();
      };
      this.child[stream].on('data', look);
      look();
      this.#closed.then(({ status, stderr }) => reject(new Error(`ended with ${status} before ${what}: ${stderr}`)));
    });
  }
}
