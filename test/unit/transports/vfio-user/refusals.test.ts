/** What is wrong is refused with its errno, and the connection goes on; what breaks the framing ends it. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Fd, setNonblock, writeAt } from '../../../../src/sys/fd.js';
import { E } from '../../../../src/sys/libc.js';
import { ftruncate, MFD_ALLOW_SEALING } from '../../../../src/sys/memfd.js';
import { NativeBuffer } from '../../../../src/sys/native-buffer.js';
import { socketPair } from '../../../../src/sys/socket.js';
import {
  bytes,
  CMD,
  dmaMap,
  dmaUnmap,
  F_NO_REPLY,
  F_REPLY,
  IRQ,
  irqSet,
  versionPayload,
} from '../../../support/vfio-user-client.js';
import { VfioRig } from '../../../support/vfio-user-rig.js';

const MEMORY = 1 << 20;
const { EVENTFD, NONE, BOOL, TRIGGER, MASK, UNMASK } = IRQ;

type FdKind = 'memory' | 'eventfd';

interface BadRequest {
  rule: string;
  command: number;
  payload?: Uint8Array;
  fds?: readonly FdKind[];
  errno: number;
  /** what the log says */
  says: RegExp;
}

const big = 1n << 60n;
const u8 = (...values: number[]) => Uint8Array.from(values);

