/** A fabric as people run it: `netbe run` in a process of its own, which can be killed and started again. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { NicSpec } from '../../../src/control/fabric-types.js';
import { until } from './net.js';
import { dyingWithParent } from './parent-death.js';

export const netbeMain = fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));

const live = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of live) child.kill('SIGKILL');
});

export class FabricProcess {
  readonly control: string;
  readonly #nics: readonly NicSpec[];
  #child: ChildProcess | null = null;
  #output = '';

  /** `dir` takes the control socket. */
  constructor(dir: string, nics: readonly NicSpec[]) {
    this.control = join(dir, 'control.sock');
    this.#nics = nics;
  }

  /** Resolves when the control socket answers. */
  async start(): Promise<void> {
    const slots = this.#nics.flatMap((nic, i) => {
      const { emulation = 'virtio-net', transport } = nic;
      const mtu = nic.mtu === undefined ? '' : `,mtu=${nic.mtu}`;
      const how = transport === undefined ? '' : `,transport=${transport}`;
      return ['-s', `${i + 2}:0,${emulation},${nic.backend},socket=${nic.socket},mac=${nic.mac}${mtu}${how}`];
    });
    const run = [netbeMain, 'run', '--control', this.control, '--log-json', ...slots];
    const [command, ...args] = dyingWithParent(process.execPath, ...run);
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    live.add(child);
    child.once('exit', () => live.delete(child));
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#output = (this.#output + text).slice(-16384);
      });
    }
    await until(async () => {
      if (child.exitCode !== null) throw new Error(`netbe run ended with ${child.exitCode}:\n${this.#output}`);
      return answers(this.control);
    }, 'netbe run');
  }

  /** Ends it with `signal` and waits. Returns the exit status; null if the signal ended it. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    const child = this.#child;
    if (child === null) return null;
    this.#child = null;
    if (child.exitCode === null && child.signalCode === null) {
      child.kill(signal);
      await once(child, 'exit');
    }
    return child.exitCode;
  }

  /** Another netbe command that talks to this fabric. Returns what it prints. */
  async netbe(command: string, ...args: string[]): Promise<string> {
    const words = [netbeMain, command, '--control', this.control, ...args];
    return (await promisify(execFile)(process.execPath, words)).stdout;
  }
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const connection = connect(socket, () => {
      connection.destroy();
      resolve(true);
    });
    connection.once('error', () => resolve(false));
  });
}
