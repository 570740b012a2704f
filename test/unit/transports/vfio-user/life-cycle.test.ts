/** Clients come, go, die at any moment and come again; several have a NIC each. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { openFdCount } from '../../../../src/sys/fd.js';
import { accept, listenUnix } from '../../../../src/sys/socket.js';
import { StubPciFunction } from '../../../support/stub-pci-function.js';
import { bytes, CMD, dmaMap, IRQ, irqSet, VfioUserClient, versionPayload } from '../../../support/vfio-user-client.js';
import { VfioFabric, VfioRig } from '../../../support/vfio-user-rig.js';
import { stepUntil } from '../../../support/vhost-user-client.js';

const MEMORY = 1 << 20;

/** Everything that a client sets up. */
function setUp(rig: VfioFabric, vm: VfioUserClient): void {
  vm.version();
  vm.get(CMD.DMA_MAP, dmaMap(0, MEMORY), { fds: [rig.memory(MEMORY)] });
  vm.get(CMD.DMA_MAP, dmaMap(0xfffc0000, 0x40000, 0, 1));
  vm.get(CMD.DEVICE_SET_IRQS, irqSet(IRQ.EVENTFD | IRQ.TRIGGER, 0, 0, 1), { fds: [rig.eventfd()] });
  vm.get(CMD.DEVICE_SET_IRQS, irqSet(IRQ.EVENTFD | IRQ.UNMASK, 0, 0, 1), { fds: [rig.eventfd()] });
  vm.get(CMD.DEVICE_SET_IRQS, irqSet(IRQ.EVENTFD | IRQ.TRIGGER, 2, 0, 3), {
    fds: [rig.eventfd(), rig.eventfd(), rig.eventfd()],
  });
  vm.write32(0, 0x100, 7);
}

test('a client that goes leaves nothing: descriptors, memory, interrupts; the next one starts anew', (t) => {
  const rig = new VfioRig(t, { negotiated: false });
  setUp(rig, rig.vm);
  const ranges = () => rig.runtime.windows.windows.reduce((n, w) => n + w.rangeCount, 0);
  assert.ok(ranges() > 0);
  rig.vm.close();
  rig.steps(20);
  assert.equal(ranges(), 0);
  assert.equal(rig.fn.events.at(-1), 'detach');
  assert.equal(rig.port.transport.status().state, 'listening');
  const next = rig.vfioClient(rig.port.path);
  setUp(rig, next);
  assert.equal(rig.fn.events.filter((e) => e === 'attach').length, 2);
  assert.equal(next.errno(CMD.DMA_UNMAP, bytes(24, 0, 0x1000n, 0x1000n)), 22);
});

test('a client that dies after any number of bytes leaves nothing, and the next one is served', (t) => {
  const rig = new VfioFabric(t);
  const fn = new StubPciFunction();
  const { path } = rig.serveFunction(fn, 'nic');
  const fd = rig.memory(MEMORY);
  const message = (command: number, payload: Uint8Array) =>
    Buffer.concat([bytes(command << 16, 16 + payload.length, 0, 0), payload]);
  const stream = Buffer.concat([
    message(CMD.VERSION, versionPayload()),
    message(CMD.DMA_MAP, dmaMap(0, MEMORY)),
    message(CMD.REGION_WRITE, bytes(0n, 0, 4, 1)),
    message(CMD.DEVICE_RESET, new Uint8Array(0)),
  ]);
  const before = openFdCount();
  for (let cut = 0; cut <= stream.length; cut += 3) {
    const client = VfioUserClient.connect(path, rig.step);
    // the descriptor travels with the first bytes: that is one too many for VERSION in some of these
    client.sendBytes(stream.subarray(0, cut), cut % 2 === 0 ? [fd] : []);
    rig.steps(3);
    client.close();
    rig.steps(5);
    assert.equal(openFdCount(), before, `after ${cut} bytes`);
  }
  const last = rig.vfioClient(path);
  last.version();
  last.sync();
});

test('the next client waits until the present one goes', (t) => {
  const rig = new VfioRig(t);
  const second = rig.vfioClient(rig.port.path);
  second.send(CMD.VERSION, versionPayload());
  rig.steps(20);
  rig.vm.sync();
  rig.vm.close();
  assert.equal(second.receive()?.command, CMD.VERSION);
  second.sync();
});

test('several clients have a NIC each, and what one does the others do not notice', (t) => {
  const rig = new VfioFabric(t);
  const nics = [0, 1, 2].map((i) => {
    const fn = new StubPciFunction();
    const { path } = rig.serveFunction(fn, `nic${i}`);
    const vm = rig.vfioClient(path);
    vm.version();
    return { fn, vm };
  });
  nics.forEach(({ vm }, i) => {
    vm.write32(0, 0, i);
  });
  nics[1]!.vm.send(CMD.DEVICE_RESET, undefined, { size: 3 });
  assert.equal(nics[1]!.vm.receive()?.errno, 22);
  assert.ok(nics[1]!.vm.endsHere());
  for (const i of [0, 2]) assert.equal(nics[i]!.vm.read32(0, 0), i);
});

test('closing the transport ends the connection and removes the path', (t) => {
  const rig = new VfioRig(t, { negotiated: false });
  setUp(rig, rig.vm);
  rig.port.transport.close();
  assert.ok(rig.vm.endsHere());
  assert.ok(!existsSync(rig.port.path));
  assert.equal(rig.fn.events.at(-1), 'detach');
  assert.equal(rig.port.transport.status().state, 'closed');
  rig.port.transport.close();
});

test('in client mode it connects as soon as somebody listens, and again after that one has gone', (t) => {
  const rig = new VfioFabric(t);
  const path = join(rig.dir, 'client.sock');
  const { transport } = rig.serveFunction(new StubPciFunction(), 'nic', { path, mode: 'client' });
  assert.equal(transport.status().state, 'connecting');
  for (let round = 0; round < 2; round++) {
    const listener = listenUnix(path);
    const accepted: VfioUserClient[] = [];
    stepUntil(
      () => rig.runtime.loop.step(1),
      () => {
        const socket = accept(listener.number);
        if (socket) accepted.push(new VfioUserClient(socket, rig.step));
        return accepted.length > 0;
      },
      'a connection',
    );
    const vm = accepted[0]!;
    vm.version();
    vm.sync();
    vm.close();
    listener.close();
    rig.steps(20);
  }
  assert.equal(transport.status().state, 'connecting');
});

test('show tells what was agreed on and what is mapped', (t) => {
  const rig = new VfioRig(t, { negotiated: false });
  assert.deepEqual(rig.port.transport.status().protocolFeatures, []);
  setUp(rig, rig.vm);
  const { state, peerPid, protocolFeatures, memory } = rig.port.transport.status();
  assert.equal(state, 'connected');
  assert.equal(peerPid, process.pid);
  assert.ok(protocolFeatures.includes('write_multiple'));
  assert.deepEqual(memory, { regions: 2, bytes: MEMORY + 0x40000, unshared: 0, sealed: true });
  rig.vm.get(CMD.DMA_MAP, dmaMap(0x10000000, 0x4000));
  assert.equal(rig.port.transport.status().memory.unshared, 0x4000);
});
