/** What is wrong is refused: with an answer where the front-end asked for one, else by ending that connection. */
import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createEventfd } from '../../../../src/sys/eventfd.js';
import { Fd, setNonblock, writeAt } from '../../../../src/sys/fd.js';
import { ftruncate, MFD_ALLOW_SEALING, MFD_HUGE_2MB, MFD_HUGETLB, memfdCreate } from '../../../../src/sys/memfd.js';
import { NativeBuffer } from '../../../../src/sys/native-buffer.js';
import * as M from '../../../../src/transports/vhost-user/messages.js';
import {
  configMessage,
  inflightMessage,
  memoryTable,
  singleRegion,
  u64,
  vringAddr,
  vringState,
} from '../../../support/vhost-user-client.js';
import { ALL, MEMORY, Rig, region, ringAt, USER } from '../../../support/vhost-user-rig.js';

type FdKind = 'memory' | 'eventfd' | 'socket';

interface BadRequest {
  rule: string;
  request: number;
  payload?: Uint8Array;
  fds?: readonly FdKind[];
  /** what the log says */
  says: RegExp;
}

const none = new Uint8Array(0);
const table = (...regions: Parameters<typeof memoryTable>[0]) => memoryTable(regions);

const badRequests: readonly BadRequest[] = [
  {
    rule: 'a payload that is too short',
    request: M.VHOST_USER_SET_VRING_NUM,
    payload: new Uint8Array(4),
    says: /SET_VRING_NUM: payload of 4 bytes, it has 8/,
  },
  {
    rule: 'a payload that is too long',
    request: M.VHOST_USER_SET_FEATURES,
    payload: new Uint8Array(16),
    says: /SET_FEATURES: payload of 16 bytes, it has 8/,
  },
  {
    rule: 'a queue that does not exist',
    request: M.VHOST_USER_SET_VRING_BASE,
    payload: vringState(2, 0),
    says: /SET_VRING_BASE queue 2: this device has queues 0 to 1/,
  },
  {
    rule: 'a queue index with its top bit set',
    request: M.VHOST_USER_SET_VRING_ENABLE,
    payload: vringState(0xffffffff, 1),
    says: /queue 4294967295: this device has queues/,
  },
  {
    rule: 'a queue size that is no power of two',
    request: M.VHOST_USER_SET_VRING_NUM,
    payload: vringState(0, 100),
    says: /SET_VRING_NUM queue 0: size 100/,
  },
  {
    rule: 'a base beyond 16 bits, as packed rings have it',
    request: M.VHOST_USER_SET_VRING_BASE,
    payload: vringState(0, 0x80008000),
    says: /SET_VRING_BASE queue 0: 2147516416/,
  },
  {
    rule: 'SET_VRING_ENABLE with a number other than 0 and 1',
    request: M.VHOST_USER_SET_VRING_ENABLE,
    payload: vringState(0, 2),
    says: /1 enables, 0 disables/,
  },
  {
    rule: 'ring addresses with flags (logging was not offered)',
    request: M.VHOST_USER_SET_VRING_ADDR,
    payload: vringAddr(0, { desc: USER, avail: USER, used: USER }, 1),
    says: /flags 0x1: logging was not offered/,
  },
  {
    rule: 'a ring address beyond 2^53',
    request: M.VHOST_USER_SET_VRING_ADDR,
    payload: vringAddr(0, { desc: 0xffff_ffff_ffff_fff0n, avail: USER, used: USER }),
    says: /descriptor table address 0xfffffffffffffff0 is beyond 2\^53/,
  },
  {
    rule: 'SET_VRING_KICK without its descriptor',
    request: M.VHOST_USER_SET_VRING_KICK,
    payload: u64(0),
    says: /SET_VRING_KICK queue 0: no descriptor came along/,
  },
  {
    rule: 'SET_VRING_CALL with a descriptor and the flag that there is none',
    request: M.VHOST_USER_SET_VRING_CALL,
    payload: u64(0x101),
    fds: ['eventfd'],
    says: /SET_VRING_CALL queue 1: a descriptor came along/,
  },
  {
    rule: 'SET_VRING_ERR with bits that do not exist',
    request: M.VHOST_USER_SET_VRING_ERR,
    payload: u64(0x200),
    says: /bits above 8 do not exist/,
  },
  {
    rule: 'two descriptors where one belongs',
    request: M.VHOST_USER_SET_VRING_KICK,
    payload: u64(0),
    fds: ['eventfd', 'eventfd'],
    says: /2 descriptors came with it, it has 0 to 1/,
  },
  {
    rule: 'a descriptor with a message that has none',
    request: M.VHOST_USER_SET_OWNER,
    fds: ['eventfd'],
    says: /SET_OWNER: 1 descriptors came with it, it has 0/,
  },
  {
    rule: 'a kick descriptor that is no eventfd',
    request: M.VHOST_USER_SET_VRING_KICK,
    payload: u64(0),
    fds: ['memory'],
    says: /its descriptor is not an eventfd/,
  },
  {
    rule: 'a call descriptor that cannot be signalled',
    request: M.VHOST_USER_SET_VRING_CALL,
    payload: u64(0),
    fds: ['memory'],
    says: /neither an eventfd nor a pipe nor a socket/,
  },
  {
    rule: 'a back-end channel that is no socket',
    request: M.VHOST_USER_SET_BACKEND_REQ_FD,
    fds: ['eventfd'],
    says: /SET_BACKEND_REQ_FD: its descriptor is not a socket/,
  },
  {
    rule: 'more regions than the payload has room for',
    request: M.VHOST_USER_SET_MEM_TABLE,
    payload: Uint8Array.of(9, 0, 0, 0, 0, 0, 0, 0),
    says: /9 regions, room for 0/,
  },
  {
    rule: 'fewer descriptors than regions',
    request: M.VHOST_USER_SET_MEM_TABLE,
    payload: table(region, { ...region, gpa: MEMORY, userAddr: USER + MEMORY }),
    fds: ['memory'],
    says: /1 descriptors for 2 regions/,
  },
  {
    rule: 'a region that reaches beyond its file',
    request: M.VHOST_USER_SET_MEM_TABLE,
    payload: table({ ...region, mmapOffset: 4096 }),
    fds: ['memory'],
    says: /reaches to byte 1052672 of a file of 1048576/,
  },
  {
    rule: 'an empty region',
    request: M.VHOST_USER_SET_MEM_TABLE,
    payload: table({ ...region, size: 0 }),
    fds: ['memory'],
    says: /SET_MEM_TABLE: region .* empty/,
  },
  {
    rule: 'a region whose end wraps around',
    request: M.VHOST_USER_ADD_MEM_REG,
    payload: singleRegion({ ...region, gpa: 0xffff_ffff_ffff_f000n }),
    fds: ['memory'],
    says: /guest address 0xfffffffffffff000 is beyond 2\^53/,
  },
  {
    rule: 'memory that is no file',
    request: M.VHOST_USER_ADD_MEM_REG,
    payload: singleRegion(region),
    fds: ['eventfd'],
    says: /its descriptor is not a file of memory/,
  },
  {
    rule: 'ADD_MEM_REG without its descriptor',
    request: M.VHOST_USER_ADD_MEM_REG,
    payload: singleRegion(region),
    says: /ADD_MEM_REG: 0 descriptors came with it, it has 1/,
  },
  {
    rule: 'the removal of a region that is not there',
    request: M.VHOST_USER_REM_MEM_REG,
    payload: singleRegion(region),
    says: /REM_MEM_REG: no such region: gpa 0x0/,
  },
  {
    rule: 'config space of a size that is not that of the message',
    request: M.VHOST_USER_SET_CONFIG,
    payload: configMessage(0, 8, 0, new Uint8Array(4)),
    says: /size 8, but 4 bytes came/,
  },
  {
    rule: 'an inflight buffer for more queues than there are',
    request: M.VHOST_USER_SET_INFLIGHT_FD,
    payload: inflightMessage(4096, 0, 3, 64),
    fds: ['memory'],
    says: /3 queues: this device has 2/,
  },
  {
    rule: 'an inflight buffer that is too small',
    request: M.VHOST_USER_SET_INFLIGHT_FD,
    payload: inflightMessage(1024, 0, 2, 64),
    fds: ['memory'],
    says: /a buffer of 1024 bytes: 2 queues of 64 need/,
  },
  {
    rule: 'an inflight buffer beyond the end of its file',
    request: M.VHOST_USER_SET_INFLIGHT_FD,
    payload: inflightMessage(4096, MEMORY, 2, 64),
    fds: ['memory'],
    says: /inflight buffer: reaches to byte/,
  },
  {
    rule: 'a message of a feature that was not negotiated',
    request: M.VHOST_USER_VRING_KICK,
    payload: vringState(0, 0),
    says: /VRING_KICK queue 0: needs protocol feature bit 14, which was not negotiated/,
  },
];

