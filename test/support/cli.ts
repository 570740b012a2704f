/** The command line as a child process: what it prints, its exit status, and its end with the test. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually } from './eventually.js';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

const GIVE_UP_MS = 60_000;

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
    return this.#spawn(process.execPath, [main, ...args], {});
  }

  /**
   * On a terminal of its own, by script(1), which every Debian has: what is written to standard input is typed,
   * standard output is what the terminal shows, the exit status is the program's.
   */
  startOnTerminal(args: string, variables: Record<string, string>): CliProcess {
    const command = `exec "$TEST_NODE" "$TEST_MAIN" ${args}`;
    const shell = { SHELL: '/bin/sh', TERM: 'xterm', TEST_NODE: process.execPath, TEST_MAIN: main };
    return this.#spawn('script', ['-qefc', command, '/dev/null'], { ...shell, ...variables });
  }

  #spawn(program: string, args: string[], variables: Record<string, string>): CliProcess {
    const env = { ...process.env, XDG_RUNTIME_DIR: `${this.dir}/run`, NO_COLOR: '1', ...variables };
    const cli = new CliProcess(spawn(program, args, { cwd: this.dir, env }));
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
  #ended = false;
  readonly #closed: Promise<CliResult>;

  constructor(readonly child: ChildProcessWithoutNullStreams) {
    child.stdout.on('data', (chunk) => {
      this.stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      this.stderr += chunk;
    });
    this.#closed = once(child, 'close').then(([status, signal]) => {
      this.#ended = true;
      const { stdout, stderr } = this;
      return { status, signal, stdout, stderr };
    });
  }

  /** Waits until standard output has it. */
  prints(what: RegExp): Promise<void> {
    return this.#waitFor('stdout', what);
  }

  complains(what: RegExp): Promise<void> {
    return this.#waitFor('stderr', what);
  }

  /** The end, of itself or by a signal. One that does not come fails the test: the process is killed. */
  async end(signal?: NodeJS.Signals): Promise<CliResult> {
    if (signal) this.child.kill(signal);
    const giveUp = setTimeout(() => this.child.kill('SIGKILL'), GIVE_UP_MS);
    try {
      return await this.#closed;
    } finally {
      clearTimeout(giveUp);
    }
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#closed;
  }

  #waitFor(stream: 'stdout' | 'stderr', what: RegExp): Promise<void> {
    return eventually(`${what} on ${stream}`, () => {
      if (what.test(this[stream])) return true;
      if (this.#ended) throw new Error(`ended before it printed ${what}: ${this.stderr}`);
      return false;
    });
  }
}
