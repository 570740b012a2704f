/** user-mode-linux guests on netgraph: through a bridge, VLANs, a pipe, and a tunnel between two fabrics. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Fabric } from '../../src/control/fabric.js';
import type { Guest } from '../support/guest/guest.js';
import { guestNic, Lab, type LabNic } from '../support/guest/lab.js';
import { configure, iperf, ping, waitForPing } from '../support/guest/net.js';
import { startUml } from '../support/guest/uml.js';

/** A bridge that stays while nothing is connected to it. */
const bridge = (name: string): string[] => [
  'mkpeer bridge temporary link1',
  `name .:temporary ${name}`,
  `msg ${name}: setpersistent`,
  'rmhook temporary',
];

const onGraph = (name: string, path: string, peerhook: string): LabNic => ({
  name,
  backend: 'netgraph',
  backendOptions: { path, peerhook },
});

/** What a node answers, without the line that says who answers. */
async function ask(fabric: Fabric, command: string): Promise<string> {
  return (await fabric.runNgctl([command])).replace(/^Rec'd.*\nArgs:\t/, '').trimEnd();
}

describe('guests on netgraph', { timeout: 240_000 }, () => {
  let lab: Lab;
  let far: Lab;
  let a: Guest;
  let b: Guest;

  before(async () => {
    lab = await Lab.start(
      [
        onGraph('a0', 'br0:', 'link1'),
        onGraph('b0', 'br0:', 'link2'),
        onGraph('a1', 'vlans1:', 'v10'),
        onGraph('b1', 'vlans2:', 'v10'),
        onGraph('a2', 'shaper:', 'upper'),
        onGraph('b2', 'br1:', 'link1'),
        onGraph('a3', 'br2:', 'link1'),
      ],
      [
        ...bridge('br0'),
        // a trunk between two sets of VLANs
        'mkpeer vlan temporary nomatch',
        'name .:temporary vlans1',
        'mkpeer vlans1: vlan downstream downstream',
        'name vlans1:downstream vlans2',
        'rmhook temporary',
        ...bridge('br1'),
        'mkpeer br1: pipe link9 lower',
        'name br1:link9 shaper',
        ...bridge('br2'),
        'mkpeer br2: ksocket link9 inet/dgram/udp',
        'name br2:link9 tunnel',
        'msg tunnel: bind inet/127.0.0.1:0',
      ],
    );
    far = await Lab.start(
      [onGraph('b3', 'br0:', 'link1')],
      [
        ...bridge('br0'),
        'mkpeer br0: ksocket link9 inet/dgram/udp',
        'name br0:link9 tunnel',
        'msg tunnel: bind inet/127.0.0.1:0',
      ],
    );
    for (const vlans of ['vlans1', 'vlans2'])
      await lab.fabric.runNgctl([`msg ${vlans}: addfilter { vlan=10 hook="v10" }`]);
    const near = await ask(lab.fabric, 'msg tunnel: getname');
    await lab.fabric.runNgctl([`msg tunnel: connect ${await ask(far.fabric, 'msg tunnel: getname')}`]);
    await far.fabric.runNgctl([`msg tunnel: connect ${near}`]);

    const nics = (name: string) => [0, 1, 2].map((i) => guestNic(lab.nics, `${name}${i}`));
    [a, b] = await Promise.all([
      startUml({ name: 'a', nics: [...nics('a'), guestNic(lab.nics, 'a3')] }),
      startUml({ name: 'b', nics: [...nics('b'), guestNic(far.nics, 'b3')] }),
    ]);
    for (const [guest, n] of [
      [a, 1],
      [b, 2],
    ] as const)
      for (let i = 0; i < 4; i++) await configure(guest, `eth${i}`, { address: `10.0.${i}.${n}/24` });
  });

  after(async () => {
    await Promise.all([a?.close(), b?.close()]);
    await Promise.all([lab?.close(), far?.close()]);
  });

  it('a bridge learns where they are: ping, and TCP', async () => {
    await waitForPing(a, '10.0.0.2');
    for (const size of [0, 56, 1472, 9000])
      assert.equal((await ping(a, '10.0.0.2', { count: 3, intervalS: 0.05, size })).received, 3);
    const table = await ask(lab.fabric, 'msg br0: gettable');
    for (const [n, hook] of [
      [1, 'link1'],
      [2, 'link2'],
    ])
      assert.match(table, new RegExp(`addr=02:00:00:00:00:0${n} (age=\\d+ )?hook="${hook}"`));
    assert.ok((await iperf(a, b, '10.0.0.2', { seconds: 1 })).bytes > 1_000_000);
  });

  it('a VLAN carries them over a trunk, tagged; without its filter nothing passes', async () => {
    await waitForPing(a, '10.0.1.2');
    assert.equal((await ping(a, '10.0.1.2', { count: 5, intervalS: 0.05 })).received, 5);
    assert.match(await ask(lab.fabric, 'msg vlans2: gettable'), /hook="v10" vlan=10|vlan=10 hook="v10"/);
    await lab.fabric.runNgctl(['msg vlans2: delfilter "v10"']);
    assert.equal((await ping(a, '10.0.1.2', { count: 1 })).received, 0);
    await lab.fabric.runNgctl(['msg vlans2: addfilter { vlan=10 hook="v10" }']);
    await waitForPing(a, '10.0.1.2');
  });

  it('a pipe delays them as configured, each way', async () => {
    await waitForPing(a, '10.0.2.2');
    await lab.fabric.runNgctl(['msg shaper: setcfg { delay=30000 }']);
    const { received, rttUs } = await ping(a, '10.0.2.2', { count: 20, intervalS: 0.05 });
    assert.equal(received, 20);
    const sorted = [...rttUs].sort((x, y) => x - y);
    assert.ok(sorted[0]! >= 60_000, `${sorted[0]} us`);
    // a busy machine adds to each, hardly to half of them
    assert.ok(sorted[10]! < 90_000, `median ${sorted[10]} us`);
    await lab.fabric.runNgctl(['msg shaper: setcfg { delay=-1 }']);
    assert.ok(Math.min(...(await ping(a, '10.0.2.2', { count: 5, intervalS: 0.05 })).rttUs) < 60_000);
  });

  it('a pipe loses frames as the bit error rate says, and has TCP at the bandwidth that is configured', async () => {
    // a ping of 98 bytes, one bit in 2198 is wrong: 0.7 of them get through
    await lab.fabric.runNgctl(['msg shaper: setcfg { downstream={ BER=2198 } }']);
    const { sent, received } = await ping(a, '10.0.2.2', { count: 200, intervalS: 0.01 });
    assert.equal(sent, 200);
    assert.ok(received > 105 && received < 175, `${received} of 200`);
    await lab.fabric.runNgctl(['msg shaper: setcfg { bandwidth=4000000 downstream={ BER=-1 } }']);
    const { bitsPerSecond } = await iperf(a, b, '10.0.2.2', { seconds: 3 });
    assert.ok(bitsPerSecond > 2e6 && bitsPerSecond < 4e6, `${bitsPerSecond} bit/s`);
  });

  it('a tunnel of UDP datagrams joins two fabrics', async () => {
    await waitForPing(a, '10.0.3.2');
    assert.equal((await ping(a, '10.0.3.2', { count: 5, intervalS: 0.05, size: 1472 })).received, 5);
    assert.ok((await iperf(a, b, '10.0.3.2', { seconds: 1 })).bytes > 1_000_000);
  });

  it('a guest whose hook is removed is alone, and back when it is connected again', async () => {
    await lab.fabric.runNgctl(['rmhook br0: link2']);
    assert.equal((await ping(a, '10.0.0.2', { count: 1 })).received, 0);
    assert.equal((await lab.fabric.show()).nics.find((nic) => nic.name === 'b0')?.backendStatus.connected, false);
    const { node } = (await lab.fabric.show()).nics.find((nic) => nic.name === 'b0')!.backendStatus;
    await lab.fabric.runNgctl([`connect br0: ${node}: link2 vmlink`]);
    await waitForPing(a, '10.0.0.2');
  });
});