function openFds(rig: Rig, kinds: readonly FdKind[] = []): Fd[] {
  return kinds.map((kind) => (kind === 'memory' ? rig.memory() : rig.eventfd()));
}

for (const { rule, request, payload = none, fds, says } of badRequests) {
  test(`refuses ${rule}: answered where asked`, (t) => {
    const rig = new Rig(t);
    assert.equal(rig.fe.acked(request, payload, openFds(rig, fds)), false);
    assert.match(rig.warnings().join('\n'), says);
    rig.fe.sync();
  });

  test(`refuses ${rule}: closed where not`, (t) => {
    const rig = new Rig(t);
    rig.fe.send(request, payload, { fds: openFds(rig, fds) });
    assert.ok(rig.fe.endsHere());
    assert.match(rig.warnings().join('\n'), says);
    assert.match(rig.warnings().join('\n'), /connection closed/);
    assert.equal(rig.port.transport.status().state, 'listening');
  });
}

const badQuestions: readonly BadRequest[] = [
  {
    rule: 'GET_VRING_BASE of a queue that does not exist',
    request: M.VHOST_USER_GET_VRING_BASE,
    payload: vringState(5, 0),
    says: /GET_VRING_BASE queue 5: this device has queues 0 to 1/,
  },
  {
    rule: 'GET_INFLIGHT_FD for queues larger than there can be',
    request: M.VHOST_USER_GET_INFLIGHT_FD,
    payload: inflightMessage(0, 0, 2, 2048),
    says: /queues of 2048: sizes go from 1 to 1024/,
  },
  {
    rule: 'GET_INFLIGHT_FD for no queue',
    request: M.VHOST_USER_GET_INFLIGHT_FD,
    payload: inflightMessage(0, 0, 0, 64),
    says: /0 queues/,
  },
  {
    rule: 'GET_QUEUE_NUM, since MQ was not offered',
    request: M.VHOST_USER_GET_QUEUE_NUM,
    says: /GET_QUEUE_NUM: needs protocol feature bit 0/,
  },
];

