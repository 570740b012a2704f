/** Guest memory that the client does not share: DMA_READ and DMA_WRITE, message by message. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DMA_RIG_BYTES, DmaRig, pattern } from '../../../support/dma-rig.js';
import { bytes, CMD, dmaMap, dmaUnmap, F_NO_REPLY } from '../../../support/vfio-user-client.js';
import type { DmaRequest } from '../../../support/vfio-user-memory.js';

/** [address, bytes] of each */
const places = (requests: readonly DmaRequest[]) => requests.map(({ gpa, count }) => [gpa, count]);
const lengths = (requests: readonly DmaRequest[]) => requests.map(({ count }) => count);

test('that memory is not shared is noted once, with what helps, when something is transferred', (t) => {
  const rig = new DmaRig(t, { fresh: true });
  const notes = () =>
    rig.warnings().filter((w) => /by messages: that is slower than a memory backend with share=on/.test(w));
  assert.equal(notes().length, 0, 'a display has memory of its own');
  for (const at of [0, 8192]) {
    const over = rig.fetch(at, 4096);
    rig.vm.serveUntil(() => over.length === 1, 'the read is answered');
  }
  assert.equal(notes().length, 1);
});

test('a DMA_READ asks for an address and a count, and what comes goes into the copy', (t) => {
  const rig = new DmaRig(t);
  pattern(rig.ram.u8.subarray(0x2345, 0x2345 + 100));
  const over = rig.fetch(0x2345, 100);
  rig.run();
  assert.deepEqual(over, [true]);
  assert.equal(rig.ram.requests.length, 1);
  const { message } = rig.ram.requests[0]!;
  assert.deepEqual(message.subarray(2), bytes(CMD.DMA_READ << 16, 32, 0, 0, 0x2345n, 100n).subarray(2));
  assert.deepEqual(rig.copy(0x2345, 100), rig.ram.u8.subarray(0x2345, 0x2345 + 100));
});

test('a DMA_WRITE carries an address, a count and the bytes', (t) => {
  const rig = new DmaRig(t);
  const data = pattern(Buffer.alloc(77));
  const over = rig.store(0x3001, data);
  rig.run();
  assert.deepEqual(over, [true]);
  assert.equal(rig.ram.requests.length, 1);
  const { message } = rig.ram.requests[0]!;
  const head = bytes(CMD.DMA_WRITE << 16, 32 + 77, 0, 0, 0x3001n, 77n);
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

test('an address beyond 4 GiB is asked for whole', (t) => {
  const rig = new DmaRig(t);
  const gpa = 2 ** 40 + 0x1000;
  rig.vm.get(CMD.DMA_MAP, dmaMap(gpa, 0x1000));
  rig.vm.sync();
  rig.ram.onRequest = (request) => {
    assert.equal(request.gpa, gpa + 8);
    return [rig.ram.reply(request, { payload: bytes(BigInt(gpa + 8), 4n, 0x11223344) })];
  };
  const over = rig.fetch(gpa + 8, 4);
  rig.run();
  assert.deepEqual(over, [true]);
  assert.equal(rig.copy(gpa + 8, 4).readUInt32LE(0), 0x11223344);
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

// ---- regions ----

test('a region without a descriptor that may only be read is never written', (t) => {
  const rig = new DmaRig(t);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0x8000000, 0x1000, 0, 1));
  rig.vm.sync();
  assert.deepEqual(rig.store(0x8000000, Buffer.alloc(16, 1)), [true]);
  rig.run();
  assert.deepEqual(rig.ram.requests, []);
  assert.deepEqual(rig.copy(0x8000000, 16), Buffer.alloc(16, 1));
});

test('a region that may not be read is not reachable', (t) => {
  const rig = new DmaRig(t);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0x8000000, 0x1000, 0, 2));
  rig.vm.read32(0, 0);
  assert.ok(!rig.remote.map.isRemote(0x8000000));
});

