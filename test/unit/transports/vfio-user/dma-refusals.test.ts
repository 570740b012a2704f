/** Clients that refuse transfers, and clients whose replies are wrong. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openFdCount } from '../../../../src/sys/fd.js';
import { DMA_RIG_BYTES, DmaRig } from '../../../support/dma-rig.js';
import { bytes, CMD, dmaMap, F_ERROR, F_NO_REPLY, F_REPLY } from '../../../support/vfio-user-client.js';
import type { DmaRequest } from '../../../support/vfio-user-memory.js';

const longest = 32768;

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

test('a refusal may come without an errno, with one that does not exist, and with the request behind it', (t) => {
  const rig = new DmaRig(t);
  const refusals = [
    { errno: 0 },
    { errno: 0xffffffff },
    { errno: 19, payload: bytes(0n, 16n) },
    { errno: 5, flags: F_REPLY | F_ERROR | F_NO_REPLY },
  ];
  for (const { flags = F_REPLY | F_ERROR, ...parts } of refusals) {
    rig.ram.onRequest = (request) => [rig.ram.reply(request, { ...parts, flags })];
    const over = rig.fetch(0, 16);
    rig.run();
    assert.deepEqual(over, [false]);
  }
  assert.match(rig.warnings().join('\n'), /the client refused it: it does not say why/);
});

test('of a batch of which something is refused the rest is not sent; it is over when what was sent is answered', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  const data = Buffer.alloc(3 * longest, 1);
  const over = rig.submit(
    (batch) => rig.remote.store(batch, 0, 10),
    (batch) => {
      rig.copy(0x1000, data.length).set(data);
      return rig.remote.store(batch, 0x1000, data.length);
    },
  );
  const other = rig.fetch(0x100, 8);
  rig.run();
  const [first, second] = rig.ram.requests.splice(0);
  rig.vm.sendBytes(rig.ram.refusal(first!, 19));
  rig.run();
  assert.deepEqual(over, []);
  assert.deepEqual(
    rig.ram.requests.map(({ gpa }) => gpa),
    [0x100],
    'another batch goes on',
  );
  rig.vm.sendBytes(rig.ram.right(second!));
  rig.run();
  assert.deepEqual(over, [false]);
  assert.deepEqual(other, []);
  rig.vm.sendBytes(rig.ram.right(rig.ram.requests[0]!));
  rig.run();
  assert.deepEqual(other, [true]);
  assert.equal(rig.ram.requests.length, 1);
});

test('a client that refuses some of many transfers gets the others done', (t) => {
  const rig = new DmaRig(t);
  rig.ram.onRequest = (request) => [request.gpa % 3 === 0 ? rig.ram.refusal(request, 14) : rig.ram.right(request)];
  const all = Array.from({ length: 300 }, (_, i) => rig.fetch(i, 1));
  rig.vm.serveUntil(() => all.every((over) => over.length > 0), 'all of them are over');
  assert.ok(all.every(([ok], i) => ok === (i % 3 !== 0)));
  assert.equal(rig.count('dma_refused'), 100);
});

// ---- replies that fit no request ----

interface WrongReply {
  rule: string;
  /** what is asked of the client: 16 bytes at 0x100; a read unless given */
  asks?: 'write';
  answer: (rig: DmaRig, request: DmaRequest) => readonly Uint8Array[];
  says: RegExp;
}

const wrong: readonly WrongReply[] = [
  {
    rule: 'of another message ID',
    answer: ({ ram }, request) => [
      ram.reply(request, { id: request.id ^ 0x8000, payload: bytes(0x100n, 16n, 0n, 0n) }),
    ],
    says: /DMA_READ: a reply to a request that was not made/,
  },
  {
    rule: 'of another command',
    answer: ({ ram }, request) => [ram.reply(request, { command: CMD.DMA_WRITE, payload: bytes(0x100n, 16) })],
    says: /DMA_WRITE: a reply to a request that was not made/,
  },
  {
    rule: 'to a command that is never sent',
    answer: ({ ram }, request) => [ram.reply(request, { command: CMD.REGION_READ })],
    says: /REGION_READ: a reply to a request that was not made/,
  },
  {
    rule: 'that comes twice',
    answer: ({ ram }, request) => [ram.right(request), ram.right(request)],
    says: /DMA_READ: a reply to a request that was not made/,
  },
  {
    rule: 'that comes twice, refused and granted',
    answer: ({ ram }, request) => [ram.refusal(request, 14), ram.right(request)],
    says: /DMA_READ: a reply to a request that was not made/,
  },
  {
    rule: 'for another address',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(0x101n, 16n, 0n, 0n) })],
    says: /DMA_READ: a reply for 0x101 to a request for 0x100/,
  },
  {
    rule: 'for an address that no machine has',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(-1n, 16n, 0n, 0n) })],
    says: /DMA_READ: a reply for 0xffffffffffffffff to a request for 0x100/,
  },
  {
    rule: 'with another count',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(0x100n, 15n, 0n, 0n) })],
    says: /DMA_READ: a reply with 15 bytes to a request for 16/,
  },
  {
    rule: 'with a count whose upper half is not zero',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(0x100n, (1n << 32n) + 16n, 0n, 0n) })],
    says: /DMA_READ: a reply with 4294967312 bytes to a request for 16/,
  },
  {
    rule: 'with fewer bytes than its count',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(0x100n, 16n, 0n, 0) })],
    says: /DMA_READ: a reply of 44 bytes to a request for 16/,
  },
  {
    rule: 'with more bytes than its count',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(0x100n, 16n, 0n, 0n, 0) })],
    says: /DMA_READ: a reply of 52 bytes to a request for 16/,
  },
  {
    rule: 'without any data',
    answer: ({ ram }, request) => [ram.reply(request)],
    says: /DMA_READ: a reply of 16 bytes to a request for 16/,
  },
  {
    rule: 'with part of a count',
    asks: 'write',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(0x100n) })],
    says: /DMA_WRITE: a reply of 24 bytes to a request for 16/,
  },
  {
    rule: 'to a write, with its data',
    asks: 'write',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(0x100n, 16n, 0n, 0n) })],
    says: /DMA_WRITE: a reply of 48 bytes to a request for 16/,
  },
  {
    rule: 'to a write, of another address',
    asks: 'write',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(0x108n, 16) })],
    says: /DMA_WRITE: a reply for 0x108 to a request for 0x100/,
  },
  {
    rule: 'to a write, with a part of its count',
    asks: 'write',
    answer: ({ ram }, request) => [ram.reply(request, { payload: bytes(0x100n, 8) })],
    says: /DMA_WRITE: a reply with 8 bytes to a request for 16/,
  },
  {
    rule: 'of a type that does not exist',
    answer: ({ ram }, request) => [ram.reply(request, { flags: 2 })],
    says: /DMA_READ: message type 2 does not exist/,
  },
  {
    rule: 'that says it is longer than any',
    answer: ({ ram }, request) => [ram.reply(request, { size: 131105 })],
    says: /DMA_READ: a message of 131105 bytes/,
  },
  {
    rule: 'that says it is shorter than its header',
    answer: ({ ram }, request) => [ram.reply(request, { size: 12 })],
    says: /DMA_READ: a message of 12 bytes/,
  },
];

