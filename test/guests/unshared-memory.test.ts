/**
 * NICs over vfio-user for a guest whose memory QEMU does not share: Linux's drivers do the same as with shared memory, and every
 * descriptor and frame comes and goes by messages. Beside it a guest that shares its memory, on the same switches.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { openFdCount } from '../../src/sys/fd.js';
import type { Guest } from '../support/guest/guest.js';
import { guestNic, Lab } from '../support/guest/lab.js';
import {
  addVlan,
  badSegments,
  configure,
  iperf,
  ping,
  setOffloads,
  startIperfServer,
  statistic,
  until,
  waitForCarrier,
  waitForPing,
} from '../support/guest/net.js';
import { vfioUserDevice } from '../support/guest/qemu.js';
import { Qmp } from '../support/guest/qmp.js';

const JUMBO_MTU = 9000;

/** A NIC of the guest: its interface, the network it is in, and what its driver is called. */
interface Nic {
  name: 'e1000' | 'virtio';
  /** the driver that boots first has the first name */
  dev: string;
  network: string;
  /** of the network's other NIC, in the guest that shares its memory */
  neighbour: string;
}

const nics: readonly Nic[] = [
  { name: 'virtio', dev: 'eth0', network: '10.1.0', neighbour: 'near-virtio' },
  { name: 'e1000', dev: 'eth1', network: '10.2.0', neighbour: 'near-e1000' },
];

/** Last bytes of the addresses in both networks */
const SELF = 1;
const NEAR = 2;
const UML = 3;