const badRequests: readonly BadRequest[] = [
  { rule: 'a command that does not exist', command: 99, errno: E.EINVAL, says: /command 99: there is no such request/ },
  { rule: 'command 0', command: 0, errno: E.EINVAL, says: /there is no such request/ },
  {
    rule: 'a second VERSION',
    command: CMD.VERSION,
    payload: versionPayload(),
    errno: E.EINVAL,
    says: /VERSION: agreed on already/,
  },
  {
    rule: 'a command that only servers send',
    command: CMD.DMA_READ,
    payload: bytes(0n, 4n),
    errno: E.EINVAL,
    says: /DMA_READ: there is no such request/,
  },
  ...(['DIRTY_PAGES', 'MIG_DATA_READ', 'MIG_DATA_WRITE'] as const).map((name) => ({
    rule: `migration (${name})`,
    command: CMD[name],
    payload: new Uint8Array(16),
    errno: E.EOPNOTSUPP,
    says: /migration is not supported/,
  })),
  {
    rule: 'device features',
    command: CMD.DEVICE_FEATURE,
    payload: bytes(16, 0x10001, 0n),
    errno: E.EOPNOTSUPP,
    says: /feature 1: migration/,
  },
  // ---- DMA ----
  {
    rule: 'a short DMA_MAP',
    command: CMD.DMA_MAP,
    payload: bytes(32, 3),
    errno: E.EINVAL,
    says: /8 bytes, it has at least 32/,
  },
  {
    rule: 'a DMA_MAP with too small an argsz',
    command: CMD.DMA_MAP,
    payload: bytes(31, 3, 0n, 0n, 4096n),
    errno: E.EINVAL,
    says: /argsz 31/,
  },
  {
    rule: 'unknown flags of a DMA_MAP',
    command: CMD.DMA_MAP,
    payload: dmaMap(0, MEMORY, 0, 0x13),
    fds: ['memory'],
    errno: E.EINVAL,
    says: /flags 0x13/,
  },
  {
    rule: 'an empty region',
    command: CMD.DMA_MAP,
    payload: dmaMap(0, 0),
    fds: ['memory'],
    errno: E.EINVAL,
    says: /empty/,
  },
  {
    rule: 'a region at an address that no machine has',
    command: CMD.DMA_MAP,
    payload: dmaMap(big, 4096),
    fds: ['memory'],
    errno: E.EINVAL,
    says: /address 0x1000000000000000 is beyond/,
  },
  {
    rule: 'a region that wraps around',
    command: CMD.DMA_MAP,
    payload: dmaMap(2 ** 53 - 4096, 8192),
    fds: ['memory'],
    errno: E.EINVAL,
    says: /its end is beyond/,
  },
  {
    rule: 'a region longer than its file',
    command: CMD.DMA_MAP,
    payload: dmaMap(0, MEMORY + 4096),
    fds: ['memory'],
    errno: E.EINVAL,
    says: /reaches to byte 1052672 of a file of 1048576/,
  },
  {
    rule: 'a region of a descriptor that is not memory',
    command: CMD.DMA_MAP,
    payload: dmaMap(0, 4096),
    fds: ['eventfd'],
    errno: E.EINVAL,
    says: /not a file of memory/,
  },
  {
    rule: 'two descriptors for one region',
    command: CMD.DMA_MAP,
    payload: dmaMap(0, 4096),
    fds: ['memory', 'memory'],
    errno: E.EINVAL,
    says: /2 descriptors came with it, at most 1/,
  },
  {
    rule: 'a region over the end of another one',
    command: CMD.DMA_MAP,
    payload: dmaMap(0x80ff000, 0x2000),
    fds: ['memory'],
    errno: E.EEXIST,
    says: /overlaps the region 0x8000000 of 0x100000 bytes/,
  },
  {
    rule: 'a region that is not there',
    command: CMD.DMA_UNMAP,
    payload: dmaUnmap(0, 4096),
    errno: E.ENOENT,
    says: /no such region/,
  },
  {
    rule: 'a part of a region',
    command: CMD.DMA_UNMAP,
    payload: dmaUnmap(0x8000000, 4096),
    errno: E.EINVAL,
    says: /0x8000000 of 0x1000 bytes: a part of the region 0x8000000 of 0x100000 bytes/,
  },
  {
    rule: 'a range that ends in a region',
    command: CMD.DMA_UNMAP,
    payload: dmaUnmap(0, 0x8001000),
    errno: E.EINVAL,
    says: /a part of the region 0x8000000 of 0x100000 bytes/,
  },
  {
    rule: 'unmapping everything at an address',
    command: CMD.DMA_UNMAP,
    payload: dmaUnmap(0x8000000, MEMORY, 2),
    errno: E.EINVAL,
    says: /address or size is not 0/,
  },
  {
    rule: 'a dirty bitmap',
    command: CMD.DMA_UNMAP,
    payload: dmaUnmap(0x8000000, MEMORY, 1),
    errno: E.EINVAL,
    says: /dirty pages are not tracked/,
  },
  {
    rule: 'flags of DMA_UNMAP together',
    command: CMD.DMA_UNMAP,
    payload: dmaUnmap(0, 0, 3),
    errno: E.EINVAL,
    says: /do not exist together/,
  },
  // ---- information ----
  {
    rule: 'a short DEVICE_GET_INFO',
    command: CMD.DEVICE_GET_INFO,
    payload: bytes(16),
    errno: E.EINVAL,
    says: /at least 16/,
  },
  {
    rule: 'too small an argsz',
    command: CMD.DEVICE_GET_INFO,
    payload: bytes(15, 0, 0, 0),
    errno: E.EINVAL,
    says: /argsz 15: it is at least 16/,
  },
  {
    rule: 'a region beyond all',
    command: CMD.DEVICE_GET_REGION_INFO,
    payload: bytes(32, 0, 9, 0, 0n, 0n),
    errno: E.EINVAL,
    says: /region 9: there are 9/,
  },
  {
    rule: 'I/O descriptors of a region that is not there',
    command: CMD.DEVICE_GET_REGION_IO_FDS,
    payload: bytes(16, 0, 4, 0),
    errno: E.EINVAL,
    says: /there is no region 4/,
  },
  {
    rule: 'a count in a request for I/O descriptors',
    command: CMD.DEVICE_GET_REGION_IO_FDS,
    payload: bytes(16, 0, 0, 1),
    errno: E.EINVAL,
    says: /both are 0/,
  },
  {
    rule: 'an interrupt beyond all',
    command: CMD.DEVICE_GET_IRQ_INFO,
    payload: bytes(16, 0, 5, 0),
    errno: E.EINVAL,
    says: /interrupt 5: there are 5/,
  },
  // ---- interrupts ----
  {
    rule: 'a short SET_IRQS',
    command: CMD.DEVICE_SET_IRQS,
    payload: bytes(20, 0x21, 0),
    errno: E.EINVAL,
    says: /at least 20/,
  },
  {
    rule: 'an interrupt type that does not exist',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE | TRIGGER, 5, 0, 0),
    errno: E.EINVAL,
    says: /interrupt 5/,
  },
  {
    rule: 'two actions at once',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE | MASK | UNMASK, 0, 0, 1),
    errno: E.EINVAL,
    says: /one kind of data and one action/,
  },
  {
    rule: 'no action',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE, 0, 0, 1),
    errno: E.EINVAL,
    says: /one kind of data and one action/,
  },
  {
    rule: 'two kinds of data',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE | BOOL | TRIGGER, 0, 0, 1),
    errno: E.EINVAL,
    says: /one kind of data/,
  },
  {
    rule: 'flags that do not exist',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(0x40 | NONE | TRIGGER, 0, 0, 1),
    errno: E.EINVAL,
    says: /flags 0x61/,
  },
  {
    rule: 'an interrupt beyond the last',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE | TRIGGER, 1, 3, 2),
    errno: E.EINVAL,
    says: /MSI 3 to 4: there are 4/,
  },
  {
    rule: 'a range that wraps around',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE | TRIGGER, 1, 0xffffffff, 0xffffffff),
    errno: E.EINVAL,
    says: /there are 4/,
  },
  {
    rule: 'interrupts of a type that the device has none of',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(EVENTFD | TRIGGER, 4, 0, 1),
    fds: ['eventfd'],
    errno: E.EINVAL,
    says: /REQ 0 to 0: there are 0/,
  },
  {
    rule: 'count 0 with a start',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE | TRIGGER, 1, 1, 0),
    errno: E.EINVAL,
    says: /count 0 is for disabling/,
  },
  {
    rule: 'count 0 with a mask',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE | MASK, 0, 0, 0),
    errno: E.EINVAL,
    says: /count 0 is for disabling/,
  },
  {
    rule: 'fewer descriptors than interrupts',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(EVENTFD | TRIGGER, 1, 0, 2),
    fds: ['eventfd'],
    errno: E.EINVAL,
    says: /1 descriptors for 2 interrupts/,
  },
  {
    rule: 'descriptors where none are meant',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE | TRIGGER, 0, 0, 1),
    fds: ['eventfd'],
    errno: E.EINVAL,
    says: /its flags say none/,
  },
  {
    rule: 'an interrupt descriptor that cannot be signalled',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(EVENTFD | TRIGGER, 1, 0, 2),
    fds: ['eventfd', 'memory'],
    errno: E.EINVAL,
    says: /neither an eventfd nor a pipe nor a socket/,
  },
  {
    rule: 'an unmask descriptor that is no eventfd',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(EVENTFD | UNMASK, 0, 0, 1),
    fds: ['memory'],
    errno: E.EINVAL,
    says: /not an eventfd/,
  },
  {
    rule: 'too few bools',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(BOOL | TRIGGER, 1, 0, 2, u8(1)),
    errno: E.EINVAL,
    says: /1 bytes of data for 2/,
  },
  {
    rule: 'too many bools',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(BOOL | TRIGGER, 1, 0, 1, u8(1, 1)),
    errno: E.EINVAL,
    says: /2 bytes of data for 1/,
  },
  {
    rule: 'masking of MSI, which cannot be masked',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(NONE | MASK, 1, 0, 1),
    errno: E.EINVAL,
    says: /MSI cannot be masked/,
  },
  {
    rule: 'a mask descriptor for MSI-X',
    command: CMD.DEVICE_SET_IRQS,
    payload: irqSet(EVENTFD | MASK, 2, 0, 1),
    fds: ['eventfd'],
    errno: E.EINVAL,
    says: /MSI-X cannot be masked/,
  },
  // ---- regions ----
  {
    rule: 'a read beyond a region',
    command: CMD.REGION_READ,
    payload: bytes(0x1fffen, 0, 4),
    errno: E.EINVAL,
    says: /REGION_READ: region 0, offset 131070, 4 bytes/,
  },
  {
    rule: 'a read of a region that is not there',
    command: CMD.REGION_READ,
    payload: bytes(0n, 4, 4),
    errno: E.EINVAL,
    says: /region 4/,
  },
  {
    rule: 'a read beyond all regions',
    command: CMD.REGION_READ,
    payload: bytes(0n, 0xffffffff, 4),
    errno: E.EINVAL,
    says: /region 4294967295/,
  },
  { rule: 'a read of nothing', command: CMD.REGION_READ, payload: bytes(0n, 0, 0), errno: E.EINVAL, says: /0 bytes/ },
  {
    rule: 'a read at a huge offset',
    command: CMD.REGION_READ,
    payload: bytes(-4n, 0, 8),
    errno: E.EINVAL,
    says: /offset/,
  },
  {
    rule: 'a read of 4 GiB',
    command: CMD.REGION_READ,
    payload: bytes(0n, 0, 0xffffffff),
    errno: E.EINVAL,
    says: /4294967295 bytes/,
  },
  {
    rule: 'a read with data',
    command: CMD.REGION_READ,
    payload: bytes(0n, 0, 4, 0),
    errno: E.EINVAL,
    says: /its length/,
  },
  { rule: 'a short read', command: CMD.REGION_READ, payload: bytes(0n), errno: E.EINVAL, says: /its length/ },
  {
    rule: 'a write whose data are missing',
    command: CMD.REGION_WRITE,
    payload: bytes(0n, 0, 4),
    errno: E.EINVAL,
    says: /its length/,
  },
  {
    rule: 'a write beyond configuration space',
    command: CMD.REGION_WRITE,
    payload: bytes(0xfen, 7, 4, 0),
    errno: E.EINVAL,
    says: /region 7/,
  },
  {
    rule: 'more writes than REGION_WRITE_MULTI has',
    command: CMD.REGION_WRITE_MULTI,
    payload: bytes(2n, 0n, 0, 4, 0n),
    errno: E.EINVAL,
    says: /REGION_WRITE_MULTI: its length/,
  },
  {
    rule: 'a number of writes that wraps around',
    command: CMD.REGION_WRITE_MULTI,
    payload: bytes((1n << 63n) + 1n, 0n, 0, 4, 0n),
    errno: E.EINVAL,
    says: /its length/,
  },
  {
    rule: 'a write of 9 bytes in REGION_WRITE_MULTI',
    command: CMD.REGION_WRITE_MULTI,
    payload: bytes(1n, 0n, 0, 9, 0n),
    errno: E.EINVAL,
    says: /write 0 of 1/,
  },
];