for (const { rule, asks, answer, says } of wrong)
  test(`a reply ${rule} ends the connection, and its bytes go nowhere`, (t) => {
    const rig = new DmaRig(t);
    rig.copy(0x100, 32).fill(0xcc);
    const before = openFdCount();
    rig.ram.onRequest = (request) => answer(rig, request);
    const over = asks === 'write' ? rig.store(0x100, Buffer.alloc(16, 0xcc)) : rig.fetch(0x100, 16);
    const { remote } = rig;
    rig.run();
    assert.equal(rig.port.transport.status().state, 'listening');
    assert.match(rig.warnings().join('\n'), says);
    assert.ok(over.length === 0 || /twice/.test(rule), 'no batch is over with a wrong reply');
    assert.equal(rig.mappings(), 0);
    assert.equal(openFdCount(), before - 1, 'the socket of the connection is closed');
    assert.equal(remote.map.isRemote(0x100), false);
    const next = rig.vfioClient(rig.port.path);
    next.version();
    next.sync();
  });

test('a reply with descriptors ends the connection, and they are closed', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  const over = rig.fetch(0, 16);
  rig.run();
  const fds = [rig.eventfd(), rig.memory(4096)];
  const before = openFdCount();
  rig.vm.sendBytes(rig.ram.right(rig.ram.requests[0]!), fds);
  rig.run();
  assert.match(rig.warnings().join('\n'), /DMA_READ: descriptors came with a reply/);
  assert.deepEqual(over, []);
  assert.equal(openFdCount(), before - 1);
});

test('a reply before VERSION is one to nothing', (t) => {
  const rig = new DmaRig(t);
  rig.vm.close();
  rig.steps(20);
  const early = rig.vfioClient(rig.port.path);
  early.send(CMD.DMA_READ, bytes(0n, 16n, 0n, 0n), { flags: F_REPLY, id: 1 });
  early.receive();
  assert.ok(early.endsHere());
  assert.match(rig.warnings().join('\n'), /DMA_READ: a reply to a request that was not made/);
});

test('a reply to what an earlier connection asked for ends this one', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  rig.fetch(0, 16);
  rig.run();
  rig.vm.close();
  rig.steps(20);
  const next = rig.vfioClient(rig.port.path);
  next.version();
  next.get(CMD.DMA_MAP, dmaMap(0, DMA_RIG_BYTES));
  next.sendBytes(rig.ram.right(rig.ram.requests[0]!));
  next.receive();
  assert.ok(next.endsHere());
});

test('a reply that is cut off at any byte by a hang-up leaves nothing, and calls nobody', (t) => {
  for (let cut = 1; cut < 48; cut += 3) {
    const rig = new DmaRig(t);
    rig.ram.hold();
    const over = rig.fetch(0x100, 16);
    rig.run();
    rig.vm.sendBytes(rig.ram.right(rig.ram.requests[0]!).subarray(0, cut));
    rig.run(3);
    rig.vm.close();
    rig.steps(10);
    assert.deepEqual(over, []);
    assert.equal(rig.mappings(), 0);
    rig.close();
  }
});

test('a reply that comes byte by byte is one', (t) => {
  const rig = new DmaRig(t);
  rig.ram.hold();
  rig.ram.u8.write('a frame, perhaps', 0x100);
  const over = rig.fetch(0x100, 16);
  rig.run();
  for (const byte of rig.ram.right(rig.ram.requests[0]!)) {
    assert.deepEqual(over, []);
    rig.vm.sendBytes(Buffer.of(byte));
    rig.steps(2);
  }
  assert.deepEqual(over, [true]);
  assert.equal(rig.copy(0x100, 16).toString(), 'a frame, perhaps');
});
