/** Guest memory that the client does not share: DMA_READ and DMA_WRITE, message by message. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DmaRig, pattern } from '../../../support/dma-rig.js';
import { bytes, CMD, dmaMap, F_REPLY } from '../../../support/vfio-user-client.js';

test('a DMA_READ asks for an address and a count, and what comes goes into the copy', (t) => {
  const rig = new DmaRig(t);
  pattern(rig.ram.u8.subarray(0x2345, 0x2345 + 100));
  const over = rig.fetch(0x2345, 100);
  rig.run();
  assert.deepEqual(over, [true]);
  assert.equal(rig.ram.requests.length, 1);
  const { message } = rig.ram.requests[0]!;
  assert.deepEqual(message.subarray(2), bytes((CMD.DMA_READ << 16) >>> 0, 32, 0, 0, 0x2345n, 100n).subarray(2));
  assert.deepEqual(rig.copy(0x2345, 100), rig.ram.u8.subarray(0x2345, 0x2345 + 100));
});

test('a DMA_WRITE carries an address, a count and the bytes', (t) => {
  const rig = new DmaRig(t);
  const data = pattern(Buffer.alloc(77));
  const over = rig.store(0x3001, data);
  rig.run();
  assert.deepEqual(over, [true]);
  const { message } = rig.ram.requests[0]!;
  const head = bytes((CMD.DMA_WRITE << 16) >>> 0, 32 + 77, 0, 0, 0x3001n, 77n);
  assert.deepEqual(message.subarray(2), Buffer.concat([head, data]).subarray(2));
  assert.deepEqual(rig.ram.u8.subarray(0x3001, 0x3001 + 77), data);
});

test('a read with a place of its own leaves the copy as it is', (t) => {
  const rig = new DmaRig(t);
  pattern(rig.ram.u8.subarray(0, 64));
  const into = Buffer.alloc(64);
  const over = rig.fetchInto(0, into);
  rig.run();
  assert.deepEqual(over, [true]);
  assert.deepEqual(into, rig.ram.u8.subarray(0, 64));
  assert.deepEqual(rig.copy(0, 64), Buffer.alloc(64));
});

for (const [what, payload] of [
  ['the header alone', () => Buffer.alloc(0)],
  ['a count of 4 bytes', () => bytes(0x100n, 8)],
  ['a count of 8 bytes', () => bytes(0x100n, 8n)],
] as const)
  test(`a DMA_WRITE is acknowledged with ${what}`, (t) => {
    const rig = new DmaRig(t);
    rig.ram.onRequest = (request) => [rig.ram.reply(request, { payload: payload() })];
    const over = rig.store(0x100, Buffer.alloc(8, 1));
    rig.run();
    assert.deepEqual(over, [true]);
  });

test('a transfer that the client refuses ends its batch; it is counted, and logged once', (t) => {
  const rig = new DmaRig(t);
  rig.ram.onRequest = (request) => [rig.ram.refusal(request, 14)];
  const first = rig.fetch(0, 16);
  rig.run();
  const second = rig.store(0x1000, Buffer.alloc(16));
  rig.run();
  assert.deepEqual([first, second], [[false], [false]]);
  assert.equal(rig.count('dma_refused'), 2);
  assert.equal(rig.warnings().filter((w) => /DMA_READ of 16 bytes at 0x0: .*EFAULT/.test(w)).length, 1);
  assert.equal(rig.warnings().filter((w) => /refused it/.test(w)).length, 1);
  rig.vm.sync();
});

test('a region without a descriptor that may only be read is never written', (t) => {
  const rig = new DmaRig(t);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0x8000000, 0x1000, 0, 1));
  rig.vm.sync();
  assert.deepEqual(rig.store(0x8000000, Buffer.alloc(16)), [true]);
  rig.run();
  assert.deepEqual(rig.ram.requests, []);
});

test('a region that may not be read is not reachable', (t) => {
  const rig = new DmaRig(t);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0x8000000, 0x1000, 0, 2));
  rig.vm.read32(0, 0);
  assert.ok(!rig.remote.map.isRemote(0x8000000));
});

test('what is transferred is counted', (t) => {
  const rig = new DmaRig(t);
  rig.fetch(0, 100);
  rig.fetch(0x100, 28);
  rig.store(0x200, Buffer.alloc(7));
  rig.run();
  const names = ['dma_reads', 'dma_read_bytes', 'dma_writes', 'dma_write_bytes', 'dma_refused'];
  assert.deepEqual(
    names.map((name) => rig.count(name)),
    [2, 128, 1, 7, 0],
  );
});

test('a reply to a request that was never made ends the connection', (t) => {
  const rig = new DmaRig(t);
  rig.fetch(0, 16);
  rig.run();
  rig.vm.send(CMD.DMA_READ, bytes(0n, 16n, 0n, 0n), { flags: F_REPLY, id: 0x7777 });
  rig.vm.receive();
  assert.ok(rig.vm.endsHere());
  assert.match(rig.warnings().join('\n'), /DMA_READ: a reply to a request that was not made/);
});
