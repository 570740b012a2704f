/** user-mode-linux guests on VALE switches: three guests, one boot each, shared by the tests of this file. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab } from '../support/guest/lab.js';
import {
  configure,
  iperf,
  macOf,
  ping,
  startIperfServer,
  statistic,
  until,
  waitForCarrier,
  waitForPing,
} from '../support/guest/net.js';

describe('three user-mode-linux guests on one VALE switch', { timeout: 180_000 }, () => {
  let lab: Lab;
  let a: Guest;
  let b: Guest;
  let c: Guest;

  before(async () => {
    // c has three NICs; those called side1 and side2 are on switches of their own
    lab = await Lab.start([
      { name: 'a' },
      { name: 'b' },
      { name: 'c' },
      { name: 'side1', backend: 'vale1:c' },
      { name: 'side2', backend: 'vale2:c' },
    ]);
    [a, b, c] = await Promise.all([lab.uml('a'), lab.uml('b'), lab.uml('c', ['c', 'side1', 'side2'])]);
    await configure(a, 'eth0', { address: '10.0.0.1/24' });
    await configure(b, 'eth0', { address: '10.0.0.2/24' });
    await configure(c, 'eth0', { address: '10.0.0.3/24' });
  });

  after(() => lab?.close());

  it('gives each guest the address of its NIC, and a guest with three NICs all three in order', async () => {
    assert.equal(await macOf(a, 'eth0'), '02:00:00:00:00:01');
    assert.equal(await macOf(b, 'eth0'), '02:00:00:00:00:02');
    for (const [i, last] of ['03', '04', '05'].entries()) {
      assert.equal(await macOf(c, `eth${i}`), `02:00:00:00:00:${last}`);
    }
  });

  it('answers pings of every size up to several fragments', async () => {
    for (const size of [0, 18, 56, 1472, 1473, 8000]) {
      const { sent, received } = await ping(a, '10.0.0.2', { count: 3, intervalS: 0.05, size });
      assert.deepEqual({ size, sent, received }, { size, sent: 3, received: 3 });
    }
  });

  it('does not show a third guest the frames between two that the switch knows', async () => {
    await ping(a, '10.0.0.2', { count: 2, intervalS: 0.05 });
    const frames = lab.counter('b', 'rx_frames');
    const seen = await statistic(c, 'eth0', 'rx_packets');
    await ping(a, '10.0.0.2', { count: 20, intervalS: 0.02 });
    assert.ok(lab.counter('b', 'rx_frames') >= frames + 20);
    assert.equal(await statistic(c, 'eth0', 'rx_packets'), seen);
  });

  it('shows every guest a broadcast', async () => {
    const seen = await Promise.all([b, c].map((guest) => statistic(guest, 'eth0', 'rx_packets')));
    await a.run('arping -b -c 2 -I eth0 10.0.0.99');
    for (const [i, guest] of [b, c].entries()) {
      await until(
        async () => (await statistic(guest, 'eth0', 'rx_packets')) >= seen[i]! + 2,
        `${guest.name}: broadcasts`,
      );
    }
  });

  it('carries TCP both ways with offloads: segments larger than the MTU cross the switch whole', async () => {
    for (const [from, to, address] of bothWays()) {
      const before = { frames: lab.counter(from.name, 'tx_frames'), bytes: lab.counter(from.name, 'tx_bytes') };
      const { bytes } = await iperf(from, to, address, { seconds: 1 });
      assert.ok(bytes > 1_000_000, `${bytes} bytes`);
      const frames = lab.counter(from.name, 'tx_frames') - before.frames;
      assert.ok((lab.counter(from.name, 'tx_bytes') - before.bytes) / frames > 1514, 'average frame');
    }
  });

  it('carries TCP over IPv6 both ways', async () => {
    await configure(a, 'eth0', { address6: 'fd00::1/64' });
    await configure(b, 'eth0', { address6: 'fd00::2/64' });
    for (const [from, to, address] of [
      [a, b, 'fd00::2'],
      [b, a, 'fd00::1'],
    ] as const) {
      const { bytes } = await iperf(from, to, address, { seconds: 1 });
      assert.ok(bytes > 1_000_000, `${bytes} bytes`);
    }
  });

  it('goes on after a flood of datagrams that the receiver cannot take', async () => {
    const { bytes } = await iperf(a, b, '10.0.0.2', { seconds: 2, extra: '-u -b 0 -l 200' });
    assert.ok(bytes > 0);
    assert.equal((await ping(a, '10.0.0.2')).received, 3);
    assert.equal((await ping(b, '10.0.0.1')).received, 3);
  });

  it('shows link down and up to the guest, and drops in between', async () => {
    await lab.fabric.setLink('b', false);
    await waitForCarrier(b, 'eth0', false);
    assert.equal((await ping(a, '10.0.0.2', { count: 1 })).received, 0);
    await lab.fabric.setLink('b', true);
    await waitForCarrier(b, 'eth0', true);
    await waitForPing(a, '10.0.0.2');
  });

  it('carries TCP both ways between guests that use no offloads', async () => {
    await Promise.all([a, b].map((guest) => configure(guest, 'eth0', { offloads: false })));
    for (const [from, to, address] of bothWays()) {
      const before = { frames: lab.counter(from.name, 'tx_frames'), bytes: lab.counter(from.name, 'tx_bytes') };
      const { bytes } = await iperf(from, to, address, { seconds: 1 });
      assert.ok(bytes > 1_000_000, `${bytes} bytes`);
      const frames = lab.counter(from.name, 'tx_frames') - before.frames;
      assert.ok((lab.counter(from.name, 'tx_bytes') - before.bytes) / frames <= 1514, 'average frame');
    }
  });

  it('serves on while a NIC is removed under its guest and added again', async () => {
    const spec = lab.nics.find((nic) => nic.name === 'side1')!;
    await lab.fabric.removeNic('side1');
    await until(async () => (await c.run('ls -d /sys/class/net/eth1')).status !== 0, 'eth1 to go');
    assert.equal((await ping(c, '10.0.0.1')).received, 3);
    await lab.fabric.addNic(spec);
    assert.equal(await nicState(lab, 'side1'), 'listening');
  });

  it('survives a guest killed in mid-transfer, and takes it back on the same socket', async () => {
    const port = await startIperfServer(b);
    const atStart = lab.counter('b', 'rx_bytes');
    await a.sh(`iperf3 -c 10.0.0.2 -p ${port} -t 60 >/dev/null 2>&1 </dev/null &`);
    await until(() => lab.counter('b', 'rx_bytes') > atStart + 1_000_000, 'a transfer under way');
    await b.kill();
    await until(async () => (await nicState(lab, 'b')) === 'listening', 'the fabric to notice');
    assert.equal((await ping(a, '10.0.0.3')).received, 3);

    b = await lab.uml('b');
    await configure(b, 'eth0', { address: '10.0.0.2/24' });
    await waitForPing(a, '10.0.0.2');
    assert.equal((await ping(c, '10.0.0.2')).received, 3);
    await a.run('killall iperf3');
    for (const [from, to, address] of bothWays()) {
      assert.ok((await iperf(from, to, address, { seconds: 1 })).bytes > 1_000_000);
    }
  });

  function bothWays(): readonly [Guest, Guest, string][] {
    return [
      [a, b, '10.0.0.2'],
      [b, a, '10.0.0.1'],
    ];
  }
});

async function nicState(lab: Lab, name: string): Promise<string | undefined> {
  const { nics } = await lab.fabric.show();
  return nics.find((nic) => nic.name === name)?.transport.state;
}
