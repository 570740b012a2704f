/** iPXE, a driver of its own for each NIC, polling instead of interrupts: DHCP, and a kernel over HTTP that then has to run. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab, type LabNic } from '../support/guest/lab.js';
import { configure, waitForPing } from '../support/guest/net.js';
import { bootRom, linuxScript, startBootServer } from '../support/guest/netboot.js';
import type { QemuOptions } from '../support/guest/qemu.js';

const SERVER = '10.0.0.2';

interface BootRom {
  file: string;
  /** PCI device that runs it */
  deviceId: number;
}

const TRANSITIONAL_VIRTIO: BootRom = { file: 'pxe-virtio.rom', deviceId: 0x1000 };
const E1000: BootRom = { file: 'pxe-e1000.rom', deviceId: 0x100f };

/** Boots a guest from the network by the ROM on `nic`, with a user-mode-linux guest as its server. */
async function netboot(
  nic: Omit<LabNic, 'name'>,
  rom: BootRom,
  chip: RegExp,
  options: QemuOptions = {},
): Promise<void> {
  await using lab = await Lab.start([{ name: 'client', ...nic }, { name: 'server' }]);
  const server = await lab.uml('server');
  await configure(server, 'eth0', { address: `${SERVER}/24` });
  await startBootServer(server, { dir: join(lab.dir, 'srv'), address: SERVER, script: linuxScript(SERVER) });
  const client = await lab.qemu('client', ['client'], {
    program: 'qemu11',
    boot: 'network',
    memoryMb: 256,
    rom: bootRom(lab.dir, rom.file, rom.deviceId),
    bootTimeoutMs: 120_000,
    ...options,
  });
  assertBooted(client, chip);
  await configure(client, 'eth0', { address: '10.0.0.3/24' });
  await waitForPing(client, SERVER);
}

function assertBooted({ console }: Guest, chip: RegExp): void {
  const said = /netbe: (.*) 02:00:00:00:00:01 has (10\.0\.0\.\d+), boots from 10\.0\.0\.2/.exec(console);
  assert.match(said?.[1] ?? '', chip, console);
}

describe('a guest booted by iPXE', { timeout: 600_000 }, () => {
  it('over virtio-net and vhost-user', () => netboot({}, TRANSITIONAL_VIRTIO, /^virtio-net$/));

  it('over virtio-net and vfio-user', () => netboot({ transport: 'vfio-user' }, TRANSITIONAL_VIRTIO, /^virtio-net$/));

  it('over e1000', () => netboot({ emulation: 'e1000' }, E1000, /^82545em$/));

  const sharedMemory = false;

  it('over virtio-net and vfio-user, without shared memory', () =>
    netboot({ transport: 'vfio-user' }, TRANSITIONAL_VIRTIO, /^virtio-net$/, { sharedMemory }));

  it('over e1000, without shared memory', () => netboot({ emulation: 'e1000' }, E1000, /^82545em$/, { sharedMemory }));
});