function descriptors(rig: VfioRig, kinds: readonly FdKind[]): Fd[] {
  return kinds.map((kind) => (kind === 'memory' ? rig.memory(MEMORY) : rig.eventfd()));
}

for (const { rule, command, payload, fds = [], errno, says } of badRequests)
  test(`refuses ${rule}, and the connection goes on`, (t) => {
    const rig = new VfioRig(t);
    rig.vm.get(CMD.DMA_MAP, dmaMap(0x8000000, MEMORY), { fds: [rig.memory(MEMORY)] });
    assert.equal(rig.vm.errno(command, payload, { fds: descriptors(rig, fds) }), errno);
    rig.vm.sync();
    assert.match(rig.warnings().join('\n'), says);
    assert.equal(rig.runtime.count('nic/vfio-user', 'refused'), 1);
    assert.equal(rig.port.transport.status().state, 'connected');
  });

test('a request with NO_REPLY that is wrong ends the connection: its sender believes that it worked', (t) => {
  const rig = new VfioRig(t);
  rig.vm.send(CMD.DMA_UNMAP, dmaUnmap(0, 4096), { flags: F_NO_REPLY });
  assert.ok(rig.vm.endsHere());
  assert.match(rig.warnings().join('\n'), /DMA_UNMAP: 0x0 of 0x1000 bytes: no such region; connection closed/);
});

