/** Linux's virtio_pci and virtio_net drivers on netbe's virtio-net as a PCI function, through QEMU's vfio-user client. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab } from '../support/guest/lab.js';
import {
  badSegments,
  configure,
  iperf,
  macOf,
  ping,
  setOffloads,
  statistic,
  waitForCarrier,
  waitForPing,
} from '../support/guest/net.js';

const VIRTIO_F_VERSION_1 = 32;
const VIRTIO_NET_F_HOST_TSO4 = 11;

/** How the driver comes: `load` are the commands after it was unloaded. */
const modes = [
  { name: 'modern, MSI-X', load: 'load virtio_pci', modern: true, msix: true },
  { name: 'legacy, MSI-X', load: 'insmod /modules/virtio_pci.ko force_legacy=1', modern: false, msix: true },
  { name: 'modern, INTx', load: 'echo 0 >$pci/msi_bus && load virtio_pci', modern: true, msix: false },
  {
    name: 'legacy, INTx',
    load: 'echo 0 >$pci/msi_bus && insmod /modules/virtio_pci.ko force_legacy=1',
    modern: false,
    msix: false,
  },
];

describe("a Linux guest's virtio-net driver on a PCI function", { timeout: 300_000 }, () => {
  let lab: Lab;
  let pci: Guest;
  let uml: Guest;

  before(async () => {
    lab = await Lab.start([
      { name: 'pci', transport: 'vfio-user', mtu: 9000 },
      { name: 'uml', mtu: 9000 },
    ]);
    pci = await lab.qemu('pci', ['pci'], { reboots: true });
    uml = await lab.uml('uml');
    await configure(uml, 'eth0', { address: '10.0.0.2/24' });
  });

  after(() => lab?.close());

  const pairs = () =>
    [
      [pci, uml, '10.0.0.2'],
      [uml, pci, '10.0.0.1'],
    ] as const;

  async function features(): Promise<string> {
    return (await pci.sh('cat /sys/class/net/eth0/device/features')).trim();
  }

  async function tcpBothWays(): Promise<void> {
    for (const [from, to, address] of pairs())
      assert.ok((await iperf(from, to, address, { seconds: 1 })).bytes > 1_000_000, `from ${from.name}`);
    assert.deepEqual([await badSegments(pci), await badSegments(uml)], [0, 0]);
  }

  for (const { name, load, modern, msix } of modes)
    describe(name, () => {
      before(async () => {
        const module = 'for m in virtio_net virtio_pci; do rmmod $m; done';
        await pci.sh(
          `pci=/sys/bus/pci/devices/$(basename $(realpath /sys/bus/virtio/devices/virtio*/..)); ${module}; ${load} && load virtio_net`,
        );
        await configure(pci, 'eth0', { address: '10.0.0.1/24' });
        await waitForPing(pci, '10.0.0.2');
      });

      it('is what the driver takes it for', async () => {
        const bits = await features();
        assert.equal(bits[VIRTIO_F_VERSION_1], modern ? '1' : '0');
        assert.equal(bits[VIRTIO_NET_F_HOST_TSO4], '1');
        assert.equal(await macOf(pci, 'eth0'), '02:00:00:00:00:01');
        assert.equal((await pci.sh('cat /sys/class/net/eth0/mtu')).trim(), '9000');
        const interrupts = await pci.sh('grep virtio /proc/interrupts');
        if (msix) assert.match(interrupts, /PCI-MSI.*virtio\d-input\.0/);
        else assert.match(interrupts, /IO-APIC.*virtio\d/);
      });

      it('answers pings both ways, of every size up to many fragments', async () => {
        for (const [from, , address] of pairs())
          for (const size of [0, 56, 1472, 8972, 40_000]) {
            const { sent, received } = await ping(from, address, { count: 3, intervalS: 0.05, size });
            assert.deepEqual({ from: from.name, size, received }, { from: from.name, size, received: sent });
          }
      });

      it('carries TCP both ways with offloads and without', async () => {
        await tcpBothWays();
        await setOffloads(pci, 'eth0', { tx: false, tso: false, gso: false });
        await tcpBothWays();
        await setOffloads(pci, 'eth0', { tx: true, tso: true, gso: true });
      });

      it('tells its driver of the link', async () => {
        await lab.fabric.setLink('pci', false);
        await waitForCarrier(pci, 'eth0', false);
        await lab.fabric.setLink('pci', true);
        await waitForCarrier(pci, 'eth0', true);
        await waitForPing(pci, '10.0.0.2');
      });
    });

  it('segments cross whole', async () => {
    const [frames, bytes] = [await statistic(uml, 'eth0', 'rx_packets'), await statistic(uml, 'eth0', 'rx_bytes')];
    await tcpBothWays();
    const average =
      ((await statistic(uml, 'eth0', 'rx_bytes')) - bytes) / ((await statistic(uml, 'eth0', 'rx_packets')) - frames);
    assert.ok(average > 1518, `frames of ${average} bytes`);
  });

  it('is there again after a reboot of the guest', async () => {
    await pci.reboot();
    await configure(pci, 'eth0', { address: '10.0.0.1/24' });
    await waitForPing(pci, '10.0.0.2');
    assert.equal((await features())[VIRTIO_F_VERSION_1], '1');
    await tcpBothWays();
  });
});
