/** Clients of the port socket that do wrong: it costs them their connection, and nobody else anything. */
import assert from 'node:assert/strict';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ATOK_BYTES } from '../../../../src/netmap/abi.js';
import { netmapOf } from '../../../../src/netmap/netmap.js';
import { encodeMessage, MAX_MESSAGE_LEN } from '../../../../src/netmap/port-socket/messages.js';
import { MAX_CONNECTIONS } from '../../../../src/netmap/port-socket/server.js';
import { eventfdWrite } from '../../../../src/sys/eventfd.js';
import { openFdCount, setNonblock } from '../../../../src/sys/fd.js';
import { ftruncate } from '../../../../src/sys/memfd.js';
import { eventually } from '../../../support/eventually.js';
import { PortServerRig } from '../../../support/raw-port-client.js';
import { tempDir } from '../../../support/temp-dir.js';

function rig(t: TestContext): PortServerRig {
  const made = new PortServerRig(join(tempDir(t), 'p.netmap'));
  t.after(() => made.close());
  return made;
}

const header = (length: number) => Uint8Array.of(length, length >> 8, length >> 16, length >>> 24);
const text = (json: string) => Uint8Array.from([...header(Buffer.byteLength(json)), ...Buffer.from(json)]);

/** a list in a list in a list…: JSON.parse takes it, JSON.stringify runs out of stack */
const deep = `${'['.repeat(30_000)}${']'.repeat(30_000)}`;

const wrong: [what: string, bytes: Uint8Array, says: RegExp][] = [
  ['a message of no bytes', header(0), /a message of 0 bytes: 1 to 65536 are allowed/],
  ['a message that is too long', header(MAX_MESSAGE_LEN + 1), /a message of 65537 bytes/],
  ['a length with all bits set', header(0xffffffff), /a message of 4294967295 bytes/],
  ['what is not JSON', text('{"version":1'), /not JSON/],
  ['JSON that is no object', text('[1]'), /not an object/],
  ['null', text('null'), /not an object/],
  ['a request that does not exist', text('{"version":1,"type":"reboot"}'), /a request of type "reboot"/],
  ['the name of a property of all objects', text('{"version":1,"type":"constructor"}'), /type "constructor"/],
  ['a name that is a number', text('{"version":1,"type":"register","name":7}'), /name that is not text/],
  ['a body that is a list', text('{"version":1,"type":"register","body":[]}'), /body that is not an object/],
  ['a version nested too deep to be written', text(`{"version":${deep}}`), /version \[…\] of the port protocol/],
  ['a type nested too deep to be written', text(`{"version":1,"type":${deep}}`), /a request of type \[…\]/],
  ['another version', text('{"version":2,"type":"register"}'), /version 2 of the port protocol: this fabric speaks 1/],
];

for (const [what, bytes, says] of wrong)
  test(`${what}: is answered, and ends that connection alone`, (t) => {
    const lab = rig(t);
    const good = lab.connect();
    const bad = lab.connect();
    bad.send(bytes);
    assert.match(bad.receive()?.error.message ?? '', says);
    bad.receive();
    assert.equal(bad.ended, true);
    assert.equal(good.ask('vale-list').ok, true);
    assert.equal(lab.server.connections, 1);
    bad.close();
    good.close();
  });

const refused: [type: string, name: string, body: object, code: string, says: RegExp][] = [
  ['register', 'vale0:', {}, 'EINVAL', /character 7: the name of a port is missing/],
  ['register', 'vale0:p', { txRings: 17 }, 'EINVAL', /there can be 1 to 16/],
  ['register', 'vale0:p', { txSlots: 1e9 }, 'EINVAL', /txSlots 1000000000 is not a number from 0 to 65535/],
  ['register', 'vale0:p', { extraBufs: -1 }, 'EINVAL', /extraBufs -1/],
  ['register', 'vale0:p', { rxSlots: '512' }, 'EINVAL', /rxSlots "512"/],
  ['register', 'vale0:p', { acceptVnetHdr: 'yes' }, 'EINVAL', /acceptVnetHdr "yes" is neither true nor false/],
  ['register', 'netmap:nope', {}, 'ENXIO', /./],
  ['vale-delif', 'nope', {}, 'ENXIO', /./],
  ['vale-attach', 'nope', {}, 'EINVAL', /no port of a switch/],
  ['vale-list', 'vale9:x', {}, 'ENOENT', /no port vale9:x/],
  ['vale-newif', '../../etc', {}, 'EINVAL', /cannot be the name of a port/],
  ['port-hdr-set', 'vale0:p', { hdrLen: 11 }, 'EINVAL', /header length 11/],
  ['vale-polling-enable', 'vale0:p', {}, 'EOPNOTSUPP', /polls its ports by itself/],
];

for (const [type, name, body, code, says] of refused)
  test(`${type} ${name} ${JSON.stringify(body)} is refused with ${code}, and the connection stays`, (t) => {
    const lab = rig(t);
    const client = lab.connect();
    const before = openFdCount();
    const { ok, error } = client.ask(type, name, body);
    assert.equal(ok, false);
    assert.equal(error.code, code);
    assert.match(error.message, says);
    assert.equal(client.ask('vale-list').ok, true);
    assert.deepEqual(netmapOf(lab.runtime).list(), []);
    assert.equal(openFdCount(), before);
    client.close();
  });