test("a posted write beyond a region is dropped and counted: it is a driver's, and nobody waits for it", (t) => {
  const rig = new VfioRig(t);
  rig.vm.send(CMD.REGION_WRITE, bytes(0x20000n, 0, 4, 7), { flags: F_NO_REPLY });
  rig.vm.sync();
  assert.equal(rig.runtime.count('nic/vfio-user', 'refused'), 1);
  assert.deepEqual(rig.fn.accesses, []);
});

const badVersions: readonly [string, Uint8Array, RegExp][] = [
  ['without a version', new Uint8Array(2), /payload of 2 bytes/],
  ['of another major version', versionPayload(undefined, 1, 0), /version 1\.0 is proposed, and only 0\.0 exists/],
  ['whose JSON does not end', Buffer.concat([bytes(0), Buffer.from('{}')]), /does not end in a zero byte/],
  ['whose JSON is none', versionPayload('{'), /its JSON cannot be read/],
  ['whose JSON is a list', versionPayload('[]'), /not an object/],
  ['whose capabilities are text', versionPayload({ capabilities: '23' }), /"capabilities" is not an object/],
  [
    'with max_msg_fds as text',
    versionPayload({ capabilities: { max_msg_fds: 'foo' } }),
    /"max_msg_fds" is not a whole/,
  ],
  ['with negative max_msg_fds', versionPayload({ capabilities: { max_msg_fds: -1 } }), /it is 0 to 16/],
  [
    'with max_data_xfer_size 0',
    versionPayload({ capabilities: { max_data_xfer_size: 0 } }),
    /"max_data_xfer_size" is 0/,
  ],
  [
    'with a number for write_multiple',
    versionPayload({ capabilities: { write_multiple: 1 } }),
    /neither true nor false/,
  ],
];

