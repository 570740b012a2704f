import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GraphLab, type Probe } from '../../../support/netgraph.js';

const A = '020000000001';
const B = '020000000002';
const C = '020000000003';
const BROADCAST = 'ffffffffffff';
const MULTICAST = '01005e000001';

const frame = (dst: string, src: string, rest = '0800') => Buffer.from(`${dst}${src}${rest}`, 'hex');

/** A bridge br0: with the hooks named, each connected to the same-named hook of the probe. */
function bridge(lab: GraphLab, ...links: string[]): Probe {
  const probe = lab.probe('p');
  const [first, ...others] = links;
  lab.ngctl(`mkpeer p: bridge ${first} ${first}`);
  lab.ngctl(`name p:${first} br0`);
  for (const link of others) lab.ngctl(`connect p: br0: ${link} ${link}`);
  return probe;
}

describe('bridge forwards', () => {
  test('known unicast to its host only, all else to everybody else', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1', 'link2');
    probe.send('link0', frame(B, A));
    assert.deepEqual(probe.counts(), { link1: 1, link2: 1 });
    probe.send('link1', frame(A, B));
    assert.deepEqual(probe.counts(), { link0: 1 });
    probe.send('link0', frame(B, A));
    assert.deepEqual(probe.counts(), { link1: 1 });
    probe.send('link0', frame(BROADCAST, A), frame(MULTICAST, A));
    assert.deepEqual(probe.counts(), { link1: 2, link2: 2 });
  });

  test('the frames of a burst each their own way, in order', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1', 'link2');
    probe.send('link1', frame(A, B));
    probe.send('link2', frame(A, C));
    probe.take();
    const sent = ['01', '02', '03', '04', '05'].map((n) => `0800${n}`) as [string, string, string, string, string];
    probe.send(
      'link0',
      frame(B, A, sent[0]),
      frame(B, A, sent[1]),
      frame(C, A, sent[2]),
      frame(BROADCAST, A, sent[3]),
      frame(B, A, sent[4]),
    );
    assert.deepEqual(probe.take(), [
      `link1 ${B}${A}${sent[0]}`,
      `link1 ${B}${A}${sent[1]}`,
      `link1 ${BROADCAST}${A}${sent[3]}`,
      `link1 ${B}${A}${sent[4]}`,
      `link2 ${C}${A}${sent[2]}`,
      `link2 ${BROADCAST}${A}${sent[3]}`,
    ]);
  });

  test('a host that moves within a burst at once', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1');
    probe.send('link1', frame(BROADCAST, B));
    lab.nowSec += 1;
    probe.take();
    probe.send('link0', frame(B, A), frame(BROADCAST, B), frame(B, A));
    assert.deepEqual(probe.counts(), { link1: 2 });
  });

  test('nothing back to where it came from', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1');
    probe.send('link0', frame(BROADCAST, A), frame(BROADCAST, B));
    probe.take();
    probe.send('link0', frame(B, A));
    assert.deepEqual(probe.counts(), {});
  });

  for (const apart of [false, true])
    test(`as a naive bridge would, whatever comes in${apart ? ', from any window' : ''}`, () => {
      using lab = new GraphLab({ apart });
      const probe = bridge(lab, 'link0', 'link1', 'link2', 'link3');
      const hosts = new Map<string, number>();
      const expected: Record<string, number> = {};
      let seed = 7;
      const random = (n: number) => {
        seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
        return (seed >>> 8) % n;
      };
      for (let k = 0; k < 500; k++) {
        // hosts do not move: 5 a link
        const from = random(4);
        const frames = Array.from({ length: 1 + random(8) }, () => {
          const src = `0200000000${from}${random(5)}`;
          const dst = random(8) === 0 ? BROADCAST : `0200000000${random(4)}${random(7)}`;
          hosts.set(src, from);
          const to = hosts.get(dst);
          const out = to === undefined ? [0, 1, 2, 3].filter((l) => l !== from) : to === from ? [] : [to];
          for (const l of out) expected[`link${l}`] = (expected[`link${l}`] ?? 0) + 1;
          return frame(dst, src);
        });
        probe.send(`link${from}`, ...frames);
        assert.deepEqual(probe.counts(), expected);
        for (const key of Object.keys(expected)) delete expected[key];
      }
    });
});

