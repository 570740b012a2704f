import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Fabric, type FabricStartOptions } from '../../../src/control/fabric.js';
import type { NicSpec } from '../../../src/control/fabric-types.js';
import { NetbeError } from '../../../src/errors.js';
import { openFdCount } from '../../../src/sys/fd.js';
import { backend as faultyBackend } from '../../support/faulty-backend.js';
import { recordingLog } from '../../support/log-recorder.js';
import { tempDir } from '../../support/temp-dir.js';
import { etherFrame } from '../../support/test-guest.js';
import { sleepStep, stepUntil } from '../../support/vhost-user-client.js';
import { type GuestOptions, VhostUserGuest } from '../../support/vhost-user-guest.js';

const faultyModule = new URL('../../support/faulty-backend.js', import.meta.url);
const modes = [
  { where: 'in a thread', thread: true },
  { where: "in the caller's thread", thread: false },
] as const;

/** A fabric that goes with the test. */
async function startFabric(t: TestContext, options?: FabricStartOptions): Promise<Fabric> {
  const fabric = await Fabric.start(options);
  t.after(() => fabric.close());
  return fabric;
}

/** A guest in this thread that joins a NIC of a fabric in another. */
function joinGuest(t: TestContext, path: string, options?: GuestOptions): VhostUserGuest {
  const guest = VhostUserGuest.connect(path, sleepStep, options);
  t.after(() => guest.close());
  return guest;
}

function receive(guest: VhostUserGuest, count: number): Uint8Array[] {
  const got: Uint8Array[] = [];
  stepUntil(
    sleepStep,
    () => {
      got.push(...guest.receive());
      return got.length >= count;
    },
    `${count} frames arrive`,
  );
  return got;
}

