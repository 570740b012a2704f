/** Starts user-mode-linux guests: a whole Linux kernel as a process, its NICs vhost-user clients (virtio_uml). */
import { statfsSync } from 'node:fs';
import { bootImage } from '../../../scripts/setup/images.js';
import { Guest, type GuestNic, guestDir } from './guest.js';

export interface UmlOptions {
  name?: string;
  nics?: readonly GuestNic[];
  memoryMb?: number;
  bootTimeoutMs?: number;
  /** arguments for the NICs, as `netbe uml-args` prints them, instead of `nics` */
  netbeArgs?: readonly string[];
}

const VIRTIO_ID_NET = 1;

/** Boots; resolves when the guest takes commands. Its NICs are eth0, eth1, … in the order given. */
export async function startUml(options: UmlOptions = {}): Promise<Guest> {
  const { name = 'uml', nics = [], memoryMb = 128, bootTimeoutMs = 60_000, netbeArgs } = options;
  const { kernel, initrd } = bootImage('uml');
  const dir = guestDir();
  const guest = new Guest({
    name,
    dir,
    command: kernel,
    args: [
      `mem=${memoryMb}M`,
      `initrd=${initrd}`,
      'root=/dev/ram0',
      'quiet',
      'con=null',
      'con0=null,fd:1',
      'ssl0=fd:3',
      `uml_dir=${dir}`,
      `umid=${name}`,
      ...(netbeArgs ?? nics.map((nic) => `virtio_uml.device=${nic.socket}:${VIRTIO_ID_NET}`)),
      'netbe.port=ttyS0',
    ],
    env: { TMPDIR: memoryDir(memoryMb, dir) },
  });
  return ready(guest, bootTimeoutMs);
}

/** The guest once it takes commands; on failure it is gone when this rejects. */
export async function ready(guest: Guest, timeoutMs: number): Promise<Guest> {
  try {
    await guest.waitReady(timeoutMs);
    return guest;
  } catch (error) {
    await guest.close();
    throw error;
  }
}

// The guest's memory is an unlinked file in TMPDIR: in memory where there is room, for a file on a
// disk is written back all the time.
function memoryDir(memoryMb: number, fallback: string): string {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    if (bavail * bsize > memoryMb * 2 ** 20 * 1.2) return '/dev/shm';
  } catch {
    // no such file system
  }
  return fallback;
}
