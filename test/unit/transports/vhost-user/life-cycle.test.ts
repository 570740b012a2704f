/** Either side comes and goes at any time; the other side does not notice more than it must. */
import assert from 'node:assert/strict';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { accept, listenUnix } from '../../../../src/sys/socket.js';
import * as M from '../../../../src/transports/vhost-user/messages.js';
import { VhostUserTransport } from '../../../../src/transports/vhost-user/server.js';
import { StubDevice } from '../../../support/stub-device.js';
import { memoryTable, stepUntil, u64, VhostUserClient, vringState } from '../../../support/vhost-user-client.js';
import { TestFabric } from '../../../support/vhost-user-port.js';
import { ALL, Rig, region, ringAt } from '../../../support/vhost-user-rig.js';

test('the socket belongs to its user alone, and goes with the transport', (t) => {
  const fabric = new TestFabric(t);
  const { transport, path } = fabric.serve(new StubDevice(), 'nic');
  assert.equal(statSync(path).mode & 0o777, 0o600);
  transport.close();
  transport.close();
  assert.equal(existsSync(path), false);
  assert.equal(transport.status().state, 'closed');
});

test('a path that somebody listens on is refused, and that one is not disturbed', (t) => {
  const rig = new Rig(t);
  rig.fe.sync();
  assert.throws(() => rig.serve(new StubDevice(), 'other', { path: rig.port.path }), {
    code: 'EADDRINUSE',
    kind: 'usage',
  });
  rig.fe.sync();
});

test('a path that is no socket is refused and left alone', (t) => {
  const fabric = new TestFabric(t);
  const path = join(fabric.dir, 'precious');
  writeFileSync(path, 'data');
  assert.throws(() => fabric.serve(new StubDevice(), 'nic', { path }), { code: 'EADDRINUSE' });
  assert.ok(existsSync(path));
});

test('a guest that goes is forgotten: rings stopped, memory unmapped, device reset; the next one is served', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  rig.startRing(0);
  rig.startRing(1);
  assert.equal(rig.port.transport.status().peerPid, process.pid);
  rig.fe.close();
  stepUntil(rig.step, () => rig.port.transport.status().state === 'listening', 'the connection ends');
  assert.deepEqual(rig.device.events, ['start 0', 'start 1', 'stop 0', 'stop 1']);
  assert.equal(rig.device.memory, undefined);
  assert.ok(rig.runtime.windows.windows.every((w) => !w.inUse));
  const next = rig.client(rig.port);
  next.send(M.VHOST_USER_SET_PROTOCOL_FEATURES, u64(ALL));
  assert.ok(next.acked(M.VHOST_USER_SET_OWNER));
});

test('a second guest waits until the first one goes', (t) => {
  const rig = new Rig(t);
  rig.fe.sync();
  const second = rig.client(rig.port);
  second.send(M.VHOST_USER_SET_PROTOCOL_FEATURES, u64(ALL));
  second.send(M.VHOST_USER_NET_SET_MTU, u64(9000));
  rig.steps(20);
  assert.equal(rig.device.mtu, 0);
  rig.fe.close();
  second.sync();
  assert.equal(rig.device.mtu, 9000);
});

test('what the front-end sent before it went is still done', (t) => {
  const rig = new Rig(t);
  rig.fe.send(M.VHOST_USER_NET_SET_MTU, u64(1400));
  rig.fe.close();
  stepUntil(rig.step, () => rig.device.mtu === 1400, 'the last message is served');
});

test('client mode: connects when the front-end listens, again when it comes back, and says so once', (t) => {
  const fabric = new TestFabric(t);
  const path = join(fabric.dir, 'hypervisor.sock');
  const port = fabric.serve(new StubDevice(), 'nic', { mode: 'client', path });
  fabric.steps(3);
  assert.equal(port.transport.status().state, 'connecting');
  for (let round = 0; round < 2; round++) {
    const listener = listenUnix(path);
    let socket = accept(listener.number);
    stepUntil(
      () => {
        fabric.runtime.loop.step(5);
        socket ??= accept(listener.number);
      },
      () => socket !== null,
      'it connects',
    );
    const client = new VhostUserClient(socket!, fabric.step);
    client.send(M.VHOST_USER_NET_SET_MTU, u64(1));
    client.close();
    listener.close();
    stepUntil(
      () => fabric.runtime.loop.step(5),
      () => port.transport.status().state === 'connecting',
      'the connection ends',
    );
  }
  const waits = fabric.runtime.records.filter((r) => /waiting for/.test(r.message));
  assert.ok(waits.length <= 3, 'once at the start, once after each connection');
});

test('a transport that is closed while it waits for its hypervisor stops trying', (t) => {
  const fabric = new TestFabric(t);
  const port = fabric.serve(new StubDevice(), 'nic', { mode: 'client', path: join(fabric.dir, 'nobody.sock') });
  port.transport.close();
  fabric.runtime.loop.step(20);
  assert.equal(port.transport.status().state, 'closed');
});

