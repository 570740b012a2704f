/**
 * Taps and network namespaces for tests. A test file is a process of its own, so it moves its own
 * main thread into a fresh network namespace, which goes away with the process: nothing to clean up.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readSync, writeSync } from 'node:fs';
import type { Fd } from '../../src/sys/fd.js';
import { libc, sysError } from '../../src/sys/libc.js';
import { IFF_NO_PI, IFF_TAP, IFF_VNET_HDR, openTun, TUN_PATH, tunAttach, tunSetOffload } from '../../src/sys/tun.js';

const unshare = libc.func('int unshare(int flags)') as (flags: number) => number;

const CLONE_NEWNET = 0x40000000;

/** Why this process cannot have taps of its own; false: it can. For the `skip` of node:test. */
export const tapsUnavailable: string | false = whyNoTaps();

function whyNoTaps(): string | false {
  if (process.getuid?.() !== 0) return 'taps and network namespaces need root: run the tests as root';
  if (!existsSync(TUN_PATH)) return 'there is no /dev/net/tun: the kernel, or this container, has no taps';
  if (spawnSync('ip', ['-V']).error) return 'ip is not there: install iproute2';
  return false;
}

/** Moves this process's main thread, and what it starts from now on, into a network namespace of its own. */
export function enterOwnNetwork(): void {
  if (unshare(CLONE_NEWNET) !== 0) throw sysError('unshare', 'CLONE_NEWNET');
  ip('link set lo up');
}

/** Runs ip(8) with the words of `command`. */
export function ip(command: string): void {
  execFileSync('ip', command.split(' '), { stdio: ['ignore', 'inherit', 'inherit'] });
}

/** A protocol's counters in this namespace (/proc/net/snmp), by name. */
export function snmpCounters(protocol: string): Record<string, number> {
  const lines = readFileSync('/proc/thread-self/net/snmp', 'utf8').split('\n');
  const [names, values] = lines.filter((l) => l.startsWith(`${protocol}: `)).map((l) => l.split(' ').slice(1));
  return Object.fromEntries((names ?? []).map((name, i) => [name, Number(values?.[i])]));
}

/** A tap that carries the 10-byte virtio-net header. */
export class Tap {
  readonly #fd: Fd;
  readonly #buffer = Buffer.alloc(70000);

  constructor(
    readonly name: string,
    offloads = 0,
  ) {
    this.#fd = openTun();
    tunAttach(this.#fd.number, name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
    if (!tunSetOffload(this.#fd.number, offloads))
      throw new Error(`this kernel does not know all offloads of ${offloads}`);
  }

  write(header: Uint8Array, frame: Uint8Array): void {
    const bytes = Buffer.concat([header, frame]);
    writeSync(this.#fd.number, bytes);
  }

  /** The next frame with its header, or undefined when none waits. */
  read(): { header: Buffer; frame: Buffer } | undefined {
    try {
      const bytes = Buffer.from(this.#buffer.subarray(0, readSync(this.#fd.number, this.#buffer)));
      return { header: bytes.subarray(0, 10), frame: bytes.subarray(10) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
      throw error;
    }
  }

  close(): void {
    this.#fd.close();
  }
}
