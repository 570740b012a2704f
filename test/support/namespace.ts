/**
 * A network namespace with a process in it that talks TCP and UDP through the kernel's own stack. It goes
 * with that process, and that one with the test.
 */
import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('./namespace-peer.js', import.meta.url));

export interface TransferResult {
  bytes: number;
  /** what the other end received is what was sent */
  intact: boolean;
}

export interface EchoResult {
  /** lengths that came back unchanged */
  echoed: number[];
}

export class Namespace {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  static create(): Promise<Namespace> {
    return Namespace.#start('unshare', ['--net', '--', process.execPath, program]);
  }

  /** The same process in the caller's own namespace. */
  static here(): Promise<Namespace> {
    return Namespace.#start(process.execPath, [program]);
  }

  static async #start(command: string, args: string[]): Promise<Namespace> {
    const namespace = new Namespace(spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
    await namespace.#answer();
    return namespace;
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  /** Runs ip(8) in the namespace. */
  ip(command: string): void {
    const words = ['--net', '--target', String(this.pid), '--', 'ip', ...command.split(' ')];
    execFileSync('nsenter', words, { stdio: ['ignore', 'inherit', 'inherit'] });
  }

  /** Takes an interface of this process's namespace in, and gives it addresses. */
  adopt(name: string, addresses: readonly string[]): void {
    execFileSync('ip', ['link', 'set', name, 'netns', String(this.pid)]);
    this.ip('link set lo up');
    // nodad: an IPv6 address that may be used at once
    for (const address of addresses) this.ip(`addr add ${address} dev ${name}${address.includes(':') ? ' nodad' : ''}`);
    this.ip(`link set ${name} up`);
  }

  /** Listens with TCP and UDP on all addresses. */
  listen(): Promise<unknown> {
    return this.#ask({ do: 'listen' });
  }

  /** Sends bytes to a namespace that listens. */
  transfer(host: string, bytes: number): Promise<TransferResult> {
    return this.#ask({ do: 'transfer', host, bytes });
  }

  /** Sends a datagram of each length, and waits for its echo. */
  echo(host: string, lengths: readonly number[]): Promise<EchoResult> {
    return this.#ask({ do: 'echo', host, lengths });
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }

  async #ask<T>(request: object): Promise<T> {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    return this.#answer<T>();
  }

  async #answer<T>(): Promise<T> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the process in the namespace has ended');
    const answer = JSON.parse(value) as T & { error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }
}
