import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diagnose } from '../../../src/control/diagnose.js';
import type { NicInfo, SwitchInfo } from '../../../src/control/fabric-types.js';
import { FakeFabric } from '../../support/fake-fabric.js';

const counters = { vm1: { tx_frames: 3, rx_frames: 2 } };
const switches: SwitchInfo[] = [
  {
    name: 'vale0',
    ports: ['vm1', 'vm2'].map((name, index) => ({ name, index, subject: `vale0:${name}` })),
    table: [{ mac: '02:00:00:00:00:01', port: 'vm1', ageSec: 3 }],
  },
];

/** A NIC through which frames pass. */
async function running(): Promise<NicInfo> {
  const nic = await new FakeFabric().addNic({ backend: 'vale0:vm1', socket: '/run/vm1.sock' });
  nic.transport = {
    kind: 'vhost-user',
    state: 'connected',
    peerPid: 7,
    protocolFeatures: ['CONFIG'],
    memory: { regions: 1, bytes: 256 * 1024 * 1024, unshared: 0, sealed: true },
    lastError: null,
  };
  return nic;
}

async function problems(change: (nic: NicInfo) => void, on = switches): Promise<string[]> {
  const nic = await running();
  change(nic);
  return diagnose(nic, counters, on)
    .filter((f) => f.level === 'problem')
    .map((f) => f.text);
}

test('says what each thing is, when all is well', async () => {
  assert.deepEqual(
    diagnose(await running(), counters, switches).map((f) => `${f.level}: ${f.text}`),
    [
      'ok: process 7 is connected to /run/vm1.sock',
      'ok: 256 MiB of guest memory in 1 region, which cannot be shrunk',
      'ok: the driver accepted MAC',
      'ok: the receive ring runs, 256 entries',
      'ok: the transmit ring runs, 256 entries',
      'ok: the link is up',
      'ok: a port of vale0, with 1 other; addresses learned from it: 02:00:00:00:00:01',
    ],
  );
});

const cases: [title: string, change: (nic: NicInfo) => void, says: RegExp][] = [
  [
    'nobody connected, and why the last one went',
    (n) => Object.assign(n.transport, { state: 'listening', lastError: 'bad fd' }),
    /^no hypervisor is connected to \/run\/vm1.sock \(the last time: bad fd\)$/,
  ],
  [
    'nobody listens',
    (n) => Object.assign(n.transport, { state: 'connecting' }),
    /^nobody listens on .*netbe goes on trying$/,
  ],
  [
    'no memory is shared',
    (n) => Object.assign(n.transport.memory, { regions: 0 }),
    /^the hypervisor has shared no memory$/,
  ],
  ['the driver is not ready', (n) => Object.assign(n.device, { features: [] }), /driver is not ready/],
  [
    'the receive ring is stopped',
    (n) => Object.assign(n.device.queues[0] as object, { started: false }),
    /^the receive ring is stopped: the guest receives nothing$/,
  ],
  [
    'the transmit ring is not enabled',
    (n) => Object.assign(n.device.queues[1] as object, { enabled: false }),
    /^the transmit ring is started, but the hypervisor has not enabled it/,
  ],
  [
    'the driver broke a ring',
    (n) => Object.assign(n.device.queues[1] as object, { broken: true }),
    /^the driver broke the transmit ring/,
  ],
  ['no receive buffers', (n) => Object.assign(n.device, { starved: true }), /^the receive ring has no buffers/],
  ['the link is down', (n) => Object.assign(n.device, { link: 'down' }), /^the link is down/],
];

for (const [title, change, says] of cases)
  test(`tells: ${title}`, async () => {
    const found = await problems(change);
    assert.equal(found.length, 1, found.join('\n'));
    assert.match(found[0] as string, says);
  });

test('tells the last trouble while all is well, too', async () => {
  const nic = await running();
  nic.transport.lastError = 'a wrong message';
  const notes = diagnose(nic, counters, switches).filter((f) => f.level === 'note');
  assert.deepEqual(
    notes.map((f) => f.text),
    ['last trouble with a hypervisor: a wrong message'],
  );
});

test('notes memory that is reached by messages, unless it is a small part', async () => {
  const nic = await running();
  const note = () => diagnose(nic, counters, switches).find((f) => f.level === 'note')?.text;
  Object.assign(nic.transport.memory, { regions: 4, unshared: 16 * 1024 * 1024 });
  assert.equal(note(), undefined);
  nic.transport.memory.unshared = 255 * 1024 * 1024;
  assert.equal(
    note(),
    '256 MiB of guest memory in 4 regions, 255 MiB of it not shared: they are reached by messages, which is slower',
  );
});

test('tells: alone on its switch', async () => {
  const alone = switches.map((s) => ({ ...s, ports: s.ports.slice(0, 1) }));
  assert.deepEqual(await problems(() => undefined, alone), ['vale0 has no other port: there is nobody to talk to']);
});

test('names each drop, those of the switch port too', async () => {
  const counted = {
    vm1: { tx_frames: 1, rx_frames: 1, rx_drop_not_ready: 4, tx_drop_x: 0 },
    'vale0:vm1': { rx_drop_full: 2, rx_queued: 9 },
  };
  const notes = diagnose(await running(), counted, switches).filter((f) => f.level === 'note');
  assert.deepEqual(
    notes.map((f) => f.text),
    [
      '4 dropped as rx_drop_not_ready: frames for the guest came while its receive ring was not running',
      '2 dropped as rx_drop_full: frames for the guest found the port of the switch full: the guest is slower than its senders',
    ],
  );
});