for (const { where, thread } of modes) {
  test(`a fabric ${where}: NICs come, are described and counted, and go`, async (t) => {
    const before = openFdCount();
    const dir = tempDir(t);
    const fabric = await startFabric(t, { thread, nics: [{ backend: 'vale0:a', socket: join(dir, 'a.sock') }] });
    const info = await fabric.addNic({
      backend: 'vale0:b',
      socket: join(dir, 'b.sock'),
      name: 'second',
      slot: '3:1',
      mac: '2:0:0:0:0:7',
      mtu: 9000,
      strictMemory: true,
    });
    assert.equal(info.name, 'second');
    assert.equal(info.slot, '3:1');
    assert.equal(info.device.mac, '02:00:00:00:00:07');
    assert.equal(info.device.mtu, 9000);
    assert.equal(info.strictMemory, true);
    assert.equal(info.transport.state, 'listening');
    assert.equal(lstatSync(join(dir, 'b.sock')).mode & 0o777, 0o600);
    const { nics, switches } = await fabric.show();
    assert.deepEqual(
      nics.map((nic) => [nic.name, nic.device.mtu]),
      [
        ['a', null],
        ['second', 9000],
      ],
    );
    assert.deepEqual(
      switches.map((s) => [s.name, s.ports.map((p) => p.name)]),
      [['vale0', ['a', 'b']]],
    );
    assert.equal(fabric.counters().second?.tx_frames, 0);
    await fabric.setLink('second', false);
    assert.equal((await fabric.show()).nics[1]?.device.link, 'down');
    await fabric.removeNic('second');
    assert.equal(existsSync(join(dir, 'b.sock')), false);
    assert.equal(fabric.counters().second, undefined);
    const exits: unknown[] = [];
    fabric.on('exit', (error) => exits.push(error));
    await fabric.close();
    await fabric.close();
    assert.deepEqual(readdirSync(dir), []);
    assert.deepEqual(exits, [undefined]);
    await assert.rejects(fabric.show(), { code: 'ESHUTDOWN' });
    assert.equal(openFdCount(), before);
  });

  test(`a fabric ${where}: a refusal is a NetbeError with kind, subject and remedy, and changes nothing`, async (t) => {
    const dir = tempDir(t);
    const socket = join(dir, 'a.sock');
    const fabric = await startFabric(t, { thread, nics: [{ backend: 'vale0:a', socket }] });
    const refused = async (call: Promise<unknown>, expected: object): Promise<void> => {
      await assert.rejects(call, (error) => error instanceof NetbeError && error.message.length > 0);
      await assert.rejects(call, expected);
    };
    const other = join(dir, 'b.sock');
    await refused(fabric.addNic({ backend: 'vale0:b', socket }), { code: 'EEXIST', kind: 'usage' });
    await refused(fabric.addNic({ backend: 'vale0:a', socket: other }), { code: 'EEXIST', subject: 'vale0:a' });
    await refused(fabric.addNic({ backend: 'tapestry', socket: other }), { code: 'EINVAL', subject: 'tapestry' });
    await refused(fabric.addNic({ backend: 'vale0:b', backendOptions: { x: '1' }, socket: other }), { code: 'EINVAL' });
    await refused(fabric.addNic({ backend: 'vale0:b', socket: join(dir, 'no/b.sock') }), {
      code: 'ENOENT',
      syscall: 'bind',
    });
    await refused(fabric.addNic({ socket: other } as NicSpec), { kind: 'usage', message: /needs a backend/ });
    await refused(fabric.addNic(undefined as unknown as NicSpec), { kind: 'usage' });
    if (thread)
      await refused(fabric.addNic({ backend: 'vale0:b', socket: other, name: (() => 1) as unknown as string }), {
        kind: 'usage',
        message: /plain data/,
      });
    await refused(fabric.removeNic('b'), { code: 'ENOENT', remedy: 'The fabric has: a.' });
    await refused(fabric.setLink('b', true), { code: 'ENOENT' });
    await refused(fabric.capture('b').next(), { code: 'ENOENT' });
    const { nics, switches } = await fabric.show();
    assert.deepEqual(
      nics.map((nic) => nic.name),
      ['a'],
    );
    assert.equal(switches[0]?.ports.length, 1);
    assert.deepEqual(readdirSync(dir), ['a.sock']);
  });

  test(`a fabric ${where}: 100 NICs added and removed, and as many refused, leak no descriptor`, async (t) => {
    const dir = tempDir(t);
    const fabric = await startFabric(t, { thread });
    const before = openFdCount();
    for (let i = 0; i < 100; i++) {
      const nic = { backend: 'vale0:x', socket: join(dir, 'x.sock') };
      await fabric.addNic(nic);
      await assert.rejects(fabric.addNic({ ...nic, backend: 'vale1:x', name: 'y', socket: join(dir, 'no/x.sock') }));
      await fabric.removeNic('x');
    }
    for (let i = 0; i < 100; i++) await fabric.addNic({ backend: `vale0:p${i}`, socket: join(dir, `p${i}.sock`) });
    for (let i = 0; i < 100; i++) await fabric.removeNic(`p${i}`);
    assert.equal(openFdCount(), before);
    assert.deepEqual(readdirSync(dir), []);
    assert.deepEqual(fabric.counters(), {});
  });

  test(`a fabric ${where}: a NIC of a backend that the user brought`, async (t) => {
    const dir = tempDir(t);
    const fabric = await startFabric(t, { thread, backends: [thread ? faultyModule : faultyBackend] });
    const nic = { backend: 'faulty0', socket: join(dir, 'f.sock') };
    assert.equal((await fabric.addNic(nic)).backend, 'faulty0');
    await assert.rejects(
      fabric.addNic({ ...nic, name: 'g', socket: join(dir, 'g.sock'), backendOptions: { when: 'open' } }),
      { code: 'EIO', message: /internal error: the faulty backend failed/ },
    );
    assert.deepEqual(readdirSync(dir), ['f.sock']);
  });

  test(`a fabric ${where}: a failing callback or poll of one port is logged, the others live`, async (t) => {
    const dir = tempDir(t);
    const log = recordingLog();
    const fabric = await startFabric(t, { thread, log, backends: [thread ? faultyModule.href : faultyBackend] });
    for (const when of ['timer', 'poll'])
      await fabric.addNic({ backend: 'faulty0', backendOptions: { when }, socket: join(dir, `${when}.sock`) });
    const errors = (): string[] => log.records.filter((r) => r.level === 'error').map((r) => r.message);
    while (errors().length < 2) await sleep(1);
    assert.match(errors().sort().join('; '), /^a port failed.*; an event callback failed/);
    assert.equal((await fabric.show()).nics.length, 2);
  });
}

