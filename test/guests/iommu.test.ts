/**
 * A guest with an IOMMU (Intel VT-d, emulated by QEMU): its kernel maps every buffer for the device and unmaps it again, each a
 * DMA_MAP and DMA_UNMAP, and an address that it did not map is a fault. It is also what lets its vfio-pci hand the
 * controller to a driver in user space, which uses interrupts that Linux's e1000 driver does not: MSI.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab } from '../support/guest/lab.js';
import { badSegments, configure, iperf, ping, until, waitForPing } from '../support/guest/net.js';
import { compileForGuest } from '../support/guest/programs.js';

const INTERRUPTS = 200;

describe('a guest with an IOMMU', { timeout: 300_000 }, () => {
  let lab: Lab;
  let guest: Guest;
  let uml: Guest;

  before(async () => {
    lab = await Lab.start([
      { name: 'e1000', emulation: 'e1000' },
      { name: 'virtio', transport: 'vfio-user', backend: 'vale1:virtio' },
      { name: 'uml' },
      { name: 'uml1', backend: 'vale1:uml1' },
    ]);
    guest = await lab.qemu('guest', ['e1000', 'virtio'], {
      machine: ['-M', 'q35', '-device', 'intel-iommu,caching-mode=on'],
      parameters: 'intel_iommu=on',
      programs: { 'vfio-interrupts': compileForGuest('vfio-interrupts', lab.dir) },
      reboots: true,
    });
    uml = await lab.uml('uml', ['uml', 'uml1']);
    await configure(uml, 'eth0', { address: '10.0.0.2/24' });
    await configure(uml, 'eth1', { address: '10.1.0.2/24' });
  });

  after(() => lab?.close());

  /** What its kernel calls the NIC that a driver has. */
  async function interfaceOf(driver: string): Promise<string> {
    const found = await guest.sh(
      `for i in /sys/class/net/*; do case $(readlink $i/device/driver) in */${driver}) echo \${i##*/};; esac; done`,
    );
    return found.trim();
  }

  async function carries(driver: string, network: string): Promise<void> {
    const name = await interfaceOf(driver);
    await configure(guest, name, { address: `${network}.1/24` });
    await waitForPing(guest, `${network}.2`);
    for (const size of [56, 1472, 9000])
      assert.equal((await ping(guest, `${network}.2`, { count: 3, intervalS: 0.05, size })).received, 3, `${size}`);
    for (const [from, to, address] of [
      [guest, uml, `${network}.2`],
      [uml, guest, `${network}.1`],
    ] as const)
      assert.ok((await iperf(from, to, address, { seconds: 1 })).bytes > 200_000);
  }

  it('reaches the network by e1000 and by virtio-net, and neither meets an address that is not mapped', async () => {
    await carries('e1000', '10.0.0');
    await carries('virtio_net', '10.1.0');
    assert.deepEqual([await badSegments(guest), await badSegments(uml)], [0, 0]);
    for (const [nic, counters] of Object.entries(lab.fabric.counters()))
      for (const [name, value] of Object.entries(counters))
        if (name.startsWith('fault_')) assert.deepEqual({ nic, name, value }, { nic, name, value: 0 });
  });

  it('does so again after a reboot, in which the IOMMU forgets all at once', async () => {
    await guest.reboot();
    await carries('e1000', '10.0.0');
    await carries('virtio_net', '10.1.0');
  });

  it('hands the e1000 to a driver in user space, which is interrupted by MSI and by INTx', async () => {
    const name = await interfaceOf('e1000');
    const address = (await guest.sh(`basename $(readlink /sys/class/net/${name}/device)`)).trim();
    const link = await guest.sh(`readlink /sys/bus/pci/devices/${address}/iommu_group`);
    const group = `/dev/vfio/${link.trim().split('/').at(-1)}`;
    await guest.sh('rmmod e1000 && load vfio_pci && load vfio_iommu_type1');
    await guest.sh('echo 8086 100f >/sys/bus/pci/drivers/vfio-pci/new_id');
    await until(async () => (await guest.run(`ls ${group}`)).status === 0, group);
    const then = lab.counter('e1000', 'interrupts');
    const result = await guest.sh(`vfio-interrupts ${group} ${address} ${INTERRUPTS}`, 60_000);
    assert.deepEqual(
      result.trim().split('\n'),
      ['msi', 'intx', 'msi again'].map((kind) => `${kind} ${INTERRUPTS} of ${INTERRUPTS}, masked 0, disabled 0`),
    );
    assert.ok(lab.counter('e1000', 'interrupts') - then >= 3 * INTERRUPTS);
    await guest.sh(`echo ${address} >/sys/bus/pci/drivers/vfio-pci/unbind && load e1000`);
    await guest.run(`echo ${address} >/sys/bus/pci/drivers/e1000/bind`);
    await carries('e1000', '10.0.0');
    assert.match(await guest.sh('cat /proc/interrupts'), new RegExp(`IO-APIC.*${await interfaceOf('e1000')}`));
  });
});
