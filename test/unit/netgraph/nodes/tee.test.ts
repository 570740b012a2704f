import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { GraphLab, type Probe } from '../../../support/netgraph.js';

function tee(lab: GraphLab, ...hooks: string[]): Probe {
  const probe = lab.probe('p');
  const [first, ...others] = hooks;
  lab.ngctl(`mkpeer p: tee ${first} ${first}`);
  lab.ngctl(`name p:${first} t`);
  for (const hook of others) lab.ngctl(`connect p: t: ${hook} ${hook}`);
  return probe;
}
const one = Buffer.from([1, 2, 3]);

describe('tee', () => {
  test('passes between left and right, and shows what passes', () => {
    using lab = new GraphLab();
    const probe = tee(lab, 'left', 'right', 'left2right', 'right2left');
    probe.send('left', one);
    assert.deepEqual(probe.counts(), { right: 1, left2right: 1 });
    probe.send('right', one, one);
    assert.deepEqual(probe.counts(), { left: 2, right2left: 2 });
  });

  test('what comes in on a tap goes on as from its other side', () => {
    using lab = new GraphLab();
    const probe = tee(lab, 'left2right', 'left', 'right2left', 'right');
    probe.send('left2right', one);
    assert.deepEqual(probe.counts(), { left: 1 });
    probe.send('right2left', one);
    assert.deepEqual(probe.counts(), { right: 1 });
  });

  test('with one side only, its frames go out of its tap, in whatever order the hooks came', () => {
    using lab = new GraphLab();
    const probe = tee(lab, 'left2right', 'left');
    probe.send('left', one);
    assert.deepEqual(probe.counts(), { left2right: 1 });
    lab.ngctl('connect p: t: right right');
    probe.send('left', one);
    assert.deepEqual(probe.counts(), { right: 1, left2right: 1 });
    lab.ngctl('rmhook t: right');
    probe.send('left', one);
    assert.deepEqual(probe.counts(), { left2right: 1 });
    lab.ngctl('rmhook t: left2right');
    probe.send('left', one);
    assert.deepEqual(probe.counts(), {});
  });

  test('counts octets and frames of each hook, in and out', () => {
    using lab = new GraphLab();
    const probe = tee(lab, 'left', 'right', 'left2right');
    probe.send('left', one, one);
    const stats =
      '{ right={ outOctets=6 outFrames=2 } left={ inOctets=6 inFrames=2 } left2right={ outOctets=6 outFrames=2 } }';
    assert.equal(lab.ask('t:', 'getstats'), stats);
    assert.equal(lab.ask('t:', 'getclrstats'), stats);
    assert.equal(lab.ask('t:', 'getstats'), '{}');
    probe.send('left', one);
    lab.ngctl('msg t: clrstats');
    assert.equal(lab.ask('t:', 'getstats'), '{}');
  });

  test('shut down it leaves its two sides connected with each other', () => {
    using lab = new GraphLab();
    const probe = tee(lab, 'left', 'right', 'left2right');
    lab.ngctl('shutdown t:');
    assert.equal(lab.fails('show t:'), 'No such file or directory');
    probe.send('left', one);
    assert.deepEqual(probe.counts(), { right: 1 });
    assert.match(lab.ngctl('show p:'), /left {12}p {15}socket {7}00000001 {8}right/);
    assert.match(lab.ngctl('show p:'), /Num hooks: 2/);
  });

  test('shut down with one side it takes its hooks along', () => {
    using lab = new GraphLab();
    tee(lab, 'left', 'left2right');
    lab.ngctl('shutdown t:');
    assert.match(lab.ngctl('show p:'), /Num hooks: 0/);
  });

  test('link messages pass from side to side', () => {
    using lab = new GraphLab();
    const probe = tee(lab, 'left', 'right', 'left2right');
    const { socket } = probe;
    const hook = (name: string) => socket.node.findHook(name) as NonNullable<ReturnType<typeof socket.node.findHook>>;
    const msg = {
      version: 8,
      cmd: 32,
      flags: 0,
      token: 0,
      typecookie: 851672669,
      cmdstr: '',
      data: new Uint8Array(),
      from: 0,
    };
    assert.equal(lab.graph.sendOver(hook('left'), msg), undefined);
    assert.equal(socket.recv()?.message.cmd, 32);
    assert.equal(lab.graph.sendOver(hook('left2right'), msg), undefined);
    assert.equal(socket.recv(), undefined);
  });

  test('refuses other hooks and messages; goes with its last hook', () => {
    using lab = new GraphLab();
    const { socket } = tee(lab, 'left');
    assert.equal(lab.fails('connect p: t: h middle'), 'Invalid argument');
    assert.equal(socket.send('t:', 916107047, 9), 'EINVAL');
    assert.equal(socket.send('t:', 9, 1), 'EINVAL');
    lab.ngctl('rmhook t: left');
    assert.equal(lab.fails('show t:'), 'No such file or directory');
  });
});