for (const [what, payload, says] of badVersions)
  test(`VERSION ${what} is refused and ends the connection`, (t) => {
    const rig = new VfioRig(t, { negotiated: false });
    assert.equal(rig.vm.errno(CMD.VERSION, payload), E.EINVAL);
    assert.ok(rig.vm.endsHere());
    assert.match(rig.warnings().join('\n'), says);
  });

test('VERSION with descriptors is refused and ends the connection', (t) => {
  const rig = new VfioRig(t, { negotiated: false });
  assert.equal(rig.vm.errno(CMD.VERSION, versionPayload(), { fds: [rig.eventfd()] }), E.EINVAL);
  assert.ok(rig.vm.endsHere());
});

test('whatever comes before VERSION is refused and ends the connection', (t) => {
  const rig = new VfioRig(t, { negotiated: false });
  assert.equal(rig.vm.errno(CMD.DEVICE_GET_INFO, bytes(16, 0, 0, 0)), E.EINVAL);
  assert.ok(rig.vm.endsHere());
  assert.match(rig.warnings().join('\n'), /DEVICE_GET_INFO: the first message is VERSION/);
});

function breaksOff(rule: string, send: (rig: VfioRig) => void, says: RegExp): void {
  test(`${rule} ends the connection, and says so`, (t) => {
    const rig = new VfioRig(t);
    send(rig);
    const reply = rig.vm.receive();
    if (reply !== undefined) {
      assert.equal(reply.errno, E.EINVAL);
      assert.ok(rig.vm.endsHere());
    }
    assert.match(rig.warnings().join('\n'), says);
    // the next client is served
    const next = rig.vfioClient(rig.port.path);
    next.version();
    next.sync();
  });
}

breaksOff(
  'a message shorter than its header',
  (rig) => rig.vm.send(CMD.DEVICE_RESET, undefined, { size: 15 }),
  /DEVICE_RESET: a message of 15 bytes/,
);
breaksOff(
  'a message longer than any',
  (rig) => rig.vm.send(CMD.REGION_WRITE, undefined, { size: 0xffffffff }),
  /REGION_WRITE: a message of 4294967295 bytes/,
);
breaksOff(
  'a reply to nothing',
  (rig) => rig.vm.send(CMD.DMA_READ, undefined, { flags: F_REPLY }),
  /DMA_READ: a reply to a request that was not made/,
);
breaksOff(
  'a message type that does not exist',
  (rig) => rig.vm.send(CMD.DEVICE_RESET, undefined, { flags: 5 }),
  /message type 5 does not exist/,
);
breaksOff(
  'more descriptors than a message may have',
  (rig) => rig.vm.send(CMD.DEVICE_RESET, undefined, { fds: Array.from({ length: 17 }, () => rig.eventfd()) }),
  /descriptors were cut off/,
);
breaksOff(
  'a hang-up in the middle of a message',
  (rig) => {
    rig.vm.sendBytes(bytes(0x000d0001, 16));
    rig.vm.close();
    rig.vm.receive = () => undefined;
    rig.steps(20);
  },
  /closed in the middle of a message, after 8 bytes/,
);

