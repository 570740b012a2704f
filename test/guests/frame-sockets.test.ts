/** QEMU's own frame sockets, -netdev stream and dgram, for guests without vhost-user. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab } from '../support/guest/lab.js';
import { configure, iperf, ping } from '../support/guest/net.js';
import { startQemu } from '../support/guest/qemu.js';

const PORTS = { ours: 42621, theirs: 42622 };

describe('a QEMU guest on frame sockets, joined to a VALE switch by patches', { timeout: 240_000 }, () => {
  let lab: Lab;
  let qemu: Guest;
  let uml: Guest;

  before(async () => {
    lab = await Lab.start([{ name: 'uml' }]);
    const path = join(lab.dir, 'stream.sock');
    const remote = `udp:127.0.0.1:${PORTS.theirs}`;
    await lab.fabric.addPatch({ name: 's', a: 'vale0:s', b: `stream0,addr=unix:${path}` });
    await lab.fabric.addPatch({
      name: 'd',
      a: 'vale0:d',
      b: `dgram0,local=udp:127.0.0.1:${PORTS.ours},remote=${remote}`,
    });
    const inet = (side: string, port: number) => `${side}.type=inet,${side}.host=127.0.0.1,${side}.port=${port}`;
    const netdevs = [
      `stream,id=n0,server=off,addr.type=unix,addr.path=${path}`,
      `dgram,id=n1,${inet('local', PORTS.theirs)},${inet('remote', PORTS.ours)}`,
    ];
    qemu = await startQemu({
      name: 'qemu',
      netbeArgs: [
        ...['-m', '192M'],
        ...netdevs.flatMap((netdev, i) => {
          const device = `virtio-net-pci,netdev=n${i},mac=02:00:00:00:01:0${i}`;
          return ['-netdev', netdev, '-device', device];
        }),
      ],
    });
    uml = await lab.uml('uml');
    await configure(qemu, 'eth0', { address: '10.1.0.1/24' });
    await configure(qemu, 'eth1', { address: '10.2.0.1/24' });
    await configure(uml, 'eth0', { address: '10.1.0.2/24' });
    await uml.sh('ip addr add 10.2.0.2/24 dev eth0');
  });

  after(async () => {
    await qemu?.close();
    await lab?.close();
  });

  for (const [way, address] of [
    ['stream', '10.1.0.1'],
    ['dgram', '10.2.0.1'],
  ] as const)
    it(`answers pings and carries TCP over ${way}`, async () => {
      const { sent, received } = await ping(uml, address, { count: 5, intervalS: 0.1, size: 1400 });
      assert.equal(received, sent);
      const { bitsPerSecond } = await iperf(uml, qemu, address, { seconds: 1 });
      assert.ok(bitsPerSecond > 0);
    });

  it('shows who is connected, and counts what crossed', async () => {
    const { patches } = await lab.fabric.show();
    assert.equal(patches.find((p) => p.name === 's')?.statusB.state, 'connected');
    for (const patch of ['s', 'd'])
      for (const name of ['a_to_b_frames', 'b_to_a_frames'])
        assert.ok(lab.counter(patch, name) > 0, `${patch} ${name}`);
  });

  it('frames of a guest that has gone are dropped and counted', async () => {
    await qemu.close();
    await uml.run('arping -c 2 -w 2 -I eth0 10.1.0.9 || :');
    await uml.run('ping -c 2 -W 1 10.1.0.1 || :');
    assert.ok(lab.counter('stream0', 'tx_drop_not_connected') > 0);
  });
});