test('a fabric that cannot have all its NICs does not start, and leaves nothing', async (t) => {
  const dir = tempDir(t);
  const before = openFdCount();
  for (const { thread } of modes) {
    const nics = [
      { backend: 'vale0:a', socket: join(dir, 'a.sock') },
      { backend: 'vale0:a', socket: join(dir, 'b.sock') },
    ];
    await assert.rejects(Fabric.start({ thread, nics }), { code: 'EEXIST' });
  }
  assert.deepEqual(readdirSync(dir), []);
  assert.equal(openFdCount(), before);
});

test('what a fabric cannot start with is refused by name: modules, objects, numbers', async () => {
  const before = openFdCount();
  for (const { thread } of modes) {
    await assert.rejects(Fabric.start({ thread, backends: ['./no-such-file.js'] }), {
      kind: 'usage',
      message: /no-such-file\.js cannot be loaded/,
    });
    await assert.rejects(Fabric.start({ thread, backends: ['data:text/javascript,export const x = 1'] }), {
      kind: 'usage',
      message: /does not export a backend/,
    });
    await assert.rejects(Fabric.start({ thread, backends: ['no-such-package-of-netbe'] }), { kind: 'usage' });
  }
  for (const { thread } of modes)
    await assert.rejects(Fabric.start({ thread, poll: { spinUs: -1 } }), { kind: 'usage', message: /spinUs -1/ });
  await assert.rejects(Fabric.start({ backends: [faultyBackend] }), { message: /cannot be sent to the fabric thread/ });
  assert.equal(openFdCount(), before);
});

test('two guests reach each other; link down and up is obeyed; counters tell', async (t) => {
  const dir = tempDir(t);
  const log = recordingLog();
  const fabric = await startFabric(t, { log });
  for (const name of ['a', 'b']) await fabric.addNic({ backend: `vale0:${name}`, socket: join(dir, `${name}.sock`) });
  const a = joinGuest(t, join(dir, 'a.sock'));
  const b = joinGuest(t, join(dir, 'b.sock'), { style: 'uml' });
  const sent = etherFrame(0xff, 1, 100, 3);
  a.transmit(sent);
  assert.deepEqual(receive(b, 1), [sent]);
  const answer = etherFrame(1, 2, 1400, 4);
  b.transmit(answer);
  assert.deepEqual(receive(a, 1), [answer]);
  const { nics, switches } = await fabric.show();
  assert.deepEqual(
    nics.map((nic) => [nic.transport.state, nic.transport.peerPid]),
    [
      ['connected', process.pid],
      ['connected', process.pid],
    ],
  );
  assert.deepEqual(switches[0]?.table.map(({ mac, port }) => `${mac} ${port}`).sort(), [
    '02:00:00:00:00:01 a',
    '02:00:00:00:00:02 b',
  ]);
  assert.equal(fabric.counters().a?.tx_frames, 1);
  assert.equal(fabric.counters().a?.rx_bytes, 1400);
  await fabric.setLink('b', false);
  a.transmit(sent);
  stepUntil(sleepStep, () => fabric.counters().b?.rx_drop_link_down === 1, 'the frame is dropped');
  await fabric.setLink('b', true);
  const again = etherFrame(2, 1, 64, 5);
  a.transmit(again);
  assert.deepEqual(receive(b, 1), [again]);
  assert.ok(log.records.some((r) => /front-end \d+ connected/.test(r.message)));
});

test('NICs come and go while others carry traffic, and lose none of it', async (t) => {
  const dir = tempDir(t);
  const fabric = await startFabric(t);
  for (const name of ['a', 'b']) await fabric.addNic({ backend: `vale0:${name}`, socket: join(dir, `${name}.sock`) });
  const a = joinGuest(t, join(dir, 'a.sock'));
  const b = joinGuest(t, join(dir, 'b.sock'));
  b.transmit(etherFrame(0xff, 2));
  receive(a, 1);
  for (let i = 0; i < 20; i++) {
    const socket = join(dir, 'c.sock');
    const added = fabric.addNic({ backend: 'vale0:c', socket });
    const frames = Array.from({ length: 20 }, (_, k) => etherFrame(2, 1, 60 + k, i));
    for (const frame of frames) a.transmit(frame);
    await added;
    const c = VhostUserGuest.connect(socket, sleepStep, { style: 'plain' });
    assert.deepEqual(receive(b, 20), frames);
    assert.deepEqual(c.receive(), []);
    c.close();
    await fabric.removeNic('c');
  }
});

