import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { duplicateError, findDuplicate, parseMac, resolveNic, resolvePatch } from '../../../src/control/nic-spec.js';
import { formatMac } from '../../../src/wire/ethernet.js';

const nic = (over: object = {}) => resolveNic({ backend: 'vale0:vm1', socket: 'run/vm1.sock', ...over });

test('fills in every default', () => {
  assert.deepEqual(nic({ slot: '2' }), {
    name: 'vm1',
    slot: '2:0',
    emulation: 'virtio-net',
    backend: 'vale0:vm1',
    backendOptions: {},
    socket: 'run/vm1.sock',
    mode: 'server',
    mac: `00:a0:98:${createHash('md5').update('2-0-vm1').digest('hex').slice(0, 6).match(/../g)?.join(':')}`,
    mtu: null,
    strictMemory: false,
    transport: 'vhost-user',
  });
});

test('the default of strictMemory is that of the fabric', () => {
  const spec = { backend: 'vale0:a', socket: 's' };
  assert.equal(resolveNic(spec, { strictMemory: true }).strictMemory, true);
  assert.equal(resolveNic({ ...spec, strictMemory: false }, { strictMemory: true }).strictMemory, false);
});

test('a MAC address survives reading and writing', () => {
  const octets = fc
    .uint8Array({ minLength: 6, maxLength: 6 })
    .filter((m) => ((m[0] as number) & 1) === 0 && m.some((b) => b > 0));
  fc.assert(fc.property(octets, (mac) => assert.deepEqual(parseMac(formatMac(mac)), mac)));
  assert.equal(nic({ mac: '2:0:0:0:0:A' }).mac, '02:00:00:00:00:0a');
});

test('a multicast, zero or malformed MAC address is refused', () => {
  for (const mac of [
    '03:00:00:00:00:01',
    '0:0:0:0:0:0',
    '02-00-00-00-00-01',
    '02:00:00:00:00',
    'ff:ff:ff:ff:ff:ff',
    '',
  ])
    assert.throws(() => parseMac(mac), { code: 'EINVAL', kind: 'usage' }, mac);
});

test('a socket path that does not fit sun_path is refused with its length', () => {
  assert.throws(() => nic({ socket: `/${'x'.repeat(107)}` }), /socket path of 108 bytes is longer than the 107/);
  assert.equal(nic({ name: 'a', socket: `/${'x'.repeat(106)}` }).socket.length, 107);
});

test('a name that cannot be used is refused, also where it follows from the socket', () => {
  assert.throws(() => nic({ name: 'a/b' }), /name "a\/b" is not allowed/);
  assert.throws(() => nic({ socket: '/tmp/my nic.sock' }), /the name that follows from socket .* "my nic"/);
});

test('two NICs may not share name, socket, slot, switch port, or MAC address on one switch', () => {
  const a = nic({ slot: '2:0', mac: '02:00:00:00:00:01' });
  const other = { name: 'b', socket: 'b.sock', slot: '3:0', backend: 'vale0:b', mac: '02:00:00:00:00:02' };
  assert.equal(findDuplicate([a, nic(other)]), undefined);
  for (const key of ['name', 'socket', 'slot', 'backend', 'mac'] as const) {
    const dup = findDuplicate([a, nic({ ...other, [key]: a[key] })]);
    assert.deepEqual(dup, { key, value: a[key], first: 0, second: 1 }, key);
    assert.match(
      duplicateError(dup as never, (i) => `-s number ${i + 1}`).message,
      /by -s number 1 and by -s number 2$/,
    );
  }
});

test('two NICs on different switches may share a MAC address', () => {
  const mac = '02:00:00:00:00:01';
  assert.equal(findDuplicate([nic({ mac }), nic({ mac, name: 'b', socket: 'b', backend: 'vale1:b' })]), undefined);
});

test('a patch has the name of its ends, also where these are pipes or host rings of netmap', () => {
  const name = (a: string, b: string) => resolvePatch({ a, b } as Parameters<typeof resolvePatch>[0]).name;
  assert.equal(name('vale0:up', 'stream0,addr=unix:x'), 'vale0:up+stream0');
  assert.equal(name('vale0:host', 'netmap:eth1^'), 'vale0:host+netmap:eth1_');
  assert.equal(name('netmap:x{1,rings=2', 'netmap:x}1'), 'netmap:x_1+netmap:x_1');
  assert.throws(() => name('netmap:x{1', 'netmap:x{1'), /both ends of the patch are/);
});

test('e1000 goes over vfio-user; virtio-net over vhost-user unless it is asked otherwise', () => {
  assert.equal(nic({ emulation: 'e1000' }).transport, 'vfio-user');
  assert.equal(nic({ transport: 'vfio-user' }).transport, 'vfio-user');
  assert.throws(() => nic({ emulation: 'e1000', transport: 'vhost-user' }), {
    message: 'transport "vhost-user" carries virtio devices, and e1000 is none',
  });
  assert.throws(() => nic({ transport: 'tcp' }), { message: 'transport "tcp" is neither vhost-user nor vfio-user' });
});

test("bhyve's and QEMU's other names of a device model are understood as questions", () => {
  for (const [other, ours] of [
    ['e82545', 'e1000'],
    ['virtio-net-pci', 'virtio-net'],
  ])
    assert.throws(() => nic({ emulation: other }), {
      message: `emulation "${other}" is not known; here it is ${ours}`,
    });
  assert.throws(() => nic({ emulation: 'constructor' }), { message: 'emulation "constructor" is not known' });
});