describe('a guest whose hypervisor shares no memory', { timeout: 600_000 }, () => {
  let lab: Lab;
  let guest: Guest;
  /** its memory is shared */
  let near: Guest;
  let uml: Guest;
  let descriptors: number;

  before(async () => {
    const mtu = JUMBO_MTU;
    lab = await Lab.start([
      { name: 'virtio', transport: 'vfio-user', mtu, backend: 'vale1:virtio' },
      { name: 'e1000', emulation: 'e1000', backend: 'vale2:e1000' },
      { name: 'near-virtio', transport: 'vfio-user', mtu, backend: 'vale1:near' },
      { name: 'near-e1000', emulation: 'e1000', backend: 'vale2:near' },
      { name: 'uml1', mtu, backend: 'vale1:uml' },
      { name: 'uml2', mtu, backend: 'vale2:uml' },
    ]);
    // a display, whose memory and ROM are never shared
    near = await lab.qemu('near', ['near-virtio', 'near-e1000'], { extraArgs: ['-device', 'VGA'] });
    uml = await lab.uml('uml', ['uml1', 'uml2']);
    for (const [other, host] of [
      [near, NEAR],
      [uml, UML],
    ] as const)
      await settle(other, host);
    descriptors = openFdCount();
    await boot();
  });

  after(() => lab?.close());

  async function boot(): Promise<void> {
    guest = await lab.qemu('guest', ['virtio', 'e1000'], {
      sharedMemory: false,
      reboots: true,
      qmpPath: join(lab.dir, `qmp`),
    });
    await settle(guest, SELF);
  }

  async function settle(who: Guest, host: number): Promise<void> {
    for (const { dev, network } of nics)
      await configure(who, dev, { address: `${network}.${host}/24`, mtu: who === uml ? 1500 : undefined });
  }

  /** DMA messages that a NIC has sent */
  function messages(nic: string): number {
    const counters = lab.fabric.counters()[`${nic}/vfio-user`]!;
    return counters.dma_reads! + counters.dma_writes!;
  }

  const ways = ({ network }: Nic) =>
    [
      [guest, uml, `${network}.${UML}`],
      [uml, guest, `${network}.${SELF}`],
    ] as const;

  async function pingBothWays(nic: Nic, sizes: readonly number[]): Promise<void> {
    for (const [from, , address] of ways(nic))
      for (const size of sizes) {
        const { sent, received } = await ping(from, address, { count: 3, intervalS: 0.05, size });
        assert.deepEqual({ from: from.name, size, received }, { from: from.name, size, received: sent });
      }
  }

  async function tcpBothWays(nic: Nic): Promise<void> {
    for (const [from, to, address] of ways(nic))
      assert.ok((await iperf(from, to, address, { seconds: 1 })).bytes > 1_000_000, `${nic.name}, from ${from.name}`);
    assert.deepEqual([await badSegments(guest), await badSegments(uml)], [0, 0]);
  }

  for (const nic of nics)
    describe(nic.name, () => {
      const { name, dev, network } = nic;

      it('answers pings both ways, of every size up to many fragments', () =>
        pingBothWays(nic, [0, 1, 18, 56, 1472, 1473, 8972, 40_000]));

      it('carries UDP both ways', async () => {
        for (const [from, to, address] of ways(nic)) {
          const then = await statistic(to, dev, 'rx_packets');
          await iperf(from, to, address, { seconds: 1, extra: '-u -b 8M -l 1400' });
          const frames = (await statistic(to, dev, 'rx_packets')) - then;
          assert.ok(frames > 500, `from ${from.name}: ${frames} frames`);
        }
      });

      for (const tso of [true, false])
        it(`carries TCP both ways with TSO ${tso ? 'on' : 'off'}`, async () => {
          await setOffloads(guest, dev, { tso, gso: tso });
          await tcpBothWays(nic);
          await setOffloads(guest, dev, { tso: true, gso: true });
        });

      it('carries every byte as it was, both ways', async () => {
        for (const [to, from, address] of ways(nic)) {
          await from.sh('head -c 4000000 /dev/urandom >/tmp/file && httpd -p 8080 -h /tmp');
          const sum = (await from.sh('sha256sum </tmp/file')).trim();
          assert.equal((await to.sh(`wget -q -O - http://${address}:8080/file | sha256sum`)).trim(), sum);
          await from.sh('killall httpd');
        }
      });

      it('carries jumbo frames', async () => {
        for (const who of [guest, uml]) await configure(who, dev, { mtu: JUMBO_MTU });
        await waitForPing(guest, `${network}.${UML}`);
        await pingBothWays(nic, [JUMBO_MTU - 28]);
        await tcpBothWays(nic);
        for (const who of [guest, uml]) await configure(who, dev, { mtu: 1500 });
      });

      it('meets a guest that shares its memory', async () => {
        const then = messages(name);
        for (const [from, to, host] of [
          [guest, near, NEAR],
          [near, guest, SELF],
        ] as const)
          assert.ok((await iperf(from, to, `${network}.${host}`, { seconds: 1 })).bytes > 1_000_000, from.name);
        assert.ok(messages(name) > then + 1000);
        assert.equal(messages(nic.neighbour), 0);
      });

      it('sees the link go down and up', async () => {
        await lab.fabric.setLink(name, false);
        await waitForCarrier(guest, dev, false);
        assert.notEqual((await uml.run(`ping -c 1 -W 1 ${network}.${SELF}`)).status, 0);
        await lab.fabric.setLink(name, true);
        await waitForCarrier(guest, dev, true);
        await waitForPing(uml, `${network}.${SELF}`);
      });
    });

  it('e1000: tagged frames (802.1Q), tagged by the device and by the guest', async () => {
    await addVlan(guest, 'eth1', 5, '10.5.0.1/24');
    await addVlan(uml, 'eth1', 5, '10.5.0.2/24');
    for (const vlan of [true, false]) {
      await setOffloads(guest, 'eth1', { rxvlan: vlan, txvlan: vlan });
      await waitForCarrier(guest, 'eth1', true);
      await waitForPing(guest, '10.5.0.2');
      for (const size of [56, 1472, 4000])
        assert.equal((await ping(uml, '10.5.0.1', { count: 3, intervalS: 0.05, size })).received, 3, `${size}`);
      assert.ok((await iperf(guest, uml, '10.5.0.2', { seconds: 1 })).bytes > 1_000_000);
    }
    await guest.sh('ip link del eth1.5');
    await uml.sh('ip link del eth1.5');
  });

  it('both NICs work at once, both ways', async () => {
    const ports = await Promise.all(nics.map(() => startIperfServer(uml)));
    const clients = nics.map(({ network }, i) => `iperf3 -c ${network}.${UML} -p ${ports[i]} -t 5 --bidir >/tmp/${i}`);
    await guest.sh(`${clients.map((client) => `${client} & `).join('')} sleep 7`, 60_000);
    for (const i of nics.keys()) {
      const report = await guest.sh(`cat /tmp/${i}`);
      const stalled = report.split('\n').filter((line) => / 0\.00 (bits|Bytes)/.test(line));
      assert.deepEqual(stalled, [], report);
      assert.match(report, /receiver/);
    }
    for (const nic of nics) await pingBothWays(nic, [56]);
  });

  it('drivers unload and load again; virtio then takes INTx', async () => {
    await guest.sh('rmmod e1000 && load e1000');
    const pci = 'pci=/sys/bus/pci/devices/$(basename $(realpath /sys/bus/virtio/devices/virtio*/..))';
    await guest.sh(`${pci}; rmmod virtio_net virtio_pci; echo 0 >$pci/msi_bus && load virtio_pci && load virtio_net`);
    assert.match(await guest.sh('grep virtio /proc/interrupts'), /IO-APIC.*virtio\d/);
    await settle(guest, SELF);
    for (const nic of nics) {
      await waitForPing(uml, `${nic.network}.${SELF}`);
      await tcpBothWays(nic);
    }
  });

  it('is there again after a reboot of the guest', async () => {
    await guest.reboot();
    await settle(guest, SELF);
    for (const nic of nics) {
      await waitForPing(guest, `${nic.network}.${UML}`);
      await tcpBothWays(nic);
    }
  });

  // QEMU 11.1 ends itself when a vfio-user device with MSI-X is plugged out: an assertion in its memory_region_del_subregion
  it('e1000 is plugged out and in', async () => {
    const { name, dev, network } = nics[1]!;
    const has = async (): Promise<boolean> => (await guest.run(`[ -d /sys/class/net/${dev} ]`)).status === 0;
    const qmp = await Qmp.connect(join(lab.dir, 'qmp'));
    try {
      for (let times = 0; times < 2; times++) {
        await qmp.run('device_del', { id: 'vfio1' });
        await until(async () => !(await has()), `${dev} to be gone`);
        await until(async () => (await transportOf(name)).state === 'listening', 'its socket to be free');
        await qmp.run('device_add', vfioUserDevice(guestNic(lab.nics, name), 'vfio1'));
        await until(has, `${dev} to be back`);
        await configure(guest, dev, { address: `${network}.${SELF}/24` });
        await waitForPing(guest, `${network}.${UML}`);
      }
    } finally {
      qmp.close();
    }
    await tcpBothWays(nics[1]!);
  });

  const transportOf = async (name: string) =>
    (await lab.fabric.show()).nics.find((nic) => nic.name === name)!.transport;

  it('is killed in the middle of traffic: nothing is left of it, and the next one finds everything as it should be', async () => {
    const ports = await Promise.all(nics.map(() => startIperfServer(uml)));
    const clients = nics.map(({ network }, i) => `iperf3 -c ${network}.${UML} -p ${ports[i]} -t 60 --bidir`);
    await guest.sh(clients.map((client) => `${client} >/dev/null 2>&1 &`).join(' '));
    for (const { name } of nics) {
      const then = messages(name);
      await until(() => messages(name) > then + 2000, `traffic of ${name}`);
    }
    await guest.kill();
    for (const { name, network } of nics) {
      await until(async () => (await transportOf(name)).state === 'listening', `${name} to be free`);
      const { memory } = await transportOf(name);
      assert.deepEqual({ name, regions: memory.regions, bytes: memory.bytes }, { name, regions: 0, bytes: 0 });
      await waitForPing(uml, `${network}.${NEAR}`);
    }
    await until(() => openFdCount() === descriptors, `${descriptors} descriptors`);
    await uml.sh('killall iperf3');
    await boot();
    for (const nic of nics) {
      await waitForPing(guest, `${nic.network}.${UML}`);
      await tcpBothWays(nic);
    }
  });

  it('has never cost the guest beside it a message', async () => {
    for (const { neighbour } of nics) {
      assert.ok((await transportOf(neighbour)).memory.bytes > 190 * 2 ** 20);
      assert.equal(messages(neighbour), 0);
    }
    assert.match(await near.sh('cat /proc/iomem /sys/bus/pci/devices/*/class'), /0x030000/);
  });
});
