import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { frame, NetmapRig, send, take } from '../../support/netmap-ports.js';

let rig: NetmapRig;
const open: NetmapRig['open'] = (name, options) => rig.open(name, options);

beforeEach(() => {
  rig = new NetmapRig();
});
afterEach(() => rig.close());

describe('a persistent port', () => {
  test('is there once, until it is deleted, which wants it unused and detached', () => {
    const { netmap } = rig;
    netmap.newif('v0', { txRings: 2, rxRings: 3, txSlots: 32, rxSlots: 64 });
    assert.throws(() => netmap.newif('v0'), { code: 'EEXIST' });
    assert.throws(() => netmap.newif('lo'), { code: 'EEXIST', message: /interface lo/ });
    const port = open('netmap:v0');
    assert.deepEqual([port.txRings.length, port.rxRings.length, port.txRings[0]!.numSlots], [2, 3, 32]);
    assert.throws(() => netmap.delif('v0'), { code: 'EBUSY', message: /users/ });
    port.close();
    assert.equal(netmap.attach('vale3', 'v0'), 0);
    assert.throws(() => netmap.delif('v0'), { code: 'EBUSY', message: /vale3/ });
    assert.throws(() => netmap.attach('vale3', 'v0'), { code: 'EBUSY', remedy: /-d vale3:v0/ });
    assert.equal(netmap.detach('vale3', 'v0'), 0);
    assert.throws(() => netmap.detach('vale3', 'v0'), { code: 'EINVAL' });
    netmap.delif('v0');
    assert.throws(() => netmap.delif('v0'), { code: 'ENXIO', remedy: /-n v0/ });
    assert.throws(() => netmap.attach('vale0', 'v0'), { code: 'ENXIO' });
    assert.throws(() => open('netmap:v0'), { code: 'ENXIO' });
    for (const name of ['', 'a b', 'x'.repeat(16), 'a:b']) assert.throws(() => netmap.newif(name), { code: 'EINVAL' });
    for (const sizes of [{ txRings: 17 }, { rxRings: 0 }, { txSlots: 4097 }, { rxSlots: 1 }])
      assert.throws(() => netmap.newif('v1', sizes), { code: 'EINVAL' });
  });

  test('on a second switch joins the two, as netmap wraps a port: nobody else can have its rings then', () => {
    const { netmap, runtime } = rig;
    netmap.newif('v0');
    netmap.attach('vale1', 'v0');
    const [a, b] = [open('vale1:a'), open('vale2:b')];
    const taken = open('netmap:v0');
    assert.throws(() => netmap.attach('vale2', 'v0'), { code: 'EBUSY' });
    taken.close();
    netmap.attach('vale2', 'v0');
    assert.throws(() => open('netmap:v0'), { code: 'EBUSY' });
    const cross = (): void => {
      for (let i = 0; i < 4; i++) runtime.loop.step(0);
    };
    send(a, frame(0xff, 1));
    cross();
    assert.deepEqual(take(b), [frame(0xff, 1)]);
    send(b, frame(1, 2, 9000), { piece: 2000 });
    cross();
    assert.deepEqual(take(a), [frame(1, 2, 9000)]);
    // headers and what they leave undone pass from one switch to the other
    a.vnetHdrLen = 12;
    send(a, Uint8Array.from([...new Uint8Array(12), ...frame(2, 1)]));
    cross();
    assert.deepEqual(take(b), [frame(2, 1)]);
    netmap.detach('vale2', 'v0');
    assert.equal(netmap.find('v0')!.vnetHdrLen, 0, 'as it was before');
    open('netmap:v0');
  });

  test('sends into nothing until it is attached; by both of its names it is one port', () => {
    const { netmap } = rig;
    netmap.newif('v0');
    const other = open('vale0:o');
    const port = open('netmap:v0');
    send(port, frame(0xff, 1));
    assert.deepEqual(take(other), []);
    assert.equal(rig.runtime.count('rings v0', 'tx_drop_not_attached'), 1);
    netmap.attach('vale0', 'v0');
    send(port, frame(0xff, 1));
    assert.equal(take(other).length, 1);
    const same = open('vale0:v0');
    assert.equal(same.adapter, port.adapter);
    send(other, frame(1, 2));
    assert.equal(take(same).length, 1);
    netmap.detach('vale0', 'v0');
    send(other, frame(1, 2));
    assert.deepEqual(take(port), []);
  });

  test('stays on its switch without users; what came meanwhile is not its next user’s', () => {
    const { netmap } = rig;
    netmap.newif('v0');
    netmap.attach('vale0', 'v0');
    const other = open('vale0:o');
    send(other, frame(0xff, 2));
    const port = open('vale0:v0');
    assert.deepEqual(take(port), []);
    send(other, frame(0xff, 2));
    assert.equal(take(port).length, 1);
  });
});