/** A guest in a process of its own that sends as fast as it can. */
async function startBlaster(t: TestContext, path: string): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('../../support/blasting-guest.js', import.meta.url));
  const child = spawn(process.execPath, [script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  return child;
}

test('guests that are killed in mid-burst come back; their peer loses nothing but their frames', async (t) => {
  const dir = tempDir(t);
  const fabric = await startFabric(t);
  for (const name of ['a', 'b', 'c'])
    await fabric.addNic({ backend: `vale0:${name}`, socket: join(dir, `${name}.sock`) });
  const a = joinGuest(t, join(dir, 'a.sock'));
  const before = openFdCount();
  for (let round = 0; round < 3; round++) {
    const blasters = [await startBlaster(t, join(dir, 'b.sock')), await startBlaster(t, join(dir, 'c.sock'))];
    receive(a, 1000);
    for (const child of blasters) {
      child.kill('SIGKILL');
      await once(child, 'close');
    }
    let states: string[] = [];
    for (let i = 0; i < 1000 && states.join() !== 'listening,listening'; i++) {
      states = (await fabric.show()).nics.slice(1).map((nic) => nic.transport.state);
      await sleep(1);
    }
    assert.deepEqual(states, ['listening', 'listening']);
  }
  receive(a, 0);
  assert.equal((await fabric.show()).nics[0]?.transport.state, 'connected');
  assert.equal(openFdCount(), before);
});

test("a fabric in the caller's thread carries traffic, and lets the caller go on", async (t) => {
  const dir = tempDir(t);
  const before = openFdCount();
  const fabric = await startFabric(t, { thread: false });
  for (const name of ['a', 'b']) await fabric.addNic({ backend: `vale0:${name}`, socket: join(dir, `${name}.sock`) });
  const children = [await startBlaster(t, join(dir, 'a.sock')), await startBlaster(t, join(dir, 'b.sock'))];
  const received = (name: string): number => fabric.counters()[name]?.rx_frames ?? 0;
  for (let i = 0; i < 5000 && Math.min(received('a'), received('b')) < 1000; i++) await sleep(1);
  assert.ok(received('a') >= 1000 && received('b') >= 1000);
  assert.equal((await fabric.show()).nics[0]?.transport.state, 'connected');
  await fabric.close();
  for (const child of children) {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  assert.equal(openFdCount(), before);
});

test('a fabric of strict memory gives back what it asks of the kernel for signals', async (t) => {
  const contexts = (): number => readFileSync('/proc/self/maps', 'utf8').split('[aio]').length - 1;
  const dir = tempDir(t);
  const before = contexts();
  for (let i = 0; i < 3; i++) {
    const fabric = await startFabric(t, { strictMemory: true });
    await fabric.addNic({ backend: 'vale0:a', socket: join(dir, 'a.sock') });
    const guest = VhostUserGuest.connect(join(dir, 'a.sock'), sleepStep);
    guest.transmit(etherFrame(0xff, 1));
    let signals = 0;
    const signalled = (): boolean => {
      signals += guest.interrupts(1);
      return signals > 0;
    };
    stepUntil(sleepStep, signalled, 'the guest is signalled');
    assert.equal(signals, 1);
    await fabric.close();
    guest.close();
  }
  assert.equal(contexts(), before);
});

test('a fabric that is closed while guests send closes at once; they see the end of the connection', async (t) => {
  const dir = tempDir(t);
  const before = openFdCount();
  const fabric = await startFabric(t);
  for (const name of ['a', 'b']) await fabric.addNic({ backend: `vale0:${name}`, socket: join(dir, `${name}.sock`) });
  const a = joinGuest(t, join(dir, 'a.sock'));
  const child = await startBlaster(t, join(dir, 'b.sock'));
  receive(a, 1000);
  await fabric.close();
  assert.equal(a.client.endsHere(), true);
  assert.deepEqual(readdirSync(dir), []);
  a.close();
  child.kill('SIGKILL');
  await once(child, 'close');
  assert.equal(openFdCount(), before);
});

test('two fabrics in one process are two networks, also where their switches have one name', async (t) => {
  const dir = tempDir(t);
  const [first, second] = [await startFabric(t), await startFabric(t)];
  const paths = ['a', 'b', 'c', 'd'].map((name) => join(dir, `${name}.sock`)) as [string, string, string, string];
  await first.addNic({ backend: 'vale0:x', socket: paths[0] });
  await first.addNic({ backend: 'vale0:y', socket: paths[1] });
  await second.addNic({ backend: 'vale0:x', socket: paths[2] });
  await second.addNic({ backend: 'vale0:y', socket: paths[3] });
  const [a, b, c, d] = paths.map((path) => joinGuest(t, path, { style: 'plain' })) as [
    VhostUserGuest,
    VhostUserGuest,
    VhostUserGuest,
    VhostUserGuest,
  ];
  const [fromA, fromC] = [etherFrame(0xff, 1, 60, 1), etherFrame(0xff, 1, 60, 2)];
  a.transmit(fromA);
  c.transmit(fromC);
  assert.deepEqual(receive(b, 1), [fromA]);
  assert.deepEqual(receive(d, 1), [fromC]);
  await first.close();
  c.transmit(fromC);
  assert.deepEqual(receive(d, 1), [fromC]);
});

test('a crash of the thread rejects what is pending, is told once, and frees sockets and descriptors', async (t) => {
  const dir = tempDir(t);
  const log = recordingLog();
  const before = openFdCount();
  const fabric = await startFabric(t, { backends: [faultyModule], log });
  const exits: (NetbeError | undefined)[] = [];
  const exited = new Promise<void>((resolve) => {
    fabric.on('exit', (error) => {
      exits.push(error);
      resolve();
    });
  });
  await fabric.addNic({ backend: 'vale0:a', socket: join(dir, 'a.sock') });
  const capture = fabric.capture('a');
  await capture.next();
  const waiting = capture.next();
  waiting.catch(() => {});
  const failing = fabric.addNic({ backend: 'faulty0', backendOptions: { when: 'later' }, socket: join(dir, 'f.sock') });
  await failing;
  await Promise.allSettled(Array.from({ length: 5 }, () => fabric.show()));
  await exited;
  const expected = { code: 'EIO', message: /fabric thread has ended unexpectedly: the faulty backend failed/ };
  await assert.rejects(fabric.show(), expected);
  await assert.rejects(waiting, expected);
  await fabric.close();
  assert.equal(exits.length, 1);
  assert.match(exits[0]?.remedy ?? '', /Start it again/);
  assert.ok(log.records.some((r) => r.level === 'error' && /ended unexpectedly/.test(r.message)));
  assert.deepEqual(readdirSync(dir), []);
  assert.equal(openFdCount(), before);
});

for (const { where, thread } of modes)
  test(`a process that exits with a fabric ${where} ends at once and removes its sockets`, (t) => {
    const dir = tempDir(t);
    const url = new URL('../../../src/control/fabric.js', import.meta.url).href;
    const code = `
      import { readdirSync } from 'node:fs';
      import { Fabric } from ${JSON.stringify(url)};
      for (const name of ['a', 'b'])
        await Fabric.start({ thread: ${thread}, nics: [{ backend: 'vale0:x', socket: name + '.sock' }] });
      console.log(readdirSync('.').join());
      process.exit(7);`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', code], { cwd: dir, timeout: 30_000 });
    assert.equal(child.stdout.toString().trim(), 'a.sock,b.sock', child.stderr.toString());
    assert.equal(child.status, 7);
    assert.deepEqual(readdirSync(dir), []);
  });

test('64 ports with idle guests use less than 1% of a core', async (t) => {
  const dir = tempDir(t);
  const fabric = await startFabric(t);
  const guests: VhostUserGuest[] = [];
  for (let i = 0; i < 64; i++) {
    const socket = join(dir, `p${i}.sock`);
    await fabric.addNic({ backend: `vale0:p${i}`, socket });
    guests.push(joinGuest(t, socket, { style: 'plain', queueSize: 16 }));
  }
  // every port has been awake before
  guests[0]?.transmit(etherFrame(0xff, 1));
  for (const guest of guests.slice(1)) receive(guest, 1);
  let share = 1;
  // another try where something else of this process (a collection, a compilation) fell into the first
  for (let attempt = 0; attempt < 3 && share >= 0.01; attempt++) {
    await sleep(500);
    const [startMs, cpu] = [performance.now(), process.cpuUsage()];
    await sleep(2500);
    const { user, system } = process.cpuUsage(cpu);
    share = (user + system) / 1000 / (performance.now() - startMs);
  }
  assert.ok(share < 0.01, `${(share * 100).toFixed(2)}% of a core`);
});
