import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseSlotSpec, slotKeys } from '../../../src/control/slot-spec.js';
import { NetbeError } from '../../../src/errors.js';

function refusal(text: string): string {
  try {
    parseSlotSpec(text);
  } catch (error) {
    assert(error instanceof NetbeError, String(error));
    assert.equal(error.kind, 'usage');
    assert.equal(error.code, 'EINVAL');
    return `${error.message}\n${error.remedy}`;
  }
  return 'accepted';
}

test('reads every key of a full argument', () => {
  const text =
    '2:0,virtio-net,vale0:vm1,socket=run/vm1.sock,mode=client,name=left,mac=02:00:00:00:00:01,mtu=9000,strict-memory';
  assert.deepEqual(parseSlotSpec(text), {
    slot: '2:0',
    emulation: 'virtio-net',
    backend: 'vale0:vm1',
    socket: 'run/vm1.sock',
    mode: 'client',
    name: 'left',
    mac: '02:00:00:00:00:01',
    mtu: 9000,
    strictMemory: true,
  });
});

test('keys that are not the NIC\'s go to the backend; one without a value is "true", as in bhyve', () => {
  const spec = parseSlotSpec('3,virtio-net,own0,path=SW:,peerhook=link1,quiet,socket=a.sock', { ownBackends: true });
  assert.deepEqual(spec.backendOptions, { path: 'SW:', peerhook: 'link1', quiet: 'true' });
  assert.equal(spec.slot, '3:0');
});

test('reads slot, slot:func and bus:slot:func in the ranges of bhyve, and nothing else', () => {
  const number = fc.integer({ min: 0, max: 300 });
  fc.assert(
    fc.property(fc.array(number, { minLength: 1, maxLength: 4 }), (parts) => {
      const max = parts.length === 3 ? [255, 31, 7] : [31, 7];
      const ok = parts.length <= 3 && parts.every((n, i) => n <= (max[i] as number));
      const answer = refusal(`${parts.join(':')},virtio-net,vale0:a,socket=s`);
      assert.equal(answer === 'accepted', ok, answer);
    }),
  );
  assert.equal(parseSlotSpec('1:2:3,virtio-net,vale0:a,socket=s').slot, '1:2:3');
  assert.equal(parseSlotSpec('0:2:3,virtio-net,vale0:a,socket=s').slot, '2:3');
});

test('never throws anything but a usage error that shows the argument, whatever it is given', () => {
  const words = fc.constantFrom(
    '2:0',
    'virtio-net',
    'vale0:vm1',
    'socket=s',
    'mac=',
    ',',
    '=',
    'mtu=1',
    ':',
    '\0',
    'é',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(words).map((w) => w.join(',')),
      ),
      (text) => {
        const answer = refusal(text);
        assert(answer === 'accepted' || answer.includes(`\n  -s ${text}\n`));
      },
    ),
  );
});

test('backend.KEY reaches an option that has the name of a key of every NIC', () => {
  const text = '2,virtio-net,stream0,socket=s,addr=unix:a.sock,mode=client,backend.mode=server';
  const spec = parseSlotSpec(text);
  assert.equal(spec.mode, 'client');
  assert.deepEqual(spec.backendOptions, { addr: 'unix:a.sock', mode: 'server' });
  assert.match(refusal('2,virtio-net,vale0:a,socket=s,backend.mode=server'), /^unknown key "mode"/);
});

test('options of a backend are those of the registry', () => {
  const spec = parseSlotSpec('2,virtio-net,vale0:vm1,socket=s,slots=512');
  assert.deepEqual(spec.backendOptions, { slots: '512' });
  assert.match(refusal('2,virtio-net,lan0,socket=s'), /^no backend for device "lan0"/);
});

