/**
 * The objectives of netmap's own functional tests (its utils/tests), by their names: who may open a port
 * with whom, and packets between ports of every kind. Those about monitors and about control requests are in the
 * other objectives-*.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Functional, type Packets } from '../../support/functional.js';

let functional: Functional;
const send = (name: string, what: Packets, options = {}): boolean => functional.send(name, what, options);
const receive = (name: string, what: Packets): boolean => functional.receive(name, what);

beforeEach(() => {
  functional = new Functional();
});
afterEach(() => functional.close());

function persistentPorts(...names: string[]): void {
  for (const name of names) {
    functional.netmap.newif(name);
    functional.netmap.attach('vale0', name);
  }
}

describe('exclusive opening', () => {
  function isExclusive(name: string): void {
    functional.port(`${name}/x`);
    for (const again of [name, `${name}/x`]) assert.throws(() => functional.openAnew(again), { code: 'EBUSY' }, again);
    functional.closePort(`${name}/x`);
    functional.openAnew(name);
    // and who has it shared is not put out by who wants it alone
    functional.port(name);
    assert.throws(() => functional.openAnew(`${name}/x`), { code: 'EBUSY' });
  }

  test('001_exclusive_open_ephemeral_vale_port', () => isExclusive('vale0:v0'));

  test('002_exclusive_open_persistent_vale_port', () => {
    persistentPorts('v0');
    isExclusive('vale0:v0');
  });

  test('003_exclusive_open_pipe', () => isExclusive('netmap:pipeA{1'));
});

describe('packets', () => {
  const what: Packets = { len: 274, fill: 'c' };
  // the scripts take number and sequential filling from their environment
  const variants: [string, Packets][] = [
    ['one', what],
    ['fifty, each filled otherwise', { ...what, num: 50, seq: true }],
    ['of several slots', { ...what, len: 9000, num: 3, seq: true }],
  ];

  for (const [variant, p] of variants) {
    test(`004_extra_buf_send_rec_ephemeral_vale_ports: ${variant}`, () => {
      functional.port('vale0:v1');
      functional.port('vale0:v2');
      assert.ok(send('vale0:v0', p, { extraBufs: 12 }));
      assert.ok(receive('vale0:v1', p));
      assert.ok(receive('vale0:v2', p));
      assert.equal(functional.port('vale0:v0').extraBufs, 12);
    });

    test(`005_extra_buf_send_rec_persistent_vale_ports: ${variant}`, () => {
      persistentPorts('v0', 'v1', 'v2');
      functional.port('vale0:v0');
      functional.port('vale0:v1');
      assert.ok(send('vale0:v2', p, { extraBufs: 12 }));
      assert.ok(receive('vale0:v0', p));
      assert.ok(receive('vale0:v1', p));
    });

    test(`006_extra_buf_send_rec_pipe: ${variant}`, () => {
      functional.port('netmap:pipeA{1');
      assert.ok(send('netmap:pipeA}1', p, { extraBufs: 12 }));
      assert.ok(receive('netmap:pipeA{1', p));
      // the sender goes: what is on its way, in buffers that were its extra ones, is not lost with it
      assert.ok(send('netmap:pipeA}1', { ...p, num: 2 }));
      functional.closePort('netmap:pipeA}1');
      assert.ok(receive('netmap:pipeA{1', { ...p, num: 2 }));
    });

    test(`021_send_rec_ephemeral_vale_ports: ${variant}`, () => {
      for (const name of ['v0', 'v1', 'v2']) functional.port(`vale0:${name}`);
      everyoneToAllOthers(p);
    });

    test(`022_send_rec_persistent_vale_ports: ${variant}`, () => {
      persistentPorts('v0', 'v1', 'v2');
      for (const name of ['v0', 'v1', 'v2']) functional.port(`vale0:${name}`);
      everyoneToAllOthers(p);
    });

    test(`023_send_rec_pipe: ${variant}`, () => {
      const [master, slave] = ['netmap:pipeA{1', 'netmap:pipeA}1'];
      functional.port(master);
      functional.port(slave);
      assert.ok(send(slave, p));
      assert.ok(receive(master, p));
      assert.ok(send(master, p));
      assert.ok(receive(slave, p));
    });
  }

  function everyoneToAllOthers(p: Packets): void {
    const names = ['vale0:v0', 'vale0:v1', 'vale0:v2'];
    for (const from of names) {
      assert.ok(send(from, p));
      for (const to of names) assert.equal(to === from ? functional.receivesNothing(to) : receive(to, p), true);
    }
  }

  test('007_learning_bridge', () => {
    const [src, all] = ['02:aa:bb:cc:dd:ee', 'ff:ff:ff:ff:ff:ff'];
    const p = { len: 150, fill: 'd' };
    for (const name of ['v0', 'v1', 'v2']) functional.port(`vale0:${name}`);
    // to everybody: the switch learns where the sender is
    assert.ok(send('vale0:v2', { ...p, src, dst: all }));
    for (const name of ['v0', 'v1']) assert.ok(receive(`vale0:${name}`, { ...p, src, dst: all }));
    // back to it, and to nobody else
    assert.ok(send('vale0:v0', { ...p, dst: src }));
    assert.ok(receive('vale0:v2', { ...p, dst: src }));
    assert.ok(functional.receivesNothing('vale0:v1'));
  });

  test('008_partial_read_pipe', () => {
    const [master, slave] = ['netmap:pipeA{1', 'netmap:pipeA}1'];
    const p = { len: 274, fill: 'h' };
    functional.port(master);
    const tx = functional.port(slave).txRings[0]!;
    assert.ok(send(slave, { ...p, num: 10 }));
    assert.ok(receive(master, { ...p, num: 7 }));
    // what was not read stays the receiver's: the sender has that much less room
    functional.port(slave).txsync();
    const most = tx.numSlots - 1;
    assert.equal(most - tx.space(), 3);
    // one packet more than there is room for
    assert.equal(send(slave, { ...p, num: tx.space() + 1 }), false);
    assert.equal(tx.space(), 0);
    assert.ok(receive(master, { ...p, num: most }));
    functional.port(slave).txsync();
    assert.equal(tx.space(), most);
  });
});