test('memory without descriptors is reachable up to 128 GiB, and what is beyond is known', (t) => {
  const rig = new DmaRig(t);
  const gib = 2 ** 30;
  rig.vm.get(CMD.DMA_MAP, dmaMap(256 * gib, 127 * gib));
  rig.vm.get(CMD.DMA_MAP, dmaMap(2 ** 52, 2 ** 52 - 1));
  rig.vm.get(CMD.DMA_MAP, dmaMap(1024 * gib, gib));
  rig.vm.get(CMD.DMA_MAP, dmaMap(1025 * gib, gib - DMA_RIG_BYTES));
  rig.vm.read32(0, 0);
  const reached = [0, 256 * gib, 383 * gib - 1, 2 ** 52, 1024 * gib, 1025 * gib];
  assert.deepEqual(
    reached.map((gpa) => rig.remote.map.isRemote(gpa)),
    [true, true, true, false, false, true],
  );
  assert.equal(rig.warnings().filter((w) => /more than 128 GiB/.test(w)).length, 1);
  rig.vm.get(CMD.DMA_UNMAP, dmaUnmap(2 ** 52, 2 ** 52 - 1));
  rig.vm.get(CMD.DMA_UNMAP, dmaUnmap(256 * gib, 127 * gib));
  rig.vm.get(CMD.DMA_MAP, dmaMap(300 * gib, gib));
  rig.vm.read32(0, 0);
  assert.ok(rig.remote.map.isRemote(300 * gib));
});

test('a batch in memory of both kinds asks for what is not shared only', (t) => {
  const rig = new DmaRig(t);
  rig.vm.get(CMD.DMA_MAP, dmaMap(DMA_RIG_BYTES, 0x1000), { fds: [rig.memory(0x1000)] });
  rig.vm.sync();
  const over = rig.fetch(DMA_RIG_BYTES - 16, 32);
  rig.run();
  assert.deepEqual(over, [true]);
  assert.deepEqual(places(rig.ram.requests), [[DMA_RIG_BYTES - 16, 16]]);
});

test('a batch in shared memory alone is over at once', (t) => {
  const rig = new DmaRig(t);
  rig.vm.get(CMD.DMA_MAP, dmaMap(DMA_RIG_BYTES, 0x1000), { fds: [rig.memory(0x1000)] });
  rig.vm.sync();
  assert.deepEqual(rig.fetch(DMA_RIG_BYTES, 32), [true]);
});

// ---- messages of a length ----

const longest = 32768;
const pieces: readonly (readonly [string, object | undefined, number])[] = [
  ["QEMU's limit, which is more than ours", undefined, longest],
  ['nothing of it: 1 MiB', { max_msg_fds: 16 }, longest],
  ['4 GiB', { max_data_xfer_size: 2 ** 32 - 1 }, longest],
  ['no more than we send', { max_data_xfer_size: longest }, longest],
  ['a little less than we send', { max_data_xfer_size: longest - 1 }, longest - 1],
  ['an odd number', { max_data_xfer_size: 1001 }, 1001],
  ['three', { max_data_xfer_size: 3 }, 3],
];

for (const [says, capabilities, limit] of pieces)
  test(`a client that says ${says} gets ${limit} bytes a message at most`, (t) => {
    const rig = new DmaRig(t, { ...(capabilities && { capabilities }) });
    const length = limit * 5 + 2;
    const parts = [...Array(5).fill(limit), 2];
    pattern(rig.ram.u8.subarray(7, 7 + length));
    const read = rig.fetch(7, length);
    rig.vm.serveUntil(() => read.length > 0, 'the read is over');
    assert.deepEqual(lengths(rig.ram.requests), parts);
    assert.ok(rig.copy(7, length).equals(rig.ram.u8.subarray(7, 7 + length)));
    rig.ram.requests.length = 0;
    const data = pattern(Buffer.alloc(length)).reverse();
    const written = rig.store(0x40000, data);
    rig.vm.serveUntil(() => written.length > 0, 'the write is over');
    assert.deepEqual(lengths(rig.ram.requests), parts);
    assert.ok(data.equals(rig.ram.u8.subarray(0x40000, 0x40000 + length)));
    assert.deepEqual([read, written], [[true], [true]]);
  });

test('a client that takes one byte a message gets one byte a message', (t) => {
  const rig = new DmaRig(t, { capabilities: { max_data_xfer_size: 1 } });
  pattern(rig.ram.u8.subarray(0, 200));
  const into = Buffer.alloc(200);
  const over = rig.fetchInto(0, into);
  rig.vm.serveUntil(() => over.length > 0, 'the read is over');
  assert.equal(rig.ram.requests.length, 200);
  assert.deepEqual(into, rig.ram.u8.subarray(0, 200));
});

// ---- the two layouts of QEMU ----

