/**
 * Taps and network namespaces for tests. A test file is a process of its own, so it moves its own
 * main thread into a fresh network namespace, which goes away with the process: nothing to clean up.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { ioctl } from '../../src/sys/ioctl.js';
import { libc, sysError } from '../../src/sys/libc.js';

const unshare = libc.func('int unshare(int flags)') as (flags: number) => number;

const CLONE_NEWNET = 0x40000000;

// linux/if_tun.h
const TUNSETIFF = 0x400454ca;
const TUNSETOFFLOAD = 0x400454d0;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;
export const TUN_F_UFO = 0x10;
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;

/** Why this process cannot have taps of its own; false: it can. For the `skip` of node:test. */
export const tapsUnavailable: string | false = whyNoTaps();

function whyNoTaps(): string | false {
  if (process.getuid?.() !== 0) return 'taps and network namespaces need root: run the tests as root';
  if (!existsSync('/dev/net/tun')) return 'there is no /dev/net/tun: the kernel, or this container, has no taps';
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
  readonly #fd: number;
  readonly #buffer = Buffer.alloc(70000);

  constructor(
    readonly name: string,
    offloads = 0,
  ) {
    this.#fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
    const ifreq = Buffer.alloc(40);
    ifreq.write(name);
    ifreq.writeUInt16LE(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, 16);
    ioctl(this.#fd, TUNSETIFF, ifreq, 'TUNSETIFF', name);
    ioctl(this.#fd, TUNSETOFFLOAD, offloads, 'TUNSETOFFLOAD', name);
  }

  write(header: Uint8Array, frame: Uint8Array): void {
    const bytes = Buffer.concat([header, frame]);
    writeSync(this.#fd, bytes);
  }

  /** The next frame with its header, or undefined when none waits. */
  read(): { header: Buffer; frame: Buffer } | undefined {
    try {
      const bytes = Buffer.from(this.#buffer.subarray(0, readSync(this.#fd, this.#buffer)));
      return { header: bytes.subarray(0, 10), frame: bytes.subarray(10) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return undefined;
      throw error;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}