test('descriptors of a message that is refused are closed', (t) => {
  // the fabric counts open descriptors when the test ends
  const rig = new VfioRig(t);
  for (let i = 0; i < 50; i++) rig.vm.errno(99, undefined, { fds: [rig.eventfd(), rig.memory(4096)] });
});

test('no more than 1024 regions', (t) => {
  const { vm } = new VfioRig(t);
  for (let i = 0; i < 1024; i++) vm.get(CMD.DMA_MAP, dmaMap(i * 4096, 4096));
  assert.equal(vm.errno(CMD.DMA_MAP, dmaMap(1024 * 4096, 4096)), E.ENOSPC);
});

test('memory that its owner can shorten is refused where memory is strict', (t) => {
  const rig = new VfioRig(t, { strictMemory: true });
  const unsealed = rig.memory(MEMORY, 0);
  assert.equal(rig.vm.errno(CMD.DMA_MAP, dmaMap(0, MEMORY), { fds: [unsealed] }), E.EPERM);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0, MEMORY), { fds: [rig.memory(MEMORY)] });
});

test('memory that is mapped cannot be shortened any more where it allows sealing', (t) => {
  const rig = new VfioRig(t);
  const fd = rig.memory(MEMORY, MFD_ALLOW_SEALING);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0, MEMORY), { fds: [fd] });
  assert.throws(() => ftruncate(fd.number, 4096), { code: 'EPERM' });
});

test('memory that its owner can shorten is warned of once where memory is not strict', (t) => {
  const rig = new VfioRig(t);
  for (let i = 0; i < 3; i++) rig.vm.get(CMD.DMA_MAP, dmaMap(i * MEMORY, MEMORY), { fds: [rig.memory(MEMORY, 0)] });
  assert.equal(rig.warnings().filter((w) => /could take away/.test(w)).length, 1);
  assert.equal(rig.port.transport.status().memory.sealed, false);
});

test('a region that cannot be written is refused where it is to be writeable, and mapped where it is not', (t) => {
  const rig = new VfioRig(t);
  const path = join(rig.dir, 'rom');
  const writer = rig.own(new Fd(openSync(path, 'w')));
  ftruncate(writer.number, MEMORY);
  const rom = rig.own(new Fd(openSync(path, 'r')));
  assert.equal(rig.vm.errno(CMD.DMA_MAP, dmaMap(0, MEMORY), { fds: [rom] }), E.EACCES);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0, MEMORY, 0, 1), { fds: [rom] });
});

test('a client that does not read its replies is closed, not waited for', (t) => {
  const rig = new VfioRig(t);
  const request = bytes(0x00090001, 32, 0, 0, 0n, 7, 256);
  for (let i = 0; i < 5000 && rig.port.transport.status().state === 'connected'; i++) {
    rig.vm.sendBytes(request);
    rig.step();
  }
  assert.match(rig.warnings().join('\n'), /REGION_READ: the client does not read its replies/);
});

test('a client that fills its interrupt descriptor and makes it blocking does not stall a strict fabric', (t) => {
  const rig = new VfioRig(t, { strictMemory: true });
  const intx = rig.eventfd();
  rig.vm.get(CMD.DEVICE_SET_IRQS, irqSet(EVENTFD | TRIGGER, 2, 0, 1), { fds: [intx] });
  fill(rig, intx);
  setNonblock(intx.number, false);
  rig.fn.interrupts?.msix(0);
  rig.vm.sync();
});

test('a socket that is closed for reading does not stop interrupts from being sent to it', (t: TestContext) => {
  const rig = new VfioRig(t);
  const [ours, theirs] = socketPair();
  rig.vm.get(CMD.DEVICE_SET_IRQS, irqSet(EVENTFD | TRIGGER, 2, 0, 1), { fds: [theirs] });
  theirs.close();
  ours.close();
  rig.fn.interrupts?.msix(0);
  rig.vm.sync();
});

/** Takes an eventfd's counter to where a write would wait. */
function fill(rig: VfioRig, fd: Fd): void {
  rig.fn.interrupts?.msix(0);
  const most = new NativeBuffer(8);
  most.u32[0] = 0xfffffffd;
  most.u32[1] = 0xffffffff;
  assert.equal(writeAt(fd.number, most.addr, 8), 8);
}