for (const shortCount of [false, true]) {
  const which = shortCount ? 'behind a count of 4 bytes' : 'where the specification has them';
  test(`data ${which} are found, also where the first ones are zeros`, (t) => {
    for (const [zeros, then] of [
      [0, 100],
      [3, 1],
      [4, 1],
      [5, 200],
      [37, 1],
      [400, 100],
    ] as const) {
      const rig = new DmaRig(t, { fresh: true });
      rig.ram.shortCount = shortCount;
      pattern(rig.ram.u8.subarray(zeros, zeros + then));
      const first = rig.fetch(0, 600);
      rig.vm.serveUntil(() => first.length > 0, 'the first read is over');
      assert.deepEqual(rig.copy(0, 600), rig.ram.u8.subarray(0, 600), `${zeros} zeros, then ${then} bytes`);
      const data = pattern(Buffer.alloc(99));
      const written = rig.store(0x5001, data);
      rig.run();
      assert.deepEqual([first, written], [[true], [true]]);
      assert.deepEqual(rig.ram.u8.subarray(0x5000, 0x5001 + 100), Buffer.concat([Buffer.of(0), data, Buffer.of(0)]));
      const into = Buffer.alloc(1);
      rig.fetchInto(0x5002, into);
      rig.run();
      assert.equal(into[0], data[1]);
      rig.close();
    }
  });
}

// ---- order ----

test('requests go out in the order in which they were asked for', (t) => {
  const rig = new DmaRig(t);
  rig.submit(
    (batch) => rig.remote.fetch(batch, 0x300, 1),
    (batch) => rig.remote.store(batch, 0x200, 2),
  );
  rig.fetch(0x100, 3);
  rig.run();
  assert.deepEqual(places(rig.ram.requests), [
    [0x300, 1],
    [0x200, 2],
    [0x100, 3],
  ]);
});

test('replies may come in any order; a batch is over when all of it has been answered', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  pattern(rig.ram.u8.subarray(0, 0x1000));
  const first = rig.submit(
    (batch) => rig.remote.fetch(batch, 0, 0x100),
    (batch) => rig.remote.store(batch, 0x800, 0x100),
    (batch) => rig.remote.fetch(batch, 0x200, 0x100),
  );
  const second = rig.fetch(0x400, 0x100);
  rig.run();
  const [a, b, c, d] = rig.ram.requests;
  const answer = (request: DmaRequest | undefined) => {
    rig.vm.sendBytes(rig.ram.right(request!));
    rig.run();
    return [first.length, second.length];
  };
  assert.deepEqual(answer(c), [0, 0]);
  assert.deepEqual(answer(d), [0, 1]);
  assert.deepEqual(answer(b), [0, 1]);
  assert.deepEqual(answer(a), [1, 1]);
  assert.deepEqual(rig.copy(0, 0x100), rig.ram.u8.subarray(0, 0x100));
  assert.deepEqual(rig.copy(0x200, 0x100), rig.ram.u8.subarray(0x200, 0x300));
});

test('what is asked for when a batch is over follows at once', (t) => {
  const rig = new DmaRig(t);
  const chain: number[] = [];
  const next = (left: number): void => {
    const batch = rig.batch((b) => rig.remote.fetch(b, left * 16, 16));
    rig.remote.submit(batch, (ok) => {
      assert.ok(ok);
      chain.push(left);
      if (left > 0) next(left - 1);
    });
  };
  next(5);
  assert.deepEqual(chain, [], 'nothing is over before submit returns');
  rig.run();
  assert.deepEqual(chain, [5, 4, 3, 2, 1, 0]);
});

// ---- bounds ----

test('at most 32 messages are under way; more wait until one is answered', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  for (let i = 0; i < 100; i++) rig.fetch(i * 64, 16);
  rig.run();
  assert.equal(rig.ram.requests.length, 32);
  for (const request of rig.ram.requests.slice(0, 5)) rig.vm.sendBytes(rig.ram.right(request));
  rig.run();
  assert.equal(rig.ram.requests.length, 37);
});

test('at most 64 KiB are under way', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  rig.fetch(0, 1);
  rig.fetch(0, 4 * longest);
  rig.store(0, Buffer.alloc(100));
  rig.run();
  assert.deepEqual(lengths(rig.ram.requests), [1, longest]);
  rig.vm.sendBytes(rig.ram.right(rig.ram.requests[0]!));
  rig.run();
  assert.deepEqual(lengths(rig.ram.requests), [1, longest, longest]);
});

