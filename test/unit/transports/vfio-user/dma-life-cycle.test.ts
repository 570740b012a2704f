/** Transfers in the middle of which memory goes, the device is reset, or the client hangs up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_RIG_BYTES, DmaRig, pattern } from '../../../support/dma-rig.js';
import { CMD, dmaMap, dmaUnmap } from '../../../support/vfio-user-client.js';
import type { DmaRequest } from '../../../support/vfio-user-memory.js';

/** [address, bytes] of each */
const places = (requests: readonly DmaRequest[]) => requests.map(({ gpa, count }) => [gpa, count]);

const longest = 32768;

test('a region that is unmapped: what arrives for it is dropped, and what waits is not asked for', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  pattern(rig.ram.u8);
  const first = rig.fetch(0, 16);
  const batches = Array.from({ length: 40 }, () => rig.fetch(0x100, 2 * longest));
  rig.run();
  const asked = rig.ram.requests.length;
  rig.vm.get(CMD.DMA_UNMAP, dmaUnmap(0, DMA_RIG_BYTES));
  rig.vm.get(CMD.DMA_MAP, dmaMap(DMA_RIG_BYTES, DMA_RIG_BYTES), { fds: [rig.memory(DMA_RIG_BYTES)] });
  rig.vm.sync();
  // the first of them was sent in part
  assert.deepEqual(
    batches.map((over) => over[0]),
    [undefined, ...Array(39).fill(false)],
  );
  for (const request of rig.ram.requests.splice(0)) rig.vm.sendBytes(rig.ram.right(request));
  rig.run();
  assert.equal(asked, 2);
  assert.deepEqual(rig.ram.requests, []);
  assert.deepEqual([first, batches[0]], [[true], [false]]);
  rig.vm.sync();
});

test('what arrives for a region that has become shared does not touch it', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  pattern(rig.ram.u8);
  const over = rig.fetch(0, 64);
  rig.run();
  rig.vm.get(CMD.DMA_UNMAP, dmaUnmap(0, DMA_RIG_BYTES));
  rig.vm.get(CMD.DMA_MAP, dmaMap(0, DMA_RIG_BYTES), { fds: [rig.memory(DMA_RIG_BYTES)] });
  rig.vm.sync();
  rig.vm.sendBytes(rig.ram.right(rig.ram.requests[0]!));
  rig.run();
  assert.deepEqual(over, [true]);
  assert.deepEqual(rig.copy(0, 64), Buffer.alloc(64));
});

test('other regions come and go without harm to what waits', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  const over = Array.from({ length: 50 }, (_, i) => rig.fetch(i, 16));
  rig.run();
  rig.vm.get(CMD.DMA_MAP, dmaMap(0x8000000, 0x1000));
  rig.vm.get(CMD.DMA_UNMAP, dmaUnmap(0x8000000, 0x1000));
  rig.ram.onRequest = (request) => [rig.ram.right(request)];
  for (const request of [...rig.ram.requests]) rig.vm.sendBytes(rig.ram.right(request));
  rig.run();
  assert.ok(over.every(([ok]) => ok === true));
});

test('a batch that is given up may ask for something else at once', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  for (let i = 0; i < 32; i++) rig.fetch(0, 1);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0x8000000, 0x1000));
  rig.vm.sync();
  const instead: boolean[] = [];
  const lost = rig.batch((batch) => rig.remote.fetch(batch, 0x8000000, 16));
  rig.remote.submit(lost, (ok) => {
    assert.equal(ok, false);
    rig.remote.submit(
      rig.batch((batch) => rig.remote.fetch(batch, 0, 2)),
      (done) => instead.push(done),
    );
  });
  rig.vm.get(CMD.DMA_UNMAP, dmaUnmap(0x8000000, 0x1000));
  for (const request of rig.ram.requests.splice(0)) rig.vm.sendBytes(rig.ram.right(request));
  rig.ram.onRequest = (request) => [rig.ram.right(request)];
  rig.run();
  assert.deepEqual(instead, [true]);
  assert.deepEqual(places(rig.ram.requests), [[0, 2]]);
});

test('a reset: what waits is not sent any more; what is under way may still be answered', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  const over = Array.from({ length: 40 }, (_, i) => rig.store(i, Buffer.alloc(1)));
  rig.run();
  rig.vm.get(CMD.DEVICE_RESET);
  assert.deepEqual(rig.fn.events.at(-1), 'reset');
  assert.ok(
    over.slice(32).every(([ok]) => ok === false),
    'nothing of them was sent',
  );
  for (const request of rig.ram.requests.splice(0)) rig.vm.sendBytes(rig.ram.right(request));
  rig.run();
  assert.deepEqual(rig.ram.requests, []);
  assert.ok(over.slice(0, 32).every(([ok]) => ok === true));
  const again = rig.fetch(0, 16);
  rig.run();
  assert.equal(rig.ram.requests.length, 1);
  rig.vm.sendBytes(rig.ram.right(rig.ram.requests[0]!));
  rig.run();
  assert.deepEqual(again, [true]);
});

test('a client that hangs up in the middle: nothing is over, nothing is left, and the next one is served', (t) => {
  for (const turns of [0, 1, 50]) {
    const rig = new DmaRig(t);
    const before = rig.mappings();
    rig.ram.onRequest = (request) => (request.gpa === 0x2000 ? 'hang up' : [rig.ram.right(request)]);
    const lost = [rig.fetch(0x2000, 16), rig.store(0x3000, Buffer.alloc(longest)), rig.fetch(0, 4 * longest)];
    rig.run(turns);
    rig.vm.close();
    rig.steps(50);
    assert.deepEqual(lost, [[], [], []]);
    assert.ok(rig.mappings() < before);
    assert.equal(rig.fn.memory, undefined);
    const next = rig.vfioClient(rig.port.path);
    next.version();
    next.memory = rig.ram;
    rig.ram.onRequest = (request) => [rig.ram.right(request)];
    next.get(CMD.DMA_MAP, dmaMap(0, DMA_RIG_BYTES));
    next.sync();
    rig.ram.u8[5] = 0x77;
    rig.ram.requests.length = 0;
    const over = rig.fetch(5, 1);
    next.serveUntil(() => over.length > 0, 'the read is over');
    assert.equal(rig.copy(5, 1)[0], 0x77);
    assert.deepEqual(places(rig.ram.requests), [[5, 1]]);
    rig.close();
  }
});

test('closing the transport in the middle of transfers calls nobody', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  const over = [rig.fetch(0, 16), rig.store(0, Buffer.alloc(4 * longest))];
  const { remote } = rig;
  rig.run();
  rig.port.transport.close();
  assert.ok(rig.vm.endsHere());
  const late = rig.batch();
  late.transfers.push({ kind: 'read', gpa: 0, length: 1, bytes: undefined });
  remote.submit(late, () => assert.fail('the connection has ended'));
  assert.deepEqual(over, [[], []]);
  assert.equal(rig.mappings(), 0);
});

test('several clients have a memory each', (t) => {
  const rigs = [0, 1, 2].map(() => new DmaRig(t));
  for (const [i, rig] of rigs.entries()) rig.ram.u8.fill(i + 1);
  const over = rigs.map((rig) => rig.fetch(0, 100));
  for (const rig of rigs) rig.run();
  for (const [i, rig] of rigs.entries()) assert.deepEqual(rig.copy(0, 100), Buffer.alloc(100, i + 1));
  assert.deepEqual(over, [[true], [true], [true]]);
  for (const rig of rigs.reverse()) rig.close();
});
