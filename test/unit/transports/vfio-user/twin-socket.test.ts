/** A second socket for what the server asks of the client's memory: the capability twin_socket. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openFdCount } from '../../../../src/sys/fd.js';
import { DMA_RIG_BYTES, DmaRig, type DmaRigOptions, pattern } from '../../../support/dma-rig.js';
import { bytes, CMD, dmaMap, versionPayload } from '../../../support/vfio-user-client.js';
import { VfioRig } from '../../../support/vfio-user-rig.js';

const TWIN = { max_msg_fds: 1, max_data_xfer_size: 1048576, max_dma_maps: 65535, twin_socket: { supported: true } };
const options: DmaRigOptions = { capabilities: TWIN };

test('VERSION: a client that can have a second socket gets it with the reply', (t) => {
  const rig = new VfioRig(t, { negotiated: false });
  rig.steps(5);
  const before = openFdCount();
  const { payload, fds } = rig.vm.ask(CMD.VERSION, versionPayload({ capabilities: TWIN }));
  const { capabilities } = JSON.parse(payload.subarray(4, -1).toString());
  assert.deepEqual(capabilities.twin_socket, { supported: true, fd_index: 0 });
  assert.equal(fds.length, 1);
  assert.equal(openFdCount(), before + 2, 'an end for each side');
  assert.ok(rig.port.transport.status().protocolFeatures.includes('twin_socket'));
});

for (const [why, capabilities] of [
  ['does not support it', { ...TWIN, twin_socket: { supported: false } }],
  ['does not say that it supports it', { ...TWIN, twin_socket: {} }],
  ['takes no descriptors', { ...TWIN, max_msg_fds: 0 }],
] as const)
  test(`VERSION: a client that ${why} gets no second socket`, (t) => {
    const rig = new VfioRig(t, { negotiated: false });
    rig.steps(5);
    const before = openFdCount();
    const { payload, fds } = rig.vm.ask(CMD.VERSION, versionPayload({ capabilities }));
    assert.ok(!payload.includes('twin_socket'));
    assert.deepEqual([fds.length, openFdCount()], [0, before]);
    rig.vm.sync();
  });

for (const twin of [7, [], { supported: 1 }])
  test(`VERSION with ${JSON.stringify(twin)} as twin_socket is refused and ends the connection`, (t) => {
    const rig = new VfioRig(t, { negotiated: false });
    const payload = versionPayload({ capabilities: { twin_socket: twin } });
    assert.equal(rig.vm.errno(CMD.VERSION, payload), 22);
    assert.ok(rig.vm.endsHere());
    assert.match(rig.warnings().join('\n'), /is not an object|neither true nor false/);
  });

test('requests and replies pass on the second socket, registers on the first', (t) => {
  const rig = new DmaRig(t, options);
  assert.ok(rig.vm.twin);
  pattern(rig.ram.u8);
  const read = rig.fetch(0x123, 100_000);
  rig.vm.serveUntil(() => read.length > 0, 'the read is over');
  assert.ok(rig.copy(0x123, 100_000).equals(rig.ram.u8.subarray(0x123, 0x123 + 100_000)));
  const data = pattern(Buffer.alloc(70_000)).reverse();
  const written = rig.store(0x40000, data);
  rig.vm.serveUntil(() => written.length > 0, 'the write is over');
  assert.ok(data.equals(rig.ram.u8.subarray(0x40000, 0x40000 + data.length)));
  assert.deepEqual([read, written], [[true], [true]]);
  rig.vm.write32(0, 4, 7);
  assert.equal(rig.vm.read32(0, 4), 7);
});

test('a fabric that sleeps is woken by a reply on the second socket', (t) => {
  const rig = new DmaRig(t, options);
  rig.ram.hold();
  const over = rig.fetch(0, 16);
  rig.run();
  // until nothing is polled any more
  while (rig.runtime.loop.activeCount > 0) rig.step();
  rig.dma.sendBytes(rig.ram.right(rig.ram.requests[0]!));
  rig.steps(3);
  assert.deepEqual(over, [true]);
});

test('a second socket that is full holds up no register, and is full of nothing else', (t) => {
  const rig = new DmaRig(t, options);
  const over = Array.from({ length: 40 }, () => rig.store(0, Buffer.alloc(32768)));
  rig.steps(20);
  const { twin } = rig.vm;
  rig.vm.twin = undefined;
  for (let i = 0; i < 20; i++) rig.vm.write32(0, 0, i);
  rig.vm.twin = twin;
  rig.vm.serveUntil(() => over.every(([ok]) => ok === true), 'all of them are over');
});

test('while the first socket is full memory is reached all the same', (t) => {
  const rig = new DmaRig(t, options);
  rig.fn.readBar = () => 0;
  for (let i = 0; i < 2; i++) rig.vm.send(CMD.REGION_READ, bytes(0n, 0, 0x20000));
  rig.steps(5);
  const over = rig.fetch(0, 16);
  rig.vm.twin!.memory = rig.ram;
  rig.vm.twin!.serveUntil(() => over.length > 0, 'the read is over');
  for (let i = 0; i < 2; i++) assert.equal(rig.vm.receive()?.payload.length, 16 + 0x20000);
});

for (const [rule, act, says] of [
  [
    'a command on the second socket',
    (rig: DmaRig) => rig.dma.send(CMD.DEVICE_GET_INFO, bytes(16, 0, 0, 0)),
    /DEVICE_GET_INFO: a command on the second socket/,
  ],
  [
    'a reply on the first socket',
    (rig: DmaRig) => rig.vm.sendBytes(rig.ram.right(rig.ram.requests[0]!)),
    /DMA_READ: replies to the server come on the second socket/,
  ],
  [
    'a reply to nothing',
    (rig: DmaRig) => rig.dma.sendBytes(rig.ram.reply(rig.ram.requests[0]!, { id: 0x7777 })),
    /DMA_READ: a reply to a request that was not made/,
  ],
  [
    'a broken message on the second socket',
    (rig: DmaRig) => rig.dma.sendBytes(rig.ram.reply(rig.ram.requests[0]!, { size: 7 })),
    /DMA_READ: a message of 7 bytes/,
  ],
  [
    'a reply with descriptors',
    (rig: DmaRig) => rig.dma.sendBytes(rig.ram.right(rig.ram.requests[0]!), [rig.eventfd()]),
    /DMA_READ: descriptors came with a reply/,
  ],
  ['closing the second socket', (rig: DmaRig) => rig.dma.close(), /^$/],
] as const)
  test(`${rule} ends the connection, and leaves nothing`, (t) => {
    const rig = new DmaRig(t, options);
    rig.ram.hold();
    const over = rig.fetch(0, 16);
    rig.run();
    rig.runtime.records.length = 0;
    act(rig);
    rig.steps(30);
    assert.equal(rig.port.transport.status().state, 'listening');
    assert.match(rig.warnings().join('\n'), says);
    assert.deepEqual(over, []);
    assert.equal(rig.mappings(), 0);
    rig.vm.close();
    const next = rig.vfioClient(rig.port.path);
    next.version({ capabilities: TWIN });
    assert.ok(next.twin);
    next.get(CMD.DMA_MAP, dmaMap(0, DMA_RIG_BYTES));
    next.sync();
  });
