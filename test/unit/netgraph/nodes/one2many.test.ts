import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { NgHook } from '../../../../src/netgraph/hook.js';
import { newMessage } from '../../../../src/netgraph/message.js';
import { GraphLab, type Probe } from '../../../support/netgraph.js';

const NGM_FLOW_COOKIE = 851672669;
const LINK_IS_UP = 32;
const LINK_IS_DOWN = 33;
const frames = (n: number) => Array.from({ length: n }, (_, i) => Buffer.from([i]));

function one2many(lab: GraphLab, links = ['many0', 'many1', 'many2']): Probe {
  const probe = lab.probe('p');
  lab.ngctl('mkpeer p: one2many one one');
  lab.ngctl('name p:one o');
  for (const link of links) lab.ngctl(`connect p: o: ${link} ${link}`);
  return probe;
}

describe('one2many', () => {
  test('round robin: each frame to the next link, across bursts', () => {
    using lab = new GraphLab();
    const probe = one2many(lab);
    probe.send('one', ...frames(4));
    assert.deepEqual(probe.take(), ['many0 00', 'many0 03', 'many1 01', 'many2 02']);
    probe.send('one', Buffer.from([9]));
    assert.deepEqual(probe.take(), ['many1 09']);
  });

  test('all: every frame to every link', () => {
    using lab = new GraphLab();
    const probe = one2many(lab);
    lab.ngctl('msg o: setconfig { xmitAlg=2 failAlg=1 enabledLinks=[ 1 1 1 ] }');
    probe.send('one', ...frames(2));
    assert.deepEqual(probe.counts(), { many0: 2, many1: 2, many2: 2 });
  });

  test('failover: the first link that is up', () => {
    using lab = new GraphLab();
    const probe = one2many(lab);
    lab.ngctl('msg o: setconfig { xmitAlg=3 failAlg=1 enabledLinks=[ 1 1 1 ] }');
    probe.send('one', ...frames(3));
    assert.deepEqual(probe.counts(), { many0: 3 });
    lab.ngctl('rmhook o: many0');
    probe.send('one', ...frames(3));
    assert.deepEqual(probe.counts(), { many1: 3 });
  });

  test('from any link to one', () => {
    using lab = new GraphLab();
    const probe = one2many(lab);
    probe.send('many1', ...frames(2));
    probe.send('many2', ...frames(1));
    assert.deepEqual(probe.counts(), { one: 3 });
  });

  test('getconfig tells what setconfig set, links normalised; a new hook is enabled', () => {
    using lab = new GraphLab();
    one2many(lab, ['many1']);
    assert.equal(lab.ask('o:', 'getconfig'), '{ xmitAlg=1 failAlg=1 enabledLinks=[ 1=1 ] }');
    lab.ngctl('msg o: setconfig { xmitAlg=1 failAlg=1 enabledLinks=[ 3=7 ] }');
    assert.equal(lab.ask('o:', 'getconfig'), '{ xmitAlg=1 failAlg=1 enabledLinks=[ 3=1 ] }');
    lab.ngctl('connect p: o: x many63');
    assert.equal(lab.ask('o:', 'getconfig'), '{ xmitAlg=1 failAlg=1 enabledLinks=[ 3=1 63=1 ] }');
  });

  test('statistics by link number, -1 for one', () => {
    using lab = new GraphLab();
    const probe = one2many(lab);
    probe.send('one', ...frames(3));
    assert.equal(lab.ask('o:', 'getstats -1'), '{ recvOctets=3 recvPackets=3 }');
    assert.equal(lab.ask('o:', 'getclrstats 2'), '{ xmitOctets=1 xmitPackets=1 }');
    assert.equal(lab.ask('o:', 'getstats 2'), '{}');
    lab.ngctl('msg o: clrstats -1');
    assert.equal(lab.ask('o:', 'getstats -1'), '{}');
    assert.equal(lab.fails('msg o: getstats -2'), 'Invalid argument');
    assert.equal(lab.fails('msg o: getstats 64'), 'Invalid argument');
  });

  test('no link up: dropped and counted', () => {
    using lab = new GraphLab();
    const probe = one2many(lab, []);
    probe.send('one', ...frames(2));
    assert.equal(lab.counter('o:', 'drop_all_down'), 2);
  });

  test('failAlg 2: link messages enable and disable; one hears of the last and the first', () => {
    using lab = new GraphLab();
    const probe = one2many(lab, ['many0', 'many1']);
    while (probe.socket.recv() !== undefined);
    const tell = (link: string, cmd: number) =>
      lab.graph.sendOver(probe.socket.node.findHook(link) as NgHook, newMessage(NGM_FLOW_COOKIE, cmd));
    tell('many0', LINK_IS_DOWN);
    probe.send('one', ...frames(2));
    assert.deepEqual(probe.counts(), { many0: 1, many1: 1 });
    lab.ngctl('msg o: setconfig { xmitAlg=1 failAlg=2 enabledLinks=[ 1 1 ] }');
    tell('many0', LINK_IS_DOWN);
    tell('many0', 99);
    tell('one', LINK_IS_DOWN);
    probe.send('one', ...frames(2));
    assert.deepEqual(probe.counts(), { many1: 2 });
    assert.equal(probe.socket.recv(), undefined);
    tell('many1', LINK_IS_DOWN);
    assert.equal(probe.socket.recv()?.message.cmd, LINK_IS_DOWN);
    tell('many0', LINK_IS_UP);
    assert.equal(probe.socket.recv()?.message.cmd, LINK_IS_UP);
  });

  test('refuses hooks, algorithms and messages that there are not', () => {
    using lab = new GraphLab();
    const { socket } = one2many(lab);
    for (const hook of ['many64', 'many', 'many01', 'two', 'manyx'])
      assert.equal(lab.fails(`connect p: o: h ${hook}`), 'Invalid argument', hook);
    for (const config of ['xmitAlg=4 failAlg=1', 'xmitAlg=0 failAlg=1', 'xmitAlg=1 failAlg=3', 'xmitAlg=1'])
      assert.equal(lab.fails(`msg o: setconfig { ${config} }`), 'Invalid argument', config);
    assert.equal(lab.fails('msg o: setconfig { enabledLinks=[ 64=1 ] }'), 'Argument list too long');
    assert.equal(socket.send('o:', 1100897444, 0, Buffer.alloc(8)), 'EINVAL');
    assert.equal(socket.send('o:', 1100897444, 9), 'EINVAL');
    assert.equal(socket.send('o:', 7, 0), 'EINVAL');
  });

  test('goes with its last hook', () => {
    using lab = new GraphLab();
    one2many(lab, ['many0']);
    lab.ngctl('rmhook o: one');
    lab.ngctl('rmhook o: many0');
    assert.equal(lab.fails('show o:'), 'No such file or directory');
  });
});