const refusals: Record<string, string[]> = {
  'names the emulation that is not known, and what is': [
    '2:0,virtio-nte,vale0:vm1,socket=s',
    'emulation "virtio-nte" is not known',
    '  -s 2:0,virtio-nte,vale0:vm1,socket=s',
    '         ^~~~~~~~~~',
    'Allowed: virtio-net, e1000.',
  ],
  "knows bhyve's and QEMU's other names of a device model": [
    '2:0,e82545,vale0:vm1,socket=s',
    'emulation "e82545" is not known; here it is e1000',
    '  -s 2:0,e82545,vale0:vm1,socket=s',
    '         ^~~~~~',
    'Allowed: virtio-net, e1000.',
  ],
  'refuses a transport that does not carry the device model': [
    '2:0,e1000,vale0:vm1,socket=s,transport=vhost-user',
    'transport "vhost-user" carries virtio devices, and e1000 is none',
    '  -s 2:0,e1000,vale0:vm1,socket=s,transport=vhost-user',
    '                                            ^~~~~~~~~~',
    'Leave transport out, or use transport=vfio-user; or use virtio-net.',
  ],
  'points at a slot out of range': [
    '32:0,virtio-net,vale0:vm1,socket=s',
    'slot "32" is not a number from 0 to 31',
    '  -s 32:0,virtio-net,vale0:vm1,socket=s',
    '     ^~',
    'An argument looks like this: -s 2:0,virtio-net,vale0:vm1,socket=vm1.sock',
  ],
  'points at a function out of range': [
    '2:8,virtio-net,vale0:vm1,socket=s',
    'function "8" is not a number from 0 to 7',
    '  -s 2:8,virtio-net,vale0:vm1,socket=s',
    '       ^',
    'An argument looks like this: -s 2:0,virtio-net,vale0:vm1,socket=vm1.sock',
  ],
  'points at where the emulation should be': [
    '2:0',
    'the emulation is missing after the slot',
    '  -s 2:0',
    '        ^',
    'An argument looks like this: -s 2:0,virtio-net,vale0:vm1,socket=vm1.sock',
  ],
  'asks what was meant by an unknown key': [
    '2:0,virtio-net,vale0:vm1,socket=s,mtuu=1500',
    'unknown key "mtuu"; did you mean mtu?',
    '  -s 2:0,virtio-net,vale0:vm1,socket=s,mtuu=1500',
    '                                       ^~~~',
    'Keys of every NIC: socket, transport, mode, name, mac, mtu, strict-memory; of vale: slots, ring-kib, table, age.',
  ],
  'does not take a key for the backend': [
    '2:0,virtio-net,socket=s',
    'the backend is missing after the emulation',
    '  -s 2:0,virtio-net,socket=s',
    '                    ^~~~~~~~',
    'An argument looks like this: -s 2:0,virtio-net,vale0:vm1,socket=vm1.sock',
  ],
  'asks for the socket': [
    '2:0,virtio-net,vale0:vm1',
    'socket=PATH is missing: a guest joins the NIC there',
    '  -s 2:0,virtio-net,vale0:vm1',
    '                             ^',
    'For instance: -s 2:0,virtio-net,vale0:vm1,socket=vm1.sock',
  ],
  'refuses a key given twice': [
    '2:0,virtio-net,vale0:vm1,socket=s,mtu=1500,mtu=9000',
    'mtu is given twice',
    '  -s 2:0,virtio-net,vale0:vm1,socket=s,mtu=1500,mtu=9000',
    '                                                ^~~~~~~~',
    'Keep one of the two.',
  ],
  'refuses a multicast MAC address, pointing at the value': [
    '2:0,virtio-net,vale0:vm1,socket=s,mac=01:00:5e:00:00:01',
    'MAC address "01:00:5e:00:00:01" is a multicast address: the lowest bit of its first octet is set',
    '  -s 2:0,virtio-net,vale0:vm1,socket=s,mac=01:00:5e:00:00:01',
    '                                           ^~~~~~~~~~~~~~~~~',
    'Use one of your own, for instance 02:00:00:00:00:01 (02: locally administered, unicast).',
  ],
  'refuses an MTU below that of the specification': [
    '2:0,virtio-net,vale0:vm1,socket=s,mtu=67',
    'mtu "67" is not a number from 68 to 65535',
    '  -s 2:0,virtio-net,vale0:vm1,socket=s,mtu=67',
    '                                           ^~',
    '1500 is the usual one, 9000 a jumbo frame; leave it out to tell the guest nothing.',
  ],
  'refuses a key of the NIC without its value': [
    '2:0,virtio-net,vale0:vm1,socket',
    'socket has no value',
    '  -s 2:0,virtio-net,vale0:vm1,socket',
    '                              ^~~~~~',
    'Write socket=PATH.',
  ],
};

for (const [title, [text, ...lines]] of Object.entries(refusals))
  test(title, () => {
    assert.equal(refusal(text as string), lines.join('\n'));
  });

test('every key that is documented is understood', () => {
  const values: Record<string, string> = {
    transport: 'vfio-user',
    socket: 's',
    mode: 'client',
    name: 'n',
    mac: '02:00:00:00:00:01',
    mtu: '1500',
    'strict-memory': 'on',
  };
  const text = slotKeys.map((k) => `${k.name}=${values[k.name]}`).join(',');
  assert.equal(parseSlotSpec(`2:0,virtio-net,vale0:a,${text}`).backendOptions, undefined);
});