test('only its owner can reach the socket, and its path goes with the fabric', (t) => {
  const lab = rig(t);
  assert.equal(lstatSync(lab.server.path).mode & 0o777, 0o600);
  lab.server.close();
  assert.equal(lstatSync(lab.server.path, { throwIfNoEntry: false }), undefined);
});

test('a client with a port that sends what cannot be parsed loses the port with its connection', (t) => {
  const lab = rig(t);
  const client = lab.connect();
  for (const fd of client.ask('register', 'vale0:p').fds) fd.close();
  client.send(text(`{"version":${deep}}`));
  client.receive();
  assert.equal(lab.server.connections, 0);
  assert.deepEqual(netmapOf(lab.runtime).list(), []);
  client.close();
});

test('a connection has one port', (t) => {
  const lab = rig(t);
  const client = lab.connect();
  for (const fd of client.ask('register', 'vale0:p').fds) fd.close();
  const second = client.ask('register', 'vale0:q');
  assert.equal(second.error.code, 'EBUSY');
  client.close();
  assert.deepEqual(netmapOf(lab.runtime).list(), []);
});

test('a client too many is told so', (t) => {
  const lab = rig(t);
  const clients = Array.from({ length: MAX_CONNECTIONS }, () => lab.connect());
  assert.equal(lab.server.connections, MAX_CONNECTIONS);
  const late = lab.connect();
  assert.match(late.receive()?.error.message ?? '', /takes no more/);
  late.receive();
  assert.equal(late.ended, true);
  clients.pop()?.close();
  const next = lab.connect();
  assert.equal(next.ask('vale-list').ok, true);
  for (const client of [...clients, next, late]) client.close();
  assert.equal(lab.server.connections, 0);
});

test('a message that does not go on ends its connection after a while, one without a port is not kept for ever', async (t) => {
  const lab = rig(t);
  const slow = lab.connect();
  slow.send(header(100));
  const bound = lab.connect();
  for (const fd of bound.ask('register', 'vale0:p').fds) fd.close();
  await eventually('the slow one is out', () => {
    lab.step();
    slow.receive();
    return slow.ended;
  });
  assert.equal(bound.ask('port-info-get').ok, true);
  bound.close();
  slow.close();
});

test('requests that do not wait for their answers end the connection, once there are too many', (t) => {
  const lab = rig(t);
  const client = lab.connect();
  const request = encodeMessage({ version: 1, type: 'vale-list' });
  const many = new Uint8Array(request.length * 20);
  for (let i = 0; i < 20; i++) many.set(request, i * request.length);
  client.send(many);
  let answers = 0;
  while (client.receive() !== undefined) answers++;
  assert.equal(answers, 16);
  assert.equal(client.ended, true);
  client.close();
});

test('descriptors that a client sends are closed', (t) => {
  const lab = rig(t);
  const client = lab.connect();
  const before = openFdCount();
  client.send(encodeMessage({ version: 1, type: 'vale-list' }), [0, 1, 2]);
  assert.equal(client.receive()?.ok, true);
  assert.equal(openFdCount(), before);
  client.close();
});

test('what a client writes into its CSB is checked: a head out of range sets the ring right, and is counted', (t) => {
  const lab = rig(t);
  const client = lab.connect();
  const { body, fds } = client.ask('register', 'vale0:p');
  const [memory, kick] = fds;
  assert(memory && kick);
  const memSize = body.memSize as number;
  const mapping = lab.runtime.windows.mapFile({ fd: memory.number, fileOffset: 0, length: memSize, pageSize: 4096 });
  const { window, off } = mapping;
  const entry = (off + (body.csbOff as number)) >>> 2;
  const ktoa = entry + ATOK_BYTES / 4;
  for (const [head, cur] of [
    [5000, 5000],
    [0xffffffff, 0],
    [3, 1],
    [1024, 1024],
  ] as const) {
    window.u32[entry] = head;
    window.u32[entry + 1] = cur;
    eventfdWrite(kick.number);
    lab.step();
    assert.equal(window.u32[entry], 0, `head ${head}, cur ${cur}`);
    assert.equal(window.u32[ktoa + 1], 1023);
  }
  assert.equal(lab.runtime.count('rings vale0:p', 'ring_reinits'), 4);
  mapping.close();
  for (const fd of fds) fd.close();
  client.close();
});

test('a client that makes its eventfds block and fills them does not stop the fabric', (t) => {
  const lab = rig(t);
  const client = lab.connect();
  const { fds } = client.ask('register', 'vale0:p');
  const [, kick, notify] = fds;
  assert(kick && notify);
  for (const fd of [kick, notify]) {
    for (let i = 0; i < 3; i++) eventfdWrite(fd.number);
    setNonblock(fd.number, false);
  }
  lab.step();
  const other = lab.connect();
  assert.equal(other.ask('vale-list').ok, true);
  for (const fd of fds) fd.close();
  client.close();
  other.close();
});

test('a client cannot take memory away from under the fabric', (t) => {
  const lab = rig(t);
  const client = lab.connect();
  const { fds } = client.ask('register', 'vale0:p');
  assert.throws(() => ftruncate(fds[0]!.number, 0), { code: 'EPERM' });
  for (const fd of fds) fd.close();
  client.close();
});
