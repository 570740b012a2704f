/**
 * vfio-user NICs that come and go while a guest runs, and `netbe run` started again in between. QEMU's client does not
 * connect again, and may end itself when its server goes: so the device is taken out first, and put back afterwards.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { FabricProcess } from '../support/guest/fabric-process.js';
import type { Guest } from '../support/guest/guest.js';
import { guestNic, labNics } from '../support/guest/lab.js';
import { configure, iperf, macOf, until, waitForPing } from '../support/guest/net.js';
import { startQemu, vfioUserDevice } from '../support/guest/qemu.js';
import { Qmp } from '../support/guest/qmp.js';
import { startUml } from '../support/guest/uml.js';

describe('vfio-user NICs plugged in and out of a running guest', { timeout: 240_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'netbe-restart-'));
  const nics = labNics(dir, [
    { name: 'e1000', emulation: 'e1000' },
    { name: 'pci', transport: 'vfio-user' },
    { name: 'uml' },
  ]);
  const fabric = new FabricProcess(dir, nics);
  const guests: Guest[] = [];
  let qemu: Guest;
  let qmp: Qmp;

  before(async () => {
    await fabric.start();
    // as the documentation has it: QEMU with the arguments that netbe prints
    const args = await fabric.netbe('qemu-args', '--qemu-version', '11.1', '--mem', '192M', '--json', 'e1000');
    qemu = await startQemu({
      name: 'qemu',
      program: 'qemu11',
      qmpPath: join(dir, 'qmp'),
      netbeArgs: named(JSON.parse(args) as string[]),
    });
    guests.push(qemu);
    qmp = await Qmp.connect(join(dir, 'qmp'));
  });

  after(async () => {
    qmp?.close();
    await Promise.all(guests.map((guest) => guest.close()));
    await fabric.stop('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  });

  /** The device gets a name, by which it can be taken out again. */
  function named(args: readonly string[]): string[] {
    return args.map((arg) =>
      arg.includes('vfio-user-pci')
        ? JSON.stringify({ ...(JSON.parse(arg) as object), id: 'first', romfile: '' })
        : arg,
    );
  }

  /** A guest beside it; user-mode-linux does not connect again. */
  async function neighbour(): Promise<Guest> {
    const uml = await startUml({ name: 'uml', nics: [guestNic(nics, 'uml')] });
    guests.push(uml);
    await configure(uml, 'eth0', { address: '10.1.0.9/24' });
    await uml.sh('ip addr add 10.2.0.9/24 dev eth0');
    return uml;
  }

  async function use(uml: Guest, nic: 'e1000' | 'pci', dev: string): Promise<void> {
    const network = nic === 'e1000' ? '10.1.0' : '10.2.0';
    assert.equal(await macOf(qemu, dev), nics.find((n) => n.name === nic)!.mac);
    await configure(qemu, dev, { address: `${network}.1/24` });
    await waitForPing(qemu, `${network}.9`);
    assert.ok((await iperf(uml, qemu, `${network}.1`, { seconds: 1 })).bytes > 1_000_000, nic);
  }

  const hasInterface = async (dev: string): Promise<boolean> =>
    (await qemu.run(`[ -d /sys/class/net/${dev} ]`)).status === 0;

  it('runs a guest with the arguments of netbe qemu-args', async () => {
    const uml = await neighbour();
    await use(uml, 'e1000', 'eth0');
    await uml.close();
  });

  const listening = async (): Promise<boolean> => /^e1000 .*listening/m.test(await fabric.netbe('ports'));

  it('is taken out, and put back after the fabric was killed and started again, without a reboot', async () => {
    await qmp.run('device_del', { id: 'first' });
    await until(async () => !(await hasInterface('eth0')), 'the e1000 to be gone');
    await until(listening, 'its socket to be free');
    await fabric.stop('SIGKILL');
    await fabric.start();
    await until(listening, 'the new fabric');
    await qmp.run('device_add', vfioUserDevice(guestNic(nics, 'e1000'), 'again'));
    await until(() => hasInterface('eth0'), 'the e1000 to be back');
    await use(await neighbour(), 'e1000', 'eth0');
    assert.match(await fabric.netbe('ports'), new RegExp(`^e1000 .*running \\(pid ${qemu.pid}\\)`, 'm'));
  });

  // and is not taken out again: QEMU 11.1 ends itself when a vfio-user device with MSI-X goes (docs/vfio-user.md)
  it('may be a virtio-net function as well', async () => {
    await qmp.run('device_add', vfioUserDevice(guestNic(nics, 'pci'), 'virtio'));
    await until(() => hasInterface('eth1'), 'the virtio-net function');
    await use(guests.at(-1)!, 'pci', 'eth1');
    await waitForPing(qemu, '10.1.0.9');
  });
});