describe('bridge drops and counts', () => {
  test('runts, multicast sources', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1');
    probe.send('link0', Buffer.alloc(13), frame(B, MULTICAST), frame(B, A));
    assert.deepEqual(probe.counts(), { link1: 1 });
    assert.equal(
      lab.ask('br0:', 'getstats 0'),
      '{ recvOctets=14 recvPackets=1 recvUnknown=1 recvRunts=1 recvInvalid=1 }',
    );
  });

  test('broadcast and multicast apart, received and sent', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1');
    probe.send('link0', frame(BROADCAST, A), frame(MULTICAST, A), frame(MULTICAST, A));
    assert.equal(lab.ask('br0:', 'getclrstats 0'), '{ recvOctets=42 recvPackets=3 recvMulticast=2 recvBroadcast=1 }');
    assert.equal(lab.ask('br0:', 'getstats 1'), '{ xmitOctets=42 xmitPackets=3 xmitMulticasts=2 xmitBroadcasts=1 }');
    assert.equal(lab.ask('br0:', 'getstats 0'), '{}');
    lab.ngctl('msg br0: clrstats 1');
    assert.equal(lab.ask('br0:', 'getstats 1'), '{}');
  });
});

describe('uplinks', () => {
  test('learn nobody and get unknown unicast; negative numbers mean them', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1', 'uplink1');
    probe.send('uplink1', frame(BROADCAST, C));
    probe.take();
    assert.equal(lab.ask('br0:', 'gettable'), '{}');
    probe.send('link0', frame(C, A));
    assert.deepEqual(probe.counts(), { link1: 1, uplink1: 1 });
    assert.equal(
      lab.ask('br0:', 'getstats -1'),
      '{ recvOctets=14 recvPackets=1 recvBroadcast=1 xmitOctets=14 xmitPackets=1 }',
    );
  });

  test('as the first hook keep unknown unicast from the links', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'uplink1', 'link0', 'link1');
    probe.send('link0', frame(C, A));
    assert.deepEqual(probe.counts(), { uplink1: 1 });
    probe.send('uplink1', frame(B, C));
    assert.deepEqual(probe.counts(), {});
    probe.send('uplink1', frame(BROADCAST, C));
    assert.deepEqual(probe.counts(), { link0: 1, link1: 1 });
  });
});

describe('loop detection', () => {
  test('mutes the link that a host jumps to within minStableAge, for loopTimeout', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1', 'link2');
    probe.send('link0', frame(BROADCAST, A));
    probe.send('link1', frame(BROADCAST, A));
    assert.deepEqual(probe.counts(), { link1: 1, link2: 1 });
    probe.send('link1', frame(BROADCAST, B));
    assert.deepEqual(probe.counts(), {});
    assert.match(lab.ask('br0:', 'getstats 1'), /loopDrops=2 loopDetects=1/);
    lab.nowSec += 59;
    probe.send('link1', frame(BROADCAST, B));
    assert.deepEqual(probe.counts(), {});
    lab.nowSec += 1;
    probe.send('link1', frame(BROADCAST, B));
    assert.deepEqual(probe.counts(), { link0: 1, link2: 1 });
  });

  test('a muted link still gets frames', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1');
    probe.send('link0', frame(BROADCAST, A));
    probe.send('link1', frame(BROADCAST, A));
    probe.take();
    probe.send('link0', frame(BROADCAST, A));
    assert.deepEqual(probe.counts(), { link1: 1 });
  });

  test('a host that stayed long enough may move', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1', 'link2');
    probe.send('link0', frame(BROADCAST, A));
    lab.nowSec += 1;
    probe.send('link1', frame(BROADCAST, A));
    probe.take();
    probe.send('link2', frame(A, B));
    assert.deepEqual(probe.counts(), { link1: 1 });
  });

  test('is told at debugLevel 2, and that it is over', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1');
    lab.ngctl('msg br0: setconfig { debugLevel=2 loopTimeout=5 maxStaleness=900 minStableAge=1 }');
    probe.send('link0', frame(BROADCAST, A));
    probe.send('link1', frame(BROADCAST, A));
    lab.nowSec += 5;
    probe.send('link1', frame(BROADCAST, B));
    assert.deepEqual(
      lab.runtime.records.map(({ message }) => message),
      ['ng_bridge: loopback detected on link1', 'ng_bridge: restoring looped back link1'],
    );
  });

  test('two bridges joined twice do not melt', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0');
    lab.ngctl('mkpeer br0: bridge link1 link1');
    lab.ngctl('name br0:link1 br1');
    lab.ngctl('connect br0: br1: link2 link2');
    lab.ngctl('connect p: br1: out link0');
    probe.send('link0', frame(BROADCAST, A));
    assert(probe.take().length < 20);
  });
});