for (const { rule, request, payload = none, says } of badQuestions)
  test(`closes at ${rule}: an answer of 1 would be taken for the value`, (t) => {
    const rig = new Rig(t);
    rig.fe.send(request, payload, { needReply: true });
    assert.ok(rig.fe.endsHere());
    assert.match(rig.warnings().join('\n'), says);
  });

test('GET_CONFIG beyond config space is answered without bytes, which means an error', (t) => {
  const rig = new Rig(t);
  for (const message of [
    configMessage(250, 8),
    configMessage(0xffffffff, 4),
    configMessage(0, 8, 0, new Uint8Array(2)),
  ])
    assert.equal(rig.fe.ask(M.VHOST_USER_GET_CONFIG, message).payload.length, 0);
  rig.fe.sync();
});

test('an unknown request is refused where asked, ignored where not', (t) => {
  const rig = new Rig(t);
  assert.equal(rig.fe.acked(200, new Uint8Array(100)), false);
  rig.fe.send(M.VHOST_USER_SET_LOG_FD, none, { fds: [rig.eventfd()] });
  rig.fe.sync();
  assert.match(rig.warnings()[0]!, /request 200 is not supported: refused/);
  assert.match(rig.warnings()[1]!, /SET_LOG_FD is not supported: ignored/);
});

const brokenFraming: readonly { rule: string; bytes: readonly number[]; says: RegExp }[] = [
  { rule: 'version 0', bytes: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], says: /GET_FEATURES: version 0 in its flags/ },
  { rule: 'version 2', bytes: [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0], says: /version 2 in its flags, only 1 exists/ },
  { rule: 'a reply', bytes: [1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0], says: /the reply flag is set in a request/ },
  {
    rule: 'a payload longer than any',
    bytes: [5, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    says: /SET_MEM_TABLE: payload of 4294967295 bytes/,
  },
];

for (const { rule, bytes, says } of brokenFraming)
  test(`broken framing closes the connection: ${rule}`, (t) => {
    const rig = new Rig(t);
    rig.fe.sendBytes(Uint8Array.from(bytes));
    assert.ok(rig.fe.endsHere());
    assert.match(rig.warnings().join('\n'), says);
  });

test('more descriptors than any message has close the connection, and none of them leaks', (t) => {
  const rig = new Rig(t);
  const fds = Array.from({ length: 9 }, () => rig.eventfd());
  rig.fe.send(M.VHOST_USER_SET_MEM_TABLE, memoryTable([]), { fds });
  assert.ok(rig.fe.endsHere());
  assert.match(rig.warnings().join('\n'), /descriptors were cut off: more than 8 came/);
});

test('descriptors that come with every byte of a message add up, and are limited as well', (t) => {
  const rig = new Rig(t);
  for (let i = 0; i < 9; i++) rig.fe.sendBytes(Uint8Array.of(5), [rig.eventfd()]);
  assert.ok(rig.fe.endsHere());
});

