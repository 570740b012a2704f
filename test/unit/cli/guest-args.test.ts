import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { type GuestNic, parseQemuVersion, qemuArgs, shellQuote, umlArgs } from '../../../src/cli/guest-args.js';

const nic: GuestNic = {
  name: 'vm1',
  socket: '/run/vm1.sock',
  mode: 'server',
  transport: 'vhost-user',
  mac: '02:00:00:00:00:01',
  mtu: null,
};
const line = (over: object, options: object = {}) =>
  qemuArgs({ nics: [{ ...nic, ...over }], mem: '256M', version: { major: 11, minor: 1 }, ...options }).join(' ');

test('shares the memory of the guest, and joins the socket', () => {
  assert.equal(
    line({}),
    '-m 256M -object memory-backend-memfd,id=netbe-mem,size=256M,share=on -machine memory-backend=netbe-mem ' +
      '-chardev socket,id=netbe-chr-vm1,path=/run/vm1.sock,reconnect-ms=1000 ' +
      '-netdev vhost-user,id=netbe-net-vm1,chardev=netbe-chr-vm1 ' +
      '-device virtio-net-pci,netdev=netbe-net-vm1,mac=02:00:00:00:00:01',
  );
});

test('two NICs share one memory', () => {
  const args = qemuArgs({ nics: [nic, { ...nic, name: 'vm2' }], mem: '1G', version: undefined });
  assert.equal(args.filter((a) => a === '-object').length, 1);
  assert.equal(args.filter((a) => a === '-device').length, 2);
});

test('the option to reconnect is that of the version, none where it is not known', () => {
  const versions: [object | undefined, string | undefined][] = [
    [{ major: 7, minor: 2 }, 'reconnect=1'],
    [{ major: 9, minor: 1 }, 'reconnect=1'],
    [{ major: 9, minor: 2 }, 'reconnect-ms=1000'],
    [undefined, undefined],
  ];
  for (const [version, option] of versions) assert.equal(/reconnect[^ ]*/.exec(line({}, { version }))?.[0], option);
});

test('before QEMU 8 there are no MSI-X vectors, unless they are asked for', () => {
  const old = { version: { major: 7, minor: 2 } };
  assert.match(line({}, old), /,vectors=0$/);
  assert.match(line({}, { ...old, vectors: 3 }), /,vectors=3$/);
  assert.doesNotMatch(line({}), /vectors/);
});

test('in client mode QEMU listens; the MTU is told; a comma in a path is doubled', () => {
  assert.match(line({ mode: 'client' }), /path=\/run\/vm1.sock,server=on,wait=off /);
  assert.match(line({ mtu: 9000 }), /,host_mtu=9000$/);
  assert.match(line({ socket: '/a,b' }), /path=\/a,,b,/);
});

test('a NIC over vfio-user is a device whose socket only JSON can say; MAC address and MTU are its own', () => {
  assert.equal(
    line({ transport: 'vfio-user', mtu: 9000 }),
    '-m 256M -object memory-backend-memfd,id=netbe-mem,size=256M,share=on -machine memory-backend=netbe-mem ' +
      '-device {"driver":"vfio-user-pci","socket":{"type":"unix","path":"/run/vm1.sock"}}',
  );
});

test('a shell that substitutes the command hands the JSON on as it is', () => {
  const args = qemuArgs({ nics: [{ ...nic, transport: 'vfio-user' }], mem: '1G', version: undefined });
  const printed = execFileSync('sh', ['-c', 'for word in $(cat); do printf "%s\\n" "$word"; done'], {
    input: args.join(' '),
    encoding: 'utf8',
  });
  assert.deepEqual(printed.trimEnd().split('\n'), args);
});

test('a QEMU without vfio-user-pci is refused, and a NIC for which nobody would listen', () => {
  for (const version of [
    { major: 7, minor: 2 },
    { major: 10, minor: 0 },
  ])
    assert.throws(() => line({ transport: 'vfio-user' }, { version }), /has no vfio-user-pci device/);
  assert.match(line({ transport: 'vfio-user' }, { version: { major: 10, minor: 1 } }), /vfio-user-pci/);
  assert.throws(() => line({ transport: 'vfio-user', mode: 'client' }), /neither would listen/);
});

test('user-mode-linux cannot take a PCI device, and is told what can', () => {
  assert.throws(() => umlArgs([{ ...nic, transport: 'vfio-user' }]), /vm1 is a PCI device \(transport vfio-user\)/);
});

test('user-mode-linux gets a virtio network card, and a number where there are several', () => {
  assert.deepEqual(umlArgs([nic]), ['virtio_uml.device=/run/vm1.sock:1']);
  assert.deepEqual(umlArgs([nic, { ...nic, socket: '/b' }]), [
    'virtio_uml.device=/run/vm1.sock:1:0',
    'virtio_uml.device=/b:1:1',
  ]);
  assert.throws(() => umlArgs([{ ...nic, socket: '/a b' }]), { kind: 'usage' });
  assert.throws(() => umlArgs([{ ...nic, mode: 'client' }]), { kind: 'usage' });
});

test('reads the versions that QEMU prints', () => {
  assert.deepEqual(parseQemuVersion('QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)'), { major: 7, minor: 2 });
  assert.deepEqual(parseQemuVersion('QEMU emulator version 11.1.3'), { major: 11, minor: 1 });
  assert.equal(parseQemuVersion('none'), undefined);
});

test('a quoted word is one word to a shell, and the same', () => {
  const words = fc.sample(
    fc.string({ minLength: 1 }).filter((s) => !s.includes('\0')),
    50,
  );
  const script = `printf '%s\\0' ${words.map(shellQuote).join(' ')}`;
  const out = execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8' });
  assert.deepEqual(out.split('\0').slice(0, -1), words);
});
