/**
 * A running guest, whatever runs it: one process group, one command port (see scripts/guest/init.sh),
 * one console log.
 *
 *   await using vm = await startUml({ nics: [{ socket }] });
 *   await vm.sh('ip link set eth0 up');
 *
 * Commands run one after another. A guest dies with close() (or `await using`), with kill(), and at
 * the latest with the process that started it: an exit handler kills its process group, and a guest
 * whose port hangs up powers itself off.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';

export interface GuestNic {
  /** vhost-user socket that the fabric listens on */
  socket: string;
  /** QEMU decides the address by itself; user-mode-linux takes it from the fabric and ignores this one */
  mac?: string;
}

export interface CommandResult {
  status: number;
  /** both output streams, without the last newline */
  output: string;
}

export interface GuestProgram {
  name: string;
  command: string;
  args: readonly string[];
  env?: NodeJS.ProcessEnv;
  /** temporary folder of the guest, deleted at the end */
  dir: string;
}

const live = new Set<Guest>();
process.on('exit', () => {
  for (const guest of live) guest.abandon();
});

export function guestDir(): string {
  return mkdtempSync(join(tmpdir(), 'netbe-guest-'));
}

export class Guest {
  readonly name: string;
  readonly pid: number;
  /** resolves when the guest's main process has ended, however it ended */
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;
  readonly #port: Duplex;
  readonly #dir: string;
  #console = '';
  #received = '';
  #waiting: { pattern: RegExp; resolve(match: RegExpExecArray): void; reject(error: Error): void } | null = null;
  #last: Promise<unknown> = Promise.resolve();
  #ended = false;

  /** Starts the program; descriptor 3 is its command port. */
  constructor(program: GuestProgram) {
    this.name = program.name;
    this.#dir = program.dir;
    // a process group of its own: user-mode-linux runs each of its tasks as a further process
    this.#child = spawn(program.command, program.args, {
      cwd: program.dir,
      env: { ...process.env, ...program.env },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    });
    this.pid = this.#child.pid ?? 0;
    live.add(this);
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#console = (this.#console + text).slice(-32768);
      });
    }
    this.#port = this.#child.stdio[3] as Duplex;
    this.#port.setEncoding('utf8').on('data', (text: string) => this.#receive(text));
    this.#port.on('error', () => {});
    this.exited = new Promise((done) => {
      const end = (why: string): void => {
        this.#ended = true;
        this.killNow();
        live.delete(this);
        this.#waiting?.reject(this.#error(why));
        rmSync(this.#dir, { recursive: true, force: true });
        done();
      };
      this.#child.once('error', (error) => end(error.message));
      this.#child.once('exit', (code, signal) => end(`ended with ${signal ?? `status ${code}`}`));
    });
  }

  /** What the kernel and the hypervisor have printed, the last 32 KiB */
  get console(): string {
    return this.#console;
  }

  async waitReady(timeoutMs: number): Promise<void> {
    await this.#expect(/@netbe ready\n/, timeoutMs, 'boot');
  }

  /** Runs a shell command, one line, in the guest. */
  run(command: string, timeoutMs = 30_000): Promise<CommandResult> {
    const next = this.#last.then(async () => {
      if (this.#ended) throw this.#error('has ended');
      for (;;) {
        this.#send(command);
        const match = await this.#expect(/(?:^|\n)@netbe (?:done (\d+)|again)\n/, timeoutMs, command);
        if (match[1] === undefined) continue;
        return { status: Number(match[1]), output: match.input.slice(0, match.index).replace(/\n$/, '') };
      }
    });
    this.#last = next.catch(() => {});
    return next;
  }

  /** Like run, but throws if the command fails. Returns its output. */
  async sh(command: string, timeoutMs?: number): Promise<string> {
    const { status, output } = await this.run(command, timeoutMs);
    if (status !== 0) throw new Error(`guest ${this.name}: "${command}" ended with ${status}:\n${output}`);
    return output;
  }

  /** Has the guest reboot; resolves when it takes commands again. */
  reboot(timeoutMs = 120_000): Promise<void> {
    const next = this.#last.then(async () => {
      if (this.#ended) throw this.#error('has ended');
      this.#send('reboot -f');
      await this.waitReady(timeoutMs);
    });
    this.#last = next.catch(() => {});
    return next;
  }

  /** SIGKILL to every process of the guest, as a crash or an impatient supervisor would have it. */
  async kill(): Promise<void> {
    this.killNow();
    await this.exited;
  }

  killNow(): void {
    if (this.pid === 0) return;
    try {
      process.kill(-this.pid, 'SIGKILL');
    } catch {
      // the group is gone
    }
  }

  /** What can still be done when this process is about to end. */
  abandon(): void {
    this.killNow();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async close(): Promise<void> {
    await this.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** The guest reads a length and as many characters, and says so when they were fewer. */
  #send(command: string): void {
    const line = command.trim();
    this.#port.write(`${line.length} ${line}\n`);
  }

  #receive(text: string): void {
    this.#received += text;
    const match = this.#waiting?.pattern.exec(this.#received);
    if (!match) return;
    this.#received = this.#received.slice(match.index + match[0].length);
    this.#waiting?.resolve(match);
  }

  #expect(pattern: RegExp, timeoutMs: number, what: string): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => settle(() => reject(this.#error(`no answer in ${timeoutMs} ms to: ${what}`))),
        timeoutMs,
      );
      const settle = (then: () => void): void => {
        clearTimeout(timer);
        this.#waiting = null;
        then();
      };
      this.#waiting = {
        pattern,
        resolve: (match) => settle(() => resolve(match)),
        reject: (error) => settle(() => reject(error)),
      };
      if (this.#ended) this.#waiting.reject(this.#error('has ended'));
      else this.#receive('');
    });
  }

  #error(what: string): Error {
    const port = this.#received ? `\nfrom its port:\n${this.#received.slice(-2000)}` : '';
    return new Error(`guest ${this.name} ${what}\nits console:\n${this.#console.slice(-4000)}${port}`);
  }
}