test('a thousand transfers at once are all carried out', (t) => {
  const rig = new DmaRig(t);
  pattern(rig.ram.u8);
  const all = Array.from({ length: 1000 }, (_, i) => {
    const into = Buffer.alloc(1 + ((i * 37) % 1500));
    return { gpa: i * 600, into, over: rig.fetchInto(i * 600, into) };
  });
  rig.vm.serveUntil(() => all.every(({ over }) => over.length > 0), 'all of them are over');
  for (const { gpa, into, over } of all) {
    assert.deepEqual(over, [true]);
    assert.ok(into.equals(rig.ram.u8.subarray(gpa, gpa + into.length)));
  }
});

// ---- registers meanwhile ----

test('registers are served while nothing that was asked for is answered', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  for (let i = 0; i < 50; i++) {
    rig.fetch(0, longest);
    rig.store(0, Buffer.alloc(longest));
  }
  for (let i = 0; i < 100; i++) {
    rig.vm.write32(0, 0x100, i);
    assert.equal(rig.vm.read32(0, 0x100), i);
  }
  assert.equal(rig.ram.requests.length, 2);
});

test('the reply to an access goes before what the access asks of the memory', (t) => {
  const rig = new DmaRig(t);
  rig.vm.memory = undefined;
  rig.fn.writeBar = () => void rig.fetch(0, 16);
  rig.vm.send(CMD.REGION_WRITE, bytes(0n, 0, 4, 1));
  assert.equal(rig.vm.receive()?.command, CMD.REGION_WRITE);
  assert.equal(rig.vm.receive()?.command, CMD.DMA_READ);
});

test('a posted write asks for memory without a reply of its own', (t) => {
  const rig = new DmaRig(t);
  rig.fn.writeBar = () => void rig.fetch(0, 16);
  rig.vm.send(CMD.REGION_WRITE, bytes(0n, 0, 4, 1), { flags: F_NO_REPLY });
  rig.run();
  assert.deepEqual(places(rig.ram.requests), [[0, 16]]);
});

test('while the socket is full registers go before transfers, and nothing is lost', (t) => {
  const rig = new DmaRig(t);
  const whole = 0x20000;
  rig.fn.readBar = (_bar, off) => off;
  // replies of 128 KiB that the client does not read: the second one fits the socket in part
  for (let i = 0; i < 2; i++) rig.vm.send(CMD.REGION_READ, bytes(0n, 0, whole));
  rig.steps(5);
  const over = rig.store(0x100, Buffer.alloc(longest, 7));
  const later = rig.fetch(0, 16);
  const ids = Array.from({ length: 40 }, (_, i) => rig.vm.send(CMD.REGION_READ, bytes(BigInt(4 * i), 0, 4)));
  rig.steps(20);
  assert.deepEqual(rig.ram.requests, []);
  const read = (count: number) => {
    const reply = rig.vm.receive();
    assert.equal(reply?.payload.length, 16 + count);
    return reply;
  };
  for (let i = 0; i < 2; i++) assert.equal(read(whole)?.payload.readUInt32LE(16 + whole - 4), whole - 4);
  for (const [i, id] of ids.entries()) {
    const reply = read(4);
    assert.equal(reply?.id, id);
    assert.equal(reply.payload.readUInt32LE(16), 4 * i);
  }
  rig.run();
  assert.deepEqual([over, later], [[true], [true]]);
  assert.deepEqual(rig.ram.u8.subarray(0x100, 0x100 + longest), Buffer.alloc(longest, 7));
});

test('a client that asks for registers and never reads is closed; what it was asked for is forgotten', (t) => {
  const rig = new DmaRig(t);
  const over = rig.store(0, Buffer.alloc(4 * longest));
  const request = bytes(0x00090001, 32, 0, 0, 0n, 7, 256);
  for (let i = 0; i < 5000 && rig.port.transport.status().state === 'connected'; i++) {
    rig.vm.sendBytes(request);
    rig.step();
  }
  assert.match(rig.warnings().join('\n'), /the client does not read its replies/);
  assert.deepEqual(over, []);
});

test('a client that never answers is left alone, and nothing more is asked of it', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  const over = Array.from({ length: 500 }, (_, i) => rig.store(i, Buffer.alloc(100)));
  rig.run(200);
  assert.equal(rig.port.transport.status().state, 'connected');
  assert.equal(rig.ram.requests.length, 32);
  assert.ok(over.every((outcome) => outcome.length === 0));
});
