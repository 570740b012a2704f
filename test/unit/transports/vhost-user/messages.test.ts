/** One test for each request of the protocol: what it does, and what it is answered with. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventfdRead, eventfdWrite } from '../../../../src/sys/eventfd.js';
import { fstat } from '../../../../src/sys/fd.js';
import { F_SEAL_SHRINK, ftruncate, getSeals } from '../../../../src/sys/memfd.js';
import { socketPair } from '../../../../src/sys/socket.js';
import * as M from '../../../../src/transports/vhost-user/messages.js';
import {
  configMessage,
  drainSocket,
  inflightMessage,
  memoryTable,
  type Region,
  singleRegion,
  stepUntil,
  u64,
  vringState,
} from '../../../support/vhost-user-client.js';
import { ALL, INBAND, MEMORY, Rig, region, ringAt, USER } from '../../../support/vhost-user-rig.js';

test('GET_FEATURES offers the device features and PROTOCOL_FEATURES', (t) => {
  const { fe, device } = new Rig(t);
  assert.equal(fe.askU64(M.VHOST_USER_GET_FEATURES), device.deviceFeatures | (1n << 30n));
});

test('SET_FEATURES passes on what the driver accepted, without the bit of the transport', (t) => {
  const { fe, device } = new Rig(t);
  assert.ok(fe.acked(M.VHOST_USER_SET_FEATURES, u64((1n << 32n) | (1n << 30n))));
  assert.equal(device.features, 1n << 32n);
});

test('SET_FEATURES with a bit that was not offered is refused', (t) => {
  const { fe, device } = new Rig(t);
  assert.equal(fe.acked(M.VHOST_USER_SET_FEATURES, u64(1n << 50n)), false);
  assert.equal(device.features, 0n);
});

test('SET_FEATURES under running rings stops them for the change and goes on where they were', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  rig.startRing();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_FEATURES, u64(1n << 32n)));
  assert.deepEqual(rig.device.events, ['start 0', 'stop 0', 'start 0']);
  assert.equal(rig.device.queue(0).base, 7);
});

test('GET_PROTOCOL_FEATURES offers what is implemented, in-band notifications only on request', (t) => {
  const rig = new Rig(t, 0);
  assert.equal(rig.fe.askU64(M.VHOST_USER_GET_PROTOCOL_FEATURES), BigInt(ALL));
  assert.equal(ALL & INBAND, 0);
  rig.close();
  const asked = new Rig(t, 0, { inbandNotifications: true });
  assert.equal(asked.fe.askU64(M.VHOST_USER_GET_PROTOCOL_FEATURES), BigInt(ALL | INBAND));
});

test('SET_PROTOCOL_FEATURES with a bit that was not offered closes the connection', (t) => {
  const rig = new Rig(t, 1);
  assert.ok(rig.fe.endsHere());
  assert.match(rig.warnings().join(), /SET_PROTOCOL_FEATURES: bits 0x1 were not offered/);
});

test('SET_PROTOCOL_FEATURES with in-band notifications but no back-end channel closes the connection', (t) => {
  const rig = new Rig(t, INBAND | (1 << M.VHOST_USER_PROTOCOL_F_REPLY_ACK), { inbandNotifications: true });
  assert.ok(rig.fe.endsHere());
  assert.match(rig.warnings().join(), /INBAND_NOTIFICATIONS needs BACKEND_REQ and REPLY_ACK/);
});

test('SET_OWNER and RESET_OWNER are accepted and change nothing', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  rig.startRing();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_OWNER));
  assert.ok(rig.fe.acked(M.VHOST_USER_RESET_OWNER));
  assert.ok(rig.device.queue(0).started);
});

test('SET_MEM_TABLE maps the regions, and seals their file against shrinking', (t) => {
  const rig = new Rig(t);
  const fd = rig.shareMemory();
  assert.equal(rig.device.memory?.byteLength, MEMORY);
  assert.equal(getSeals(fd.number), F_SEAL_SHRINK);
  assert.throws(() => ftruncate(fd.number, 4096), { code: 'EPERM' });
  assert.deepEqual(rig.port.transport.status().memory, { regions: 1, bytes: MEMORY, unshared: 0, sealed: true });
});

test('SET_MEM_TABLE may have room for more regions than it tells, and a large mmap offset', (t) => {
  const rig = new Rig(t);
  const fd = rig.memory(MEMORY + 0x7c2000);
  const table = memoryTable([{ ...region, mmapOffset: 0x7c2000 }], 2);
  assert.equal(table.length, 72);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_MEM_TABLE, table, [fd]));
  assert.equal(rig.device.memory?.regionCount, 1);
});

test('SET_MEM_TABLE under a running ring stops it for the change and goes on where it was', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  rig.startRing();
  rig.shareMemory();
  assert.deepEqual(rig.device.events, ['start 0', 'stop 0', 'start 0']);
});

test('a ring whose memory goes away waits, and goes on when it is back', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  rig.startRing();
  const elsewhere = { ...region, userAddr: USER + 2 ** 32 };
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_MEM_TABLE, memoryTable([elsewhere]), [rig.memory()]));
  assert.equal(rig.device.queue(0).started, false);
  assert.match(rig.warnings().join(), /queue 0 waits: the descriptor table is outside guest memory/);
  rig.shareMemory();
  assert.ok(rig.device.queue(0).started);
});

test('SET_MEM_TABLE that fails leaves the table as it was', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  rig.startRing();
  const overlapping = memoryTable([region, { ...region, gpa: 4096 }]);
  assert.equal(rig.fe.acked(M.VHOST_USER_SET_MEM_TABLE, overlapping, [rig.memory(), rig.memory()]), false);
  assert.equal(rig.device.memory?.byteLength, MEMORY);
  assert.ok(rig.device.queue(0).started);
});

test('ADD_MEM_REG and REM_MEM_REG change the memory region by region', (t) => {
  const rig = new Rig(t);
  assert.ok(rig.fe.askU64(M.VHOST_USER_GET_MAX_MEM_SLOTS) >= 8n);
  const second: Region = { gpa: MEMORY, size: MEMORY, userAddr: USER + MEMORY, mmapOffset: 0 };
  assert.ok(rig.fe.acked(M.VHOST_USER_ADD_MEM_REG, singleRegion(region), [rig.memory()]));
  assert.ok(rig.fe.acked(M.VHOST_USER_ADD_MEM_REG, singleRegion(second), [rig.memory()]));
  assert.equal(rig.device.memory?.byteLength, 2 * MEMORY);
  const ignoredOffset = { ...region, mmapOffset: 4096 };
  assert.ok(rig.fe.acked(M.VHOST_USER_REM_MEM_REG, singleRegion(ignoredOffset)));
  assert.equal(rig.device.memory?.regionCount, 1);
});

test('ADD_MEM_REG gives a ring that waited for its memory what it needs', (t) => {
  const rig = new Rig(t);
  rig.configureRing();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_KICK, u64(0), [rig.eventfd()]));
  assert.equal(rig.device.queue(0).started, false);
  assert.ok(rig.fe.acked(M.VHOST_USER_ADD_MEM_REG, singleRegion(region), [rig.memory()]));
  assert.ok(rig.device.queue(0).started);
});

test('REM_MEM_REG takes a descriptor as some front-ends send it, and closes it', (t) => {
  const rig = new Rig(t);
  const fd = rig.memory();
  assert.ok(rig.fe.acked(M.VHOST_USER_ADD_MEM_REG, singleRegion(region), [fd]));
  assert.ok(rig.fe.acked(M.VHOST_USER_REM_MEM_REG, singleRegion(region), [fd]));
});

test('SET_VRING_NUM, BASE, ADDR and KICK start a ring where it is told', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  rig.startRing(1);
  const q = rig.device.queue(1);
  assert.equal(q.size, 64);
  assert.equal(q.base, 7);
  assert.equal(q.addresses?.availUser, USER + 0x24000);
  assert.equal(q.kicks, 1, 'what was available before the kick is served');
});

test('the parts of a ring may come in any order: it starts when the last is there', (t) => {
  const parts = ['NUM', 'ADDR', 'KICK', 'MEM'] as const;
  const orders = parts.flatMap((a) => parts.flatMap((b) => parts.flatMap((c) => parts.map((d) => [a, b, c, d]))));
  for (const order of orders.filter((o) => new Set(o).size === 4)) {
    // a new size takes the kick back: it belongs to the ring's old shape
    if (order.indexOf('NUM') > order.indexOf('KICK')) continue;
    const rig = new Rig(t);
    for (const part of order) {
      assert.equal(rig.device.queue(0).started, false, `${order.join(' ')}: not before ${part}`);
      if (part === 'NUM') assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_NUM, vringState(0, 64)));
      if (part === 'ADDR') assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_ADDR, ringAt(0)));
      if (part === 'KICK') assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_KICK, u64(0), [rig.eventfd()]));
      if (part === 'MEM') rig.shareMemory();
    }
    assert.ok(rig.device.queue(0).started, order.join(' '));
    rig.close();
  }
});

test('SET_VRING_NUM and BASE stop a running ring until its next kick', (t) => {
  for (const request of [M.VHOST_USER_SET_VRING_NUM, M.VHOST_USER_SET_VRING_BASE]) {
    const rig = new Rig(t);
    rig.shareMemory();
    rig.startRing();
    assert.ok(rig.fe.acked(request, vringState(0, 128)));
    assert.equal(rig.device.queue(0).started, false);
    assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_KICK, u64(0), [rig.eventfd()]));
    assert.ok(rig.device.queue(0).started);
    rig.close();
  }
});

test('SET_VRING_ADDR moves a running ring', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  rig.startRing();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_ADDR, ringAt(0, USER + 0x40000)));
  assert.deepEqual(rig.device.events, ['start 0', 'stop 0', 'start 0']);
  assert.equal(rig.device.queue(0).addresses?.descUser, USER + 0x50000);
});

test('GET_VRING_BASE stops the ring, tells where, and lets go of kick and call', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  const kick = rig.startRing();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_CALL, u64(0), [rig.eventfd()]));
  rig.device.queue(0).base = 4711;
  const reply = rig.fe.ask(M.VHOST_USER_GET_VRING_BASE, vringState(0, 0));
  assert.deepEqual([reply.u32(0), reply.u32(4)], [0, 4711]);
  assert.equal(rig.device.queue(0).started, false);
  assert.equal(rig.device.queue(0).notify, null);
  const { kicks } = rig.device.queue(0);
  eventfdWrite(kick.number);
  rig.steps(5);
  assert.equal(rig.device.queue(0).kicks, kicks);
  assert.equal(rig.device.queue(0).started, false);
});

test('GET_VRING_BASE of a ring that does not run tells its base', (t) => {
  const rig = new Rig(t);
  rig.configureRing(1);
  assert.equal(rig.fe.ask(M.VHOST_USER_GET_VRING_BASE, vringState(1, 0)).u32(4), 7);
});

test('SET_VRING_KICK: each signal of the eventfd kicks the queue', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  const kick = rig.startRing();
  for (let i = 2; i <= 4; i++) {
    eventfdWrite(kick.number);
    stepUntil(rig.step, () => rig.device.queue(0).kicks === i, `kick ${i}`);
  }
});

test('SET_VRING_KICK without a descriptor means polling: the queue is kicked all the time', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  rig.configureRing();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_KICK, u64(0x100)));
  assert.ok(rig.device.queue(0).started);
  const { kicks } = rig.device.queue(0);
  rig.steps(10);
  assert.ok(rig.device.queue(0).kicks >= kicks + 10);
  rig.fe.ask(M.VHOST_USER_GET_VRING_BASE, vringState(0, 0));
  assert.equal(rig.runtime.loop.activeCount, 0, 'and polling ends with the ring');
});

test('SET_VRING_CALL: the device signals the driver through it', (t) => {
  const rig = new Rig(t);
  const call = rig.eventfd();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_CALL, u64(1), [call]));
  rig.device.queue(1).notify?.();
  assert.equal(eventfdRead(call.number), 1);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_CALL, u64(0x101)));
  assert.equal(rig.device.queue(1).notify, null);
});

test('SET_VRING_CALL that is refused leaves no descriptor to signal', (t) => {
  const rig = new Rig(t);
  const call = rig.eventfd();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_CALL, u64(1), [call]));
  assert.equal(rig.fe.acked(M.VHOST_USER_SET_VRING_CALL, u64(1), [rig.memory()]), false);
  assert.equal(rig.device.queue(1).notify, null);
});

test('SET_VRING_CALL takes a socket, as user-mode-linux sends one, and survives its reader', (t) => {
  const rig = new Rig(t);
  const [ours, theirs] = socketPair();
  rig.own(ours);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_CALL, u64(0), [theirs]));
  theirs.close();
  rig.device.queue(0).notify?.();
  assert.equal(drainSocket(ours).length, 8);
  for (let i = 0; i < 10_000; i++) rig.device.queue(0).notify?.();
  ours.close();
  rig.device.queue(0).notify?.();
  rig.fe.sync();
});

test('SET_VRING_ERR: signalled when the device finds the ring broken', (t) => {
  const rig = new Rig(t);
  const err = rig.eventfd();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_ERR, u64(1), [err]));
  rig.device.onBroken?.(1, 'fault_head');
  assert.equal(eventfdRead(err.number), 1);
  assert.match(rig.warnings().join(), /queue 1 is broken \(fault_head\)/);
});

test('SET_VRING_ENABLE is kept from long before the ring starts', (t) => {
  const rig = new Rig(t);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_ENABLE, vringState(0, 1)));
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_FEATURES, u64((1n << 32n) | (1n << 30n))));
  rig.shareMemory();
  rig.startRing(0);
  rig.startRing(1);
  assert.equal(rig.device.queue(0).enabled, true);
  assert.equal(rig.device.queue(1).enabled, false);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_ENABLE, vringState(0, 0)));
  assert.equal(rig.device.queue(0).enabled, false);
});

test('without PROTOCOL_FEATURES a ring starts enabled', (t) => {
  const rig = new Rig(t);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_FEATURES, u64(1n << 32n)));
  rig.shareMemory();
  rig.startRing(0);
  assert.equal(rig.device.queue(0).enabled, true);
});

test('SEND_RARP announces the first six bytes', (t) => {
  const { fe, device } = new Rig(t);
  assert.ok(fe.acked(M.VHOST_USER_SEND_RARP, u64(0x0000_0605_0403_0201)));
  assert.deepEqual(device.announced, ['010203040506']);
});

test('NET_SET_MTU sets the MTU, and tells when it is not valid', (t) => {
  const { fe, device } = new Rig(t);
  assert.ok(fe.acked(M.VHOST_USER_NET_SET_MTU, u64(9000)));
  assert.equal(device.mtu, 9000);
  assert.equal(fe.acked(M.VHOST_USER_NET_SET_MTU, u64(65536)), false);
  assert.equal(fe.acked(M.VHOST_USER_NET_SET_MTU, u64(20)), false);
  assert.equal(device.mtu, 9000);
});

test('SET_BACKEND_REQ_FD: a change of config space is told through it', (t) => {
  const rig = new Rig(t);
  const [ours, theirs] = socketPair();
  rig.own(ours);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_BACKEND_REQ_FD, new Uint8Array(0), [theirs]));
  theirs.close();
  rig.device.configNotify?.();
  assert.deepEqual([...drainSocket(ours)], [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
});

test('without CONFIG the front-end is not told of changes', (t) => {
  const rig = new Rig(t, ALL & ~(1 << M.VHOST_USER_PROTOCOL_F_CONFIG));
  const [ours, theirs] = socketPair();
  rig.own(ours);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_BACKEND_REQ_FD, new Uint8Array(0), [theirs]));
  theirs.close();
  assert.equal(rig.device.configNotify, null);
});

test('a back-end channel that nobody reads gets each event once more when there is room', (t) => {
  const rig = new Rig(t);
  const [ours, theirs] = socketPair();
  rig.own(ours);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_BACKEND_REQ_FD, new Uint8Array(0), [theirs]));
  theirs.close();
  for (let i = 0; i < 100_000; i++) rig.device.configNotify?.();
  let bytes = 0;
  for (let n = -1; n !== 0; bytes += n) n = drainSocket(ours).length;
  rig.step();
  assert.ok(bytes > 0 && bytes % 12 === 0 && bytes < 100_000 * 12);
  assert.equal(drainSocket(ours).length, 12);
  rig.step();
  assert.equal(drainSocket(ours).length, 0);
});

test('a back-end channel that the front-end closes is done without', (t) => {
  const rig = new Rig(t);
  const [ours, theirs] = socketPair();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_BACKEND_REQ_FD, new Uint8Array(0), [theirs]));
  theirs.close();
  ours.close();
  rig.device.configNotify?.();
  rig.device.configNotify?.();
  rig.fe.sync();
});

test('in-band notifications: kicks come and calls and errors go as messages', (t) => {
  const rig = new Rig(t, ALL | INBAND, { inbandNotifications: true });
  const [ours, theirs] = socketPair();
  rig.own(ours);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_BACKEND_REQ_FD, new Uint8Array(0), [theirs]));
  theirs.close();
  rig.shareMemory();
  rig.configureRing();
  assert.equal(rig.device.queue(0).started, false);
  assert.ok(rig.fe.acked(M.VHOST_USER_VRING_KICK, vringState(0, 0)));
  assert.ok(rig.device.queue(0).started, 'the first kick starts the ring');
  assert.ok(rig.fe.acked(M.VHOST_USER_VRING_KICK, vringState(0, 0)));
  assert.equal(rig.device.queue(0).kicks, 2);
  rig.device.queue(0).notify?.();
  rig.device.onBroken?.(1, 'fault_head');
  const sent = drainSocket(ours);
  assert.deepEqual([...sent.subarray(0, 20)], [4, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...sent.subarray(20)], [5, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
});

test('GET_CONFIG answers with what was asked for, byte by byte with growing size', (t) => {
  const { fe, device } = new Rig(t);
  for (let size = 1; size <= 16; size++) {
    const reply = fe.ask(M.VHOST_USER_GET_CONFIG, configMessage(0, size));
    const expected = Buffer.concat([device.config, Buffer.alloc(4)]).subarray(0, size);
    assert.equal(reply.payload.length, 12 + size);
    assert.deepEqual(Buffer.from(reply.payload.subarray(12)), expected);
  }
  const reply = fe.ask(M.VHOST_USER_GET_CONFIG, configMessage(10, 2));
  assert.deepEqual([...reply.payload.subarray(12)], [0xdc, 5]);
});

test('SET_CONFIG writes, and tells when it cannot', (t) => {
  const { fe, device } = new Rig(t);
  assert.ok(fe.acked(M.VHOST_USER_SET_CONFIG, configMessage(1, 2, 0, Uint8Array.of(0xaa, 0xbb))));
  assert.deepEqual([...device.config.subarray(0, 4)], [2, 0xaa, 0xbb, 0]);
  assert.equal(fe.acked(M.VHOST_USER_SET_CONFIG, configMessage(11, 2)), false);
  assert.equal(fe.acked(M.VHOST_USER_SET_CONFIG, configMessage(0, 1, 2)), false);
});

test('GET_INFLIGHT_FD hands out a sealed buffer of the right size; SET_INFLIGHT_FD takes it back', (t) => {
  const rig = new Rig(t);
  for (const length of [24, 20]) {
    const reply = rig.fe.ask(M.VHOST_USER_GET_INFLIGHT_FD, inflightMessage(0, 0, 2, 256, length));
    assert.equal(reply.payload.length, length);
    assert.equal(reply.fdCount, 1);
    const fd = rig.own(reply.takeFd(0));
    assert.equal(reply.u64(0), BigInt(fstat(fd.number).size));
    assert.ok(reply.u64(0) >= 2 * (16 + 16 * 256));
    assert.throws(() => ftruncate(fd.number, 0), { code: 'EPERM' });
    assert.ok(rig.fe.acked(M.VHOST_USER_SET_INFLIGHT_FD, Uint8Array.from(reply.payload), [fd]));
  }
});

test('RESET_DEVICE resets the device and disables all rings; memory and connection stay', (t) => {
  const rig = new Rig(t);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_FEATURES, u64(1n << 32n)));
  rig.shareMemory();
  rig.startRing();
  assert.ok(rig.fe.acked(M.VHOST_USER_RESET_DEVICE));
  assert.equal(rig.device.resets, 1);
  assert.equal(rig.device.memory?.regionCount, 1);
  rig.startRing();
  assert.equal(rig.device.queue(0).enabled, false);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_ENABLE, vringState(0, 1)));
  assert.equal(rig.device.queue(0).enabled, true);
});

test('SET_STATUS is kept for GET_STATUS; 0 stops the rings', (t) => {
  const rig = new Rig(t);
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_STATUS, u64(0xf)));
  assert.equal(rig.fe.askU64(M.VHOST_USER_GET_STATUS), 0xfn);
  rig.shareMemory();
  rig.startRing();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_STATUS, u64(0)));
  assert.equal(rig.device.queue(0).started, false);
  assert.equal(rig.fe.acked(M.VHOST_USER_SET_STATUS, u64(0x100)), false);
});

test('need_reply without REPLY_ACK is not answered', (t) => {
  const rig = new Rig(t, ALL & ~(1 << M.VHOST_USER_PROTOCOL_F_REPLY_ACK));
  rig.fe.send(M.VHOST_USER_SET_OWNER, new Uint8Array(0), { needReply: true });
  rig.fe.sync();
});
