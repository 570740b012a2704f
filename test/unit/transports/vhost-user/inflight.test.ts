/** The inflight buffer: what a back-end that died leaves, its successor settles. */
import assert from 'node:assert/strict';
import { readSync, writeSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import type { Fd } from '../../../../src/sys/fd.js';
import * as M from '../../../../src/transports/vhost-user/messages.js';
import { etherFrame } from '../../../support/test-guest.js';
import { inflightMessage, stepUntil, VhostUserClient } from '../../../support/vhost-user-client.js';
import type { VhostUserGuest } from '../../../support/vhost-user-guest.js';
import { TestFabric } from '../../../support/vhost-user-port.js';

const QUEUE_SIZE = 64;
const REGION = Math.ceil((16 + 16 * QUEUE_SIZE) / 64) * 64;

/** struct QueueRegionSplit in the buffer's file, read and written as a foreign back-end would. */
class RegionFile {
  constructor(
    readonly fd: Fd,
    readonly queue: number,
  ) {}

  u16(off: number): number {
    const b = Buffer.alloc(2);
    readSync(this.fd.number, b, 0, 2, this.queue * REGION + off);
    return b.readUInt16LE();
  }

  set(off: number, ...bytes: number[]): void {
    writeSync(this.fd.number, Uint8Array.from(bytes), 0, bytes.length, this.queue * REGION + off);
  }

  get version(): number {
    return this.u16(8);
  }

  get descNum(): number {
    return this.u16(10);
  }

  get usedIdx(): number {
    return this.u16(14);
  }

  /** Marks `head` as taken, `counter` telling when. */
  take(head: number, counter: number): void {
    this.set(16 + 16 * head, 1);
    this.set(16 + 16 * head + 8, counter);
  }

  inflight(head: number): number {
    return this.u16(16 + 16 * head) & 0xff;
  }
}

function withInflight(t: TestContext) {
  const fabric = new TestFabric(t);
  const port = fabric.nic('vm1');
  const guest = fabric.guest(port, { queueSize: QUEUE_SIZE });
  const reply = guest.client.ask(M.VHOST_USER_GET_INFLIGHT_FD, inflightMessage(0, 0, 2, QUEUE_SIZE));
  const fd = reply.takeFd(0);
  fabric.onClose(() => fd.close());
  const description = Uint8Array.from(reply.payload);
  return { fabric, port, guest, fd, description, rx: new RegionFile(fd, 0), tx: new RegionFile(fd, 1) };
}

function handBack(guest: VhostUserGuest, description: Uint8Array, fd: Fd): void {
  assert.ok(guest.client.acked(M.VHOST_USER_SET_INFLIGHT_FD, description, [fd]));
}

test('a fresh buffer is marked as used by version and size when its ring starts, and kept up to date', (t) => {
  const { fabric, guest, fd, description, tx } = withInflight(t);
  assert.equal(tx.version, 0);
  handBack(guest, description, fd);
  guest.startRing(1, guest.stopRing(1));
  assert.deepEqual([tx.version, tx.descNum, tx.usedIdx], [1, QUEUE_SIZE, 0]);
  for (let i = 0; i < 5; i++) guest.transmit(etherFrame(0xff, 1));
  fabric.steps(10);
  assert.equal(guest.stopRing(1), 5);
  assert.equal(tx.usedIdx, 5);
});

test('a successor goes on at the used index, whatever base the front-end tells', (t) => {
  const { fabric, port, guest, fd, description } = withInflight(t);
  handBack(guest, description, fd);
  for (let i = 0; i < 5; i++) guest.transmit(etherFrame(0xff, 1));
  fabric.steps(10);
  guest.client.close();
  stepUntil(fabric.step, () => port.transport.status().state === 'listening', 'the connection ends');
  const client = VhostUserClient.connect(port.path, fabric.step);
  guest.reconnect(client, () => handBack(guest, description, fd), [0, 0]);
  assert.equal(port.device.status().queues[1]!.availIdx, 5);
});

test('entries that a foreign back-end left in flight go back to the driver, oldest first, with length 0', (t) => {
  const { fabric, port, guest, fd, description, tx } = withInflight(t);
  handBack(guest, description, fd);
  guest.startRing(1, guest.stopRing(1));
  // the foreign back-end takes three chains and returns none of them before it dies
  guest.stopRing(1);
  const heads = [0, 1, 2].map(() => guest.tx.add([{ gpa: guest.txGpa(0), len: 100 }]));
  guest.tx.publish();
  tx.take(heads[2]!, 1);
  tx.take(heads[0]!, 2);
  tx.take(heads[1]!, 3);
  handBack(guest, description, fd);
  guest.startRing(1, 0);
  const returned = [guest.tx.reclaim(), guest.tx.reclaim(), guest.tx.reclaim()];
  assert.deepEqual(
    returned,
    [heads[2], heads[0], heads[1]].map((head) => ({ head, len: 0 })),
  );
  assert.equal(port.device.status().queues[1]!.availIdx, 3);
  assert.equal(tx.usedIdx, 3);
  assert.ok(heads.every((head) => tx.inflight(head) === 0));
  guest.transmit(etherFrame(0xff, 1));
  stepUntil(fabric.step, () => guest.tx.reclaim() !== undefined, 'the ring goes on');
});

test('a batch that was returned before its flags were cleared is not returned again', (t) => {
  const { guest, fd, description, tx } = withInflight(t);
  handBack(guest, description, fd);
  guest.startRing(1, guest.stopRing(1));
  guest.stopRing(1);
  // two entries: both in the used ring already, used_idx still 0, list 5 -> 3
  tx.take(5, 1);
  tx.take(3, 2);
  tx.set(16 + 16 * 5 + 6, 3, 0);
  tx.set(12, 5, 0);
  guest.tx.write16(guest.tx.used + 2, 2);
  handBack(guest, description, fd);
  guest.startRing(1, 0);
  assert.equal(guest.tx.read16(guest.tx.used + 2), 2);
  assert.equal(tx.inflight(5) + tx.inflight(3), 0);
});

test('a buffer full of nonsense neither loops nor writes outside the used ring', (t) => {
  const { fabric, guest, fd, description, tx, rx } = withInflight(t);
  handBack(guest, description, fd);
  guest.stopRing(1);
  tx.set(0, ...new Uint8Array(REGION).fill(0xff));
  rx.set(0, ...new Uint8Array(REGION).fill(0x01));
  const others = guest.bytes(guest.rx.desc, 16 * QUEUE_SIZE).slice();
  guest.startRing(1, 0);
  fabric.steps(5);
  assert.deepEqual(guest.bytes(guest.rx.desc, 16 * QUEUE_SIZE).slice(), others);
  guest.client.sync();
});
