/** QEMU, an independent vhost-user client, mixed with user-mode-linux on one switch. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab } from '../support/guest/lab.js';
import { configure, iperf, macOf, ping, until, waitForPing } from '../support/guest/net.js';
import { noOffloads } from '../support/guest/qemu.js';
import { startUml } from '../support/guest/uml.js';

describe('QEMU and user-mode-linux on one VALE switch', { timeout: 240_000 }, () => {
  let lab: Lab;
  let qemu: Guest;
  let plain: Guest;
  let uml: Guest;

  before(async () => {
    lab = await Lab.start([{ name: 'qemu', strictMemory: true }, { name: 'plain' }, { name: 'uml' }]);
    // one after the other: each would take both cores
    qemu = await lab.qemu('qemu');
    plain = await lab.qemu('plain', ['plain'], { properties: noOffloads });
    uml = await lab.uml('uml');
    await configure(qemu, 'eth0', { address: '10.0.0.1/24', address6: 'fd00::1/64' });
    await configure(plain, 'eth0', { address: '10.0.0.2/24', address6: 'fd00::2/64' });
    await configure(uml, 'eth0', { address: '10.0.0.3/24', address6: 'fd00::3/64' });
  });

  after(() => lab?.close());

  it('negotiates with each what it wants: offloads with one, none with another', async () => {
    const { nics } = await lab.fabric.show();
    const features = Object.fromEntries(nics.map((nic) => [nic.name, nic.device.features]));
    for (const name of ['qemu', 'uml']) {
      for (const f of ['VIRTIO_NET_F_GUEST_TSO4', 'VIRTIO_NET_F_HOST_TSO4', 'VIRTIO_NET_F_CSUM']) {
        assert.ok(features[name]?.includes(f), `${name}: ${f}`);
      }
    }
    assert.deepEqual(
      features.plain?.filter((f) => /CSUM|TSO|UFO/.test(f)),
      [],
    );
    assert.equal(await macOf(qemu, 'eth0'), '02:00:00:00:00:01');
  });

  it('answers pings between all pairs, larger than a segment too', async () => {
    for (const [from, to] of [
      [qemu, '10.0.0.2'],
      [qemu, '10.0.0.3'],
      [plain, '10.0.0.3'],
      [uml, '10.0.0.1'],
    ] as const) {
      for (const size of [56, 4000]) {
        const { received } = await ping(from, to, { count: 3, intervalS: 0.05, size });
        assert.equal(received, 3, `${from.name} to ${to}, ${size} bytes`);
      }
    }
  });

  it('carries TCP both ways with offloads', async () => {
    const segmented = lab.counter('vale0:uml', 'tx_frames_segmented');
    assert.ok((await iperf(uml, qemu, '10.0.0.1', { seconds: 1 })).bytes > 1_000_000);
    assert.ok((await iperf(qemu, uml, '10.0.0.3', { seconds: 1 })).bytes > 1_000_000);
    assert.equal(lab.counter('vale0:uml', 'tx_frames_segmented'), segmented, 'segmented for a guest that takes TSO');
  });

  it('segments and completes checksums for a guest that negotiated no offloads, over IPv4 and IPv6', async () => {
    for (const address of ['10.0.0.2', 'fd00::2']) {
      const segmented = lab.counter('vale0:uml', 'tx_frames_segmented');
      const completed = lab.counter('vale0:uml', 'tx_checksums_completed');
      const { bytes } = await iperf(uml, plain, address, { seconds: 1 });
      assert.ok(bytes > 500_000, `${bytes} bytes to ${address}`);
      assert.ok(lab.counter('vale0:uml', 'tx_frames_segmented') > segmented, address);
      assert.ok(lab.counter('vale0:uml', 'tx_checksums_completed') > completed, address);
    }
    assert.ok((await iperf(plain, uml, '10.0.0.3', { seconds: 1 })).bytes > 500_000);
    // every segment arrived intact: the receiver's kernel found no bad checksum
    const bad = await plain.sh("awk '/^Tcp:/ { v = $14 + $16 } END { print v }' /proc/net/snmp");
    assert.equal(bad.trim(), '0');
  });

  it('has, with strict memory, only guests whose memory cannot shrink: QEMU, not user-mode-linux', async () => {
    const nicOf = async (name: string) => (await lab.fabric.show()).nics.find((nic) => nic.name === name)!;
    assert.equal((await nicOf('qemu')).transport.memory.sealed, true);
    await lab.fabric.addNic({ backend: 'vale0:strict', socket: `${lab.dir}/strict.sock`, strictMemory: true });
    await using _refused = await startUml({ name: 'strict', nics: [{ socket: `${lab.dir}/strict.sock` }] });
    await until(async () => (await nicOf('strict')).transport.lastError !== null, 'the refusal');
    const { transport, device } = await nicOf('strict');
    assert.match(transport.lastError!, /shorten|shrink|seal/);
    assert.ok(device.queues.every((queue) => !queue.started));
  });

  // QEMU shows its guest a link state of its own (it does not take config space from vhost-user)
  it('drops while the link is down, and goes on when it is up', async () => {
    await lab.fabric.setLink('qemu', false);
    assert.equal((await ping(uml, '10.0.0.1', { count: 1 })).received, 0);
    assert.ok(lab.counter('qemu', 'rx_drop_link_down') > 0);
    await lab.fabric.setLink('qemu', true);
    await waitForPing(uml, '10.0.0.1');
    assert.equal((await ping(qemu, '10.0.0.3')).received, 3);
  });
});

describe('MTU 9000', { timeout: 120_000 }, () => {
  it('is told to the guests, and frames of that size cross unfragmented, with and without offloads', async () => {
    await using lab = await Lab.start([
      { name: 'a', mtu: 9000 },
      { name: 'b', mtu: 9000 },
    ]);
    const b = await lab.qemu('b', ['b'], { properties: noOffloads });
    const a = await lab.uml('a');
    await configure(a, 'eth0', { address: '10.0.0.1/24' });
    await configure(b, 'eth0', { address: '10.0.0.2/24', mtu: 9000 });
    assert.equal((await a.sh('cat /sys/class/net/eth0/mtu')).trim(), '9000');

    await ping(a, '10.0.0.2', { count: 1 });
    const frames = lab.counter('a', 'tx_frames');
    const { received } = await ping(a, '10.0.0.2', { count: 5, intervalS: 0.05, size: 8972 });
    assert.equal(received, 5);
    assert.ok(lab.counter('a', 'tx_frames') - frames < 10, 'fragments');

    for (const offloads of [true, false]) {
      await configure(a, 'eth0', { offloads });
      assert.ok((await iperf(a, b, '10.0.0.2', { seconds: 1 })).bytes > 1_000_000);
      assert.ok((await iperf(b, a, '10.0.0.1', { seconds: 1 })).bytes > 1_000_000);
    }
  });
});

describe('a NIC in client mode', { timeout: 120_000 }, () => {
  it('joins a QEMU that listens, whichever comes first, and joins it again after it was killed', async () => {
    await using lab = await Lab.start([{ name: 'listener', mode: 'client' }, { name: 'uml' }]);
    const uml = await lab.uml('uml');
    await configure(uml, 'eth0', { address: '10.0.0.2/24' });
    for (let boot = 0; boot < 2; boot++) {
      const qemu = await lab.qemu('listener');
      await configure(qemu, 'eth0', { address: '10.0.0.1/24' });
      await waitForPing(qemu, '10.0.0.2');
      assert.ok((await iperf(uml, qemu, '10.0.0.1', { seconds: 1 })).bytes > 1_000_000);
      await qemu.kill();
    }
  });
});