test('memory that its owner can shorten is refused where memory is strict', (t) => {
  const rig = new Rig(t, ALL, { strictMemory: true });
  const unsealable = rig.memory(MEMORY, 0);
  assert.equal(rig.fe.acked(M.VHOST_USER_SET_MEM_TABLE, memoryTable([region]), [unsealable]), false);
  assert.match(rig.warnings().join(), /cannot be sealed against shrinking, and strict memory is asked for/);
  assert.equal(rig.fe.acked(M.VHOST_USER_SET_INFLIGHT_FD, inflightMessage(65536, 0, 2, 64), [unsealable]), false);
  const fd = rig.own(new Fd(openSync(join(rig.dir, 'file'), 'w+')));
  ftruncate(fd.number, MEMORY);
  assert.equal(rig.fe.acked(M.VHOST_USER_ADD_MEM_REG, singleRegion(region), [fd]), false);
  rig.shareMemory();
});

test('memory of huge pages is refused where memory is strict: a hole can be punched into it', (t) => {
  const rig = new Rig(t, ALL, { strictMemory: true });
  const huge = rig.memory(2 * 2 ** 20, MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB);
  assert.equal(rig.fe.acked(M.VHOST_USER_ADD_MEM_REG, singleRegion({ ...region, size: 2 ** 21 }), [huge]), false);
  assert.match(rig.warnings().join(), /is of huge pages, which can be taken away, and strict memory is asked for/);
});

test('a front-end that fills its call descriptor and makes it blocking does not stall a strict fabric', (t) => {
  const rig = new Rig(t, ALL, { strictMemory: true });
  const call = rig.eventfd();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_CALL, u64(0), [call]));
  const most = new NativeBuffer(8);
  most.u32.fill(0xffffffff);
  most.u32[0] = 0xfffffffe;
  assert.equal(writeAt(call.number, most.addr, 8), 8);
  setNonblock(call.number, false);
  for (let i = 0; i < 10; i++) rig.device.queue(0).notify?.();
  rig.fe.sync();
});

test('memory that its owner can shorten is warned of once where memory is not strict', (t) => {
  const rig = new Rig(t);
  const unsealable = rig.memory(MEMORY, 0);
  assert.ok(rig.fe.acked(M.VHOST_USER_ADD_MEM_REG, singleRegion(region), [unsealable]));
  const second = { ...region, gpa: MEMORY, userAddr: USER + MEMORY };
  assert.ok(rig.fe.acked(M.VHOST_USER_ADD_MEM_REG, singleRegion(second), [unsealable]));
  assert.equal(rig.warnings().length, 1);
  assert.match(rig.warnings()[0]!, /nic: its memory is a file that the hypervisor could take away/);
  assert.equal(rig.port.transport.status().memory.sealed, false);
});

test('no more than 64 memory slots', (t) => {
  const rig = new Rig(t);
  const fd = memfdCreate('slots', MFD_ALLOW_SEALING);
  rig.own(fd);
  ftruncate(fd.number, 4096);
  const add = (i: number) => {
    const slot = { gpa: i * 4096, size: 4096, userAddr: USER + i * 4096, mmapOffset: 0 };
    return rig.fe.acked(M.VHOST_USER_ADD_MEM_REG, singleRegion(slot), [fd]);
  };
  for (let i = 0; i < 64; i++) assert.ok(add(i), `slot ${i}`);
  assert.equal(add(64), false);
  assert.match(rig.warnings().join(), /all 64 memory slots are in use/);
});

test('a ring that does not fit its memory is refused at its kick', (t) => {
  const rig = new Rig(t);
  rig.shareMemory();
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_NUM, vringState(0, 64)));
  assert.ok(rig.fe.acked(M.VHOST_USER_SET_VRING_ADDR, ringAt(0, USER + 2 ** 40)));
  const kick = rig.own(createEventfd());
  assert.equal(rig.fe.acked(M.VHOST_USER_SET_VRING_KICK, u64(0), [kick]), false);
  assert.match(rig.warnings().join(), /SET_VRING_KICK queue 0: the descriptor table is outside guest memory/);
});

test('a front-end that does not read its answers is closed, not waited for', (t) => {
  const rig = new Rig(t);
  const question = Uint8Array.of(1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0);
  rig.fe.sync();
  const connected = () => rig.port.transport.status().state === 'connected';
  for (let i = 0; i < 100_000 && connected(); i++) {
    rig.fe.sendBytes(question);
    rig.step();
  }
  assert.ok(!connected());
  assert.match(rig.warnings().join(), /GET_FEATURES: the front-end does not read its replies/);
});

test('a front-end that does wrong for ever does not fill the log', (t) => {
  const rig = new Rig(t);
  for (let i = 0; i < 200; i++) rig.fe.acked(200);
  assert.ok(rig.warnings().length <= 20);
});