describe('users of one port', () => {
  test('may share its rings or have one each; who wants one alone gets it alone', () => {
    open('vale0:p', { txRings: 2, rxRings: 2 });
    const one = open('vale0:p-1');
    assert.deepEqual([one.txRings.length, one.txRings[0]!.ringId], [1, 1]);
    assert.throws(() => open('vale0:p/x'), { code: 'EBUSY' });
    assert.throws(() => open('vale0:p-2'), { message: /rings 0 to 1/ });
    assert.throws(() => open('vale0:p^'), { message: /no such rings/ });
    const alone = open('vale0:q/x');
    assert.throws(() => open('vale0:q'), { code: 'EBUSY' });
    alone.close();
    open('vale0:q').close();
    const half = open('vale0:r/R');
    assert.deepEqual([half.txRings.length, half.rxRings.length], [0, 1]);
  });

  test('a port that cannot be opened leaves nothing behind', () => {
    assert.throws(() => open('vale0:p-7'), { code: 'EINVAL' });
    assert.throws(() => open('vale0:p{1^'), { code: 'EINVAL' });
    assert.throws(() => open('vale0:p@77'), { code: 'ENOENT', remedy: /@1/ });
    assert.deepEqual(rig.netmap.list(), []);
  });
});

describe('memory', () => {
  test('ports have their own unless they ask for a region that there is', () => {
    const [a, b] = [open('vale0:a'), open('vale0:b')];
    assert.notEqual(a.memory, b.memory);
    const shared = open(`vale0:c@${a.memory.id}`);
    assert.equal(shared.memory, a.memory);
    const [g1, g2] = [open('vale0:g@1'), open('netmap:h{x@1')];
    assert.equal(g1.memory, g2.memory);
    assert.equal(g1.memory.id, 1);
    assert.throws(() => open(`vale0:a@${b.memory.id}`), { code: 'EINVAL', remedy: /@N/ });
    a.close();
    send(shared, frame(0xff, 1));
    assert.equal(take(b).length, 1, 'the region stays for those who share it');
  });

  test('extra buffers come as a list, and go back with it; not those that others have', () => {
    const a = open('vale0:a', { extraBufs: 100 });
    assert.equal(a.extraBufs, 100);
    const { memory } = a;
    const next = (idx: number): number => memory.window.u32[memory.bufOff(idx) >>> 2]!;
    const list = [];
    for (let idx = a.bufsHead; idx !== 0; idx = next(idx)) list.push(idx);
    assert.equal(new Set(list).size, 100);
    const b = open(`vale0:b@${memory.id}`, { extraBufs: 1e6 });
    assert.ok(b.extraBufs < 1e6);
    assert.equal(memory.freeBufs, 0);
    // a list that claims a buffer of the other's ring, and then goes round
    const [mine] = list as [number];
    memory.window.u32[memory.bufOff(mine) >>> 2] = b.txRings[0]!.bufIdx(5);
    memory.window.u32[memory.bufOff(b.txRings[0]!.bufIdx(5)) >>> 2] = mine;
    a.bufsHead = mine;
    a.close();
    assert.equal(memory.freeBufs, 1 + 2048);
    assert.equal(memory.freeBuf(b.txRings[0]!.bufIdx(5)), true, 'it was still taken');
  });

  test('the region can neither be shrunk nor grown', async () => {
    const { memory } = open('vale0:a');
    const { ftruncate } = await import('../../../src/sys/memfd.js');
    assert.throws(() => ftruncate(memory.fd, 4096), { code: 'EPERM' });
    assert.throws(() => ftruncate(memory.fd, memory.byteLength * 2), { code: 'EPERM' });
  });
});
