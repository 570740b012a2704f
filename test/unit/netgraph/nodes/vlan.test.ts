import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GraphLab, type Probe } from '../../../support/netgraph.js';

const ADDRS = '020000000002020000000001';
const plain = (rest: string) => Buffer.from(`${ADDRS}0800${rest}`, 'hex');
const tagged = (tci: string, rest: string, tpid = '8100') => Buffer.from(`${ADDRS}${tpid}${tci}0800${rest}`, 'hex');

/** A vlan node v: with downstream, nomatch, and hooks v5 (VLAN 5, PCP 3) and v6 (VLAN 6). */
function vlan(lab: GraphLab): Probe {
  const probe = lab.probe('p');
  lab.ngctl('mkpeer p: vlan downstream downstream');
  lab.ngctl('name p:downstream v');
  for (const hook of ['nomatch', 'v5', 'v6']) lab.ngctl(`connect p: v: ${hook} ${hook}`);
  lab.ngctl('msg v: addfilter { vid=5 pcp=3 hook="v5" }');
  lab.ngctl('msg v: addfilter { vlan=6 hook="v6" }');
  return probe;
}

describe('vlan', () => {
  test('from downstream: each tag to its hook, without the tag; all else to nomatch', () => {
    using lab = new GraphLab();
    const probe = vlan(lab);
    probe.send(
      'downstream',
      tagged('0005', '01'),
      plain('02'),
      tagged('e006', '03'),
      tagged('0007', '04'),
      tagged('1005', '05'),
    );
    assert.deepEqual(probe.take().sort(), [
      `nomatch ${plain('02').toString('hex')}`,
      `nomatch ${tagged('0007', '04').toString('hex')}`,
      `v5 ${plain('01').toString('hex')}`,
      `v5 ${plain('05').toString('hex')}`,
      `v6 ${plain('03').toString('hex')}`,
    ]);
  });

  test('to downstream: with the tag of the filter; from nomatch as it is', () => {
    using lab = new GraphLab();
    const probe = vlan(lab);
    probe.send('v5', plain('01'), plain('02'));
    probe.send('v6', plain('03'));
    probe.send('nomatch', plain('04'), tagged('0005', '05'));
    assert.deepEqual(probe.take(), [
      `downstream ${tagged('6005', '01').toString('hex')}`,
      `downstream ${tagged('6005', '02').toString('hex')}`,
      `downstream ${tagged('0006', '03').toString('hex')}`,
      `downstream ${plain('04').toString('hex')}`,
      `downstream ${tagged('0005', '05').toString('hex')}`,
    ]);
  });

  test('large frames keep every byte', () => {
    using lab = new GraphLab();
    const probe = vlan(lab);
    const rest = Buffer.from(Uint8Array.from({ length: 9000 }, (_, i) => i)).toString('hex');
    probe.send('v6', plain(rest));
    assert.deepEqual(probe.take(), [`downstream ${tagged('0006', rest).toString('hex')}`]);
    probe.send('downstream', tagged('0006', rest));
    assert.deepEqual(probe.take(), [`v6 ${plain(rest).toString('hex')}`]);
  });

  test('the sender’s frame is never written to', () => {
    using lab = new GraphLab();
    const probe = vlan(lab);
    const burst = lab.burst([tagged('0005', '01')]);
    probe.socket.node.findHook('downstream')?.send(burst);
    assert.equal(lab.read(burst, 0).toString('hex'), tagged('0005', '01').toString('hex'));
  });

  test('setencapproto: another EtherType, both ways; without encapsulation it is 802.1Q', () => {
    using lab = new GraphLab();
    const probe = vlan(lab);
    assert.equal(lab.ask('v:', 'getencapproto'), '0x8100');
    lab.ngctl('msg v: setencapproto 0x88a8');
    assert.equal(lab.ask('v:', 'getencapproto'), '0x88a8');
    probe.send('v6', plain('01'));
    assert.deepEqual(probe.take(), [`downstream ${tagged('0006', '01', '88a8').toString('hex')}`]);
    probe.send('downstream', tagged('0006', '02', '88a8'), tagged('0006', '03'));
    assert.deepEqual(probe.take().sort(), [
      `nomatch ${tagged('0006', '03').toString('hex')}`,
      `v6 ${plain('02').toString('hex')}`,
    ]);
    assert.equal(lab.ask('v:', 'getencap'), '0x1');
    lab.ngctl('msg v: setencap 0');
    probe.send('v6', plain('04'));
    assert.deepEqual(probe.take(), [`downstream ${tagged('0006', '04').toString('hex')}`]);
  });

  test('setdecap is kept and told', () => {
    using lab = new GraphLab();
    vlan(lab);
    assert.equal(lab.ask('v:', 'getdecap'), '0x0');
    lab.ngctl('msg v: setdecap 1');
    assert.equal(lab.ask('v:', 'getdecap'), '0x1');
  });

  test('gettable: every filter by VLAN', () => {
    using lab = new GraphLab();
    vlan(lab);
    assert.equal(
      lab.ask('v:', 'gettable'),
      '{ n=2 filter=[ { hook="v5" vlan=5 vid=5 pcp=3 } { hook="v6" vlan=6 vid=6 } ] }',
    );
  });

  test('addfilter refuses what cannot be', () => {
    using lab = new GraphLab();
    vlan(lab);
    lab.ngctl('connect p: v: v7 v7');
    const cases: [string, string][] = [
      ['{ vid=7 hook="nowhere" }', 'No such file or directory'],
      ['{ vid=7 hook="v5" }', 'File exists'],
      ['{ vid=5 hook="v7" }', 'File exists'],
      ['{ vid=7 hook="downstream" }', 'Invalid argument'],
      ['{ vid=7 hook="nomatch" }', 'Invalid argument'],
      ['{ vid=4096 hook="v7" }', 'Invalid argument'],
      ['{ vid=7 pcp=8 hook="v7" }', 'Invalid argument'],
      ['{ vid=7 cfi=2 hook="v7" }', 'Invalid argument'],
      ['{ vid=7 vlan=8 hook="v7" }', 'Invalid argument'],
    ];
    for (const [args, error] of cases) assert.equal(lab.fails(`msg v: addfilter ${args}`), error, args);
    lab.ngctl('msg v: addfilter { vid=7 vlan=7 cfi=1 hook="v7" }');
  });

  test('delfilter by hook, delvidflt by VLAN; then the hook’s frames are dropped', () => {
    using lab = new GraphLab();
    const probe = vlan(lab);
    lab.ngctl('msg v: delfilter "v5"');
    lab.ngctl('msg v: delvidflt 6');
    assert.equal(lab.ask('v:', 'gettable'), '{}');
    probe.send('v5', plain('01'));
    probe.send('downstream', tagged('0005', '02'));
    assert.deepEqual(probe.counts(), { nomatch: 1 });
    assert.equal(lab.counter('v:', 'drop_no_filter'), 1);
    assert.equal(lab.fails('msg v: delfilter "v5"'), 'No such file or directory');
    assert.equal(lab.fails('msg v: delfilter "x"'), 'No such file or directory');
    assert.equal(lab.fails('msg v: delvidflt 6'), 'No such file or directory');
    assert.equal(lab.fails('msg v: delvidflt 4096'), 'Invalid argument');
  });

  test('drops runts, and what has no hook to go to', () => {
    using lab = new GraphLab();
    const probe = vlan(lab);
    probe.send('downstream', Buffer.alloc(13), Buffer.from(`${ADDRS}81000005`, 'hex'));
    probe.send('v5', Buffer.alloc(13));
    assert.equal(lab.counter('v:', 'drop_runt'), 3);
    lab.ngctl('rmhook v: nomatch');
    probe.send('downstream', plain('01'));
    assert.equal(lab.counter('v:', 'drop_not_connected'), 1);
    lab.ngctl('rmhook v: downstream');
    probe.send('v5', plain('01'));
    assert.equal(lab.counter('v:', 'drop_not_connected'), 2);
    assert.deepEqual(probe.counts(), {});
  });

  test('more tagged frames in one turn than there is memory for: the rest is dropped and counted', () => {
    using lab = new GraphLab();
    const probe = vlan(lab);
    const burst = lab.burst([plain('00'.repeat(65_000))]);
    while (burst.count < 64) burst.pushFrom(burst, 0);
    lab.graph.turn(() => {
      for (let i = 0; i < 3; i++) probe.socket.node.findHook('v5')?.send(burst);
    });
    const arrived = probe.take().length;
    assert(arrived >= 64 && arrived < 192, `${arrived}`);
    assert.equal(lab.counter('v:', 'drop_no_memory'), 192 - arrived);
    probe.send('v5', plain('01'));
    assert.deepEqual(probe.counts(), { downstream: 1 });
  });

  test('a hook that goes takes its filter with it; the node goes with the last', () => {
    using lab = new GraphLab();
    vlan(lab);
    lab.ngctl('rmhook v: v5');
    assert.equal(lab.ask('v:', 'gettable'), '{ n=1 filter=[ { hook="v6" vlan=6 vid=6 } ] }');
    for (const hook of ['v6', 'nomatch', 'downstream']) lab.ngctl(`rmhook v: ${hook}`);
    assert.equal(lab.fails('show v:'), 'No such file or directory');
  });

  test('a link message from downstream reaches every VLAN, others nobody', () => {
    using lab = new GraphLab();
    const probe = vlan(lab);
    const { graph } = lab;
    const { node } = probe.socket;
    const down = {
      version: 8,
      cmd: 33,
      flags: 0,
      token: 0,
      typecookie: 851672669,
      cmdstr: '',
      data: new Uint8Array(),
      from: 0,
    };
    const over = (name: string) =>
      graph.sendOver(node.findHook(name) as NonNullable<ReturnType<typeof node.findHook>>, down);
    assert.equal(over('downstream'), undefined);
    assert.deepEqual(
      [probe.socket.recv()?.message.cmd, probe.socket.recv()?.message.cmd, probe.socket.recv()],
      [33, 33, undefined],
    );
    assert.equal(over('v5'), undefined);
    assert.equal(probe.socket.recv(), undefined);
  });

  test('messages of the wrong size, number or cookie: EINVAL', () => {
    using lab = new GraphLab();
    const { socket } = vlan(lab);
    for (const cmd of [1, 2, 4, 6, 8, 10])
      assert.equal(socket.send('v:', 1068486472, cmd, Buffer.alloc(5)), 'EINVAL', `${cmd}`);
    assert.equal(socket.send('v:', 1068486472, 11), 'EINVAL');
    assert.equal(socket.send('v:', 1, 1), 'EINVAL');
  });
});