test('a restarted fabric serves the rings of a guest that went on, from where they were', (t) => {
  const fabric = new TestFabric(t);
  const a = fabric.nic('vm1');
  const b = fabric.nic('vm2');
  const sender = fabric.guest(a);
  const receiver = fabric.guest(b, { style: 'dpdk' });
  const frame = (i: number) => Uint8Array.from({ length: 64 }, (_, k) => (k < 6 ? 0xff : k === 6 ? 2 : i));
  const expectFrames = (n: number) => {
    let got = 0;
    const count = () => {
      got += receiver.receive().length;
      return got >= n;
    };
    stepUntil(fabric.step, count, `${n} frames arrive`);
  };
  // twice around the rings
  for (let i = 0; i < 128; i++) {
    sender.transmit(frame(i));
    expectFrames(1);
  }
  a.transport.close();

  const again = new VhostUserTransport({
    runtime: fabric.runtime,
    device: a.device,
    name: 'vm1',
    path: a.path,
    mode: 'server',
  });
  again.start();
  fabric.onClose(() => again.close());
  sender.reconnect(VhostUserClient.connect(a.path, fabric.step));
  receiver.receive();
  sender.transmit(frame(1), frame(2));
  expectFrames(2);
});

test('a guest that is killed at any message boundary leaves nothing behind', (t) => {
  const script = (rig: Rig): (() => void)[] => [
    () => rig.fe.sync(),
    () => void rig.shareMemory(),
    () => void rig.configureRing(0),
    () => void rig.startRing(0),
    () => void rig.fe.acked(M.VHOST_USER_SET_VRING_CALL, u64(0), [rig.eventfd()]),
    () => void rig.startRing(1),
    () => void rig.fe.acked(M.VHOST_USER_SET_VRING_ENABLE, vringState(0, 1)),
    () => void rig.fe.acked(M.VHOST_USER_SET_VRING_KICK, u64(0x101)),
    () => void rig.fe.ask(M.VHOST_USER_GET_VRING_BASE, vringState(0, 0)),
    () => void rig.fe.acked(M.VHOST_USER_RESET_DEVICE),
  ];
  for (let steps = 0; steps <= 10; steps++) {
    const rig = new Rig(t);
    for (const step of script(rig).slice(0, steps)) step();
    rig.fe.close();
    stepUntil(rig.step, () => rig.port.transport.status().state === 'listening', `the end after ${steps} messages`);
    assert.equal(rig.runtime.loop.activeCount, 0);
    assert.ok(rig.runtime.windows.windows.every((w) => !w.inUse));
    rig.close();
  }
});

test('a guest that is killed in the middle of a message leaves nothing behind', (t) => {
  const table = memoryTable([region]);
  const message = Buffer.concat([Uint8Array.of(5, 0, 0, 0, 1, 0, 0, 0, table.length, 0, 0, 0), table]);
  for (let cut = 1; cut < message.length; cut += 3) {
    const rig = new Rig(t);
    rig.fe.sync();
    rig.fe.sendBytes(message.subarray(0, cut), [rig.memory()]);
    rig.steps(3);
    assert.equal(rig.port.transport.status().state, 'connected');
    rig.fe.close();
    stepUntil(rig.step, () => rig.port.transport.status().state === 'listening', `the end after ${cut} bytes`);
    assert.match(rig.warnings().join(), new RegExp(`closed in the middle of a message, after ${cut} bytes`));
    rig.close();
  }
});

test('a message may come byte by byte, its descriptor with any of them', (t) => {
  const address = ringAt(0);
  for (const [request, payload, wantsFd] of [
    [M.VHOST_USER_SET_VRING_ADDR, address, false],
    [M.VHOST_USER_SET_VRING_CALL, u64(0), true],
  ] as const) {
    const rig = new Rig(t);
    const message = Buffer.concat([Uint8Array.of(request, 0, 0, 0, 9, 0, 0, 0, payload.length, 0, 0, 0), payload]);
    const fdAt = wantsFd ? message.length - 3 : -1;
    message.forEach((byte, i) => {
      rig.fe.sendBytes(Uint8Array.of(byte), i === fdAt ? [rig.eventfd()] : []);
      rig.step();
    });
    const reply = rig.fe.receive();
    assert.equal(reply?.request, request);
    assert.equal(reply?.u64(0), 0n);
    rig.close();
  }
});

test('messages sent in one piece are taken apart, each with its own descriptors', (t) => {
  const rig = new Rig(t);
  const one = (request: number, payload: Uint8Array) =>
    Buffer.concat([Uint8Array.of(request, 0, 0, 0, 1, 0, 0, 0, payload.length, 0, 0, 0), payload]);
  rig.fe.sendBytes(one(M.VHOST_USER_SET_VRING_NUM, vringState(0, 64)));
  rig.fe.sendBytes(one(M.VHOST_USER_SET_VRING_CALL, u64(0)), [rig.eventfd()]);
  rig.fe.sendBytes(one(M.VHOST_USER_SET_VRING_CALL, u64(1)), [rig.eventfd()]);
  rig.fe.sendBytes(
    Buffer.concat([one(M.VHOST_USER_NET_SET_MTU, u64(1400)), one(M.VHOST_USER_SET_VRING_NUM, vringState(1, 128))]),
  );
  rig.fe.sync();
  assert.equal(rig.device.queue(0).size, 64);
  assert.equal(rig.device.queue(1).size, 128);
  assert.ok(rig.device.queue(0).notify && rig.device.queue(1).notify);
  assert.equal(rig.device.mtu, 1400);
});

test('many guests one after the other leave no descriptor, no window range, no active poller', (t) => {
  const fabric = new TestFabric(t);
  const port = fabric.nic('vm1');
  for (let i = 0; i < 50; i++) {
    const guest = fabric.guest(port, { style: (['qemu', 'uml', 'dpdk', 'plain'] as const)[i % 4]! });
    guest.transmit(new Uint8Array(60));
    guest.close();
    stepUntil(fabric.step, () => port.transport.status().state === 'listening', 'the connection ends');
  }
  assert.deepEqual(port.transport.status().memory, { regions: 0, bytes: 0, unshared: 0, sealed: true });
});