describe('bridge messages', () => {
  test('gettable: address, age, staleness and hook', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1');
    probe.send('link0', frame(BROADCAST, A));
    lab.nowSec += 7;
    probe.send('link0', frame(BROADCAST, A));
    lab.nowSec += 2;
    assert.equal(
      lab.ask('br0:', 'gettable'),
      '{ numHosts=1 hosts=[ { addr=02:00:00:00:00:01 age=9 staleness=2 hook="link0" } ] }',
    );
  });

  test('maxStaleness: a silent host is forgotten', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1', 'link2');
    lab.ngctl('msg br0: setconfig { loopTimeout=60 maxStaleness=10 minStableAge=1 }');
    probe.send('link0', frame(BROADCAST, A));
    lab.nowSec += 10;
    probe.take();
    assert.equal(lab.ask('br0:', 'gettable'), '{}');
    probe.send('link1', frame(A, B));
    assert.deepEqual(probe.counts(), { link0: 1, link2: 1 });
  });

  test('reset forgets hosts, statistics and muting', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1');
    probe.send('link0', frame(BROADCAST, A));
    probe.send('link1', frame(BROADCAST, A));
    probe.take();
    lab.ngctl('msg br0: reset');
    assert.equal(lab.ask('br0:', 'gettable'), '{}');
    assert.equal(lab.ask('br0:', 'getstats 1'), '{}');
    probe.send('link1', frame(BROADCAST, A));
    assert.deepEqual(probe.counts(), { link0: 1 });
  });

  test('movehost puts a host on a hook, unless it was just put elsewhere', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1', 'link2');
    lab.ngctl('msg br0: movehost { addr=02:00:00:00:00:01 hook="link1" }');
    probe.send('link0', frame(A, B));
    assert.deepEqual(probe.counts(), { link1: 1 });
    assert.equal(
      lab.fails('msg br0: movehost { addr=02:00:00:00:00:01 hook="link2" }'),
      'Too many levels of symbolic links',
    );
    assert.equal(lab.fails('msg br0: movehost { addr=02:00:00:00:00:01 hook="link9" }'), 'No such file or directory');
    assert.equal(lab.fails('msg br0: movehost { addr=02:00:00:00:00:01 }'), 'No such file or directory');
    assert.equal(lab.fails('msg br0: movehost { hook="link1" }'), 'Operation not supported');
    assert.equal(lab.ngctl('msg p:link2 movehost { addr=02:00:00:00:00:05 }'), '');
    assert.match(lab.ask('br0:', 'gettable'), /addr=02:00:00:00:00:05 hook="link2"/);
  });

  test('errors: hooks that cannot be, links that are not there, unknown commands', () => {
    using lab = new GraphLab();
    bridge(lab, 'link0');
    for (const name of ['link', 'link01', 'link-1', 'uplink0', 'uplink', 'x', 'link4294967296'])
      assert.equal(lab.fails(`connect p: br0: h ${name}`), 'Invalid argument', name);
    assert.equal(lab.fails('connect br0: br0: link1 link2'), 'Too many levels of symbolic links');
    assert.match(lab.ngctl('show -n br0:'), /Num hooks: 1/);
    for (const cmd of ['getstats', 'clrstats', 'getclrstats'])
      assert.equal(lab.fails(`msg br0: ${cmd} 5`), 'Socket is not connected');
    assert.equal(lab.fails('msg br0: getstats'), 'Invalid argument');
    const { socket } = lab.probe('q');
    assert.equal(socket.send('br0:', 967239368, 99), 'EINVAL');
    assert.equal(socket.send('br0:', 967239368, 1, Buffer.alloc(3)), 'EINVAL');
    assert.equal(socket.send('br0:', 12345, 1), 'EINVAL');
  });

  test('goes with its last hook; with setpersistent only by shutdown', () => {
    using lab = new GraphLab();
    bridge(lab, 'link0', 'link1');
    lab.ngctl('rmhook br0: link0');
    lab.ngctl('show br0:');
    lab.ngctl('rmhook br0: link1');
    assert.equal(lab.fails('show br0:'), 'No such file or directory');
    lab.ngctl('mkpeer p: bridge a link0');
    lab.ngctl('name p:a br1');
    lab.ngctl('msg br1: setpersistent');
    lab.ngctl('rmhook p: a');
    assert.match(lab.ngctl('show br1:'), /Num hooks: 0/);
    lab.ngctl('shutdown br1:');
    assert.equal(lab.fails('show br1:'), 'No such file or directory');
  });

  test('a hook that goes takes its hosts with it', () => {
    using lab = new GraphLab();
    const probe = bridge(lab, 'link0', 'link1', 'link2');
    probe.send('link0', frame(BROADCAST, A));
    lab.ngctl('rmhook br0: link0');
    assert.equal(lab.ask('br0:', 'gettable'), '{}');
    lab.ngctl('connect p: br0: again link0');
    probe.take();
    probe.send('link1', frame(A, B));
    assert.deepEqual(probe.counts(), { again: 1, link2: 1 });
  });
});
