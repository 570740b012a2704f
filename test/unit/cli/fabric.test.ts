import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { CliFolder, type CliProcess } from '../../support/cli.js';
import { eventually } from '../../support/eventually.js';
import { readPcapng } from '../../support/pcapng-reader.js';
import { tempDir } from '../../support/temp-dir.js';
import { etherFrame } from '../../support/test-guest.js';
import { sleepStep, stepUntil } from '../../support/vhost-user-client.js';
import { VhostUserGuest } from '../../support/vhost-user-guest.js';

const folder = (t: TestContext) => new CliFolder(t, tempDir(t));
const twoNics = ['-s', '2:0,virtio-net,vale0:vm1,socket=vm1.sock', '-s', '3:0,virtio-net,vale0:vm2,socket=vm2.sock'];
const MAC1 = 0x11;
const MAC2 = 0x22;

function join2(t: TestContext, cli: CliFolder, name: string): VhostUserGuest {
  const guest = VhostUserGuest.connect(join(cli.dir, `${name}.sock`), sleepStep);
  t.after(() => guest.close());
  return guest;
}

function receive(guest: VhostUserGuest, count: number): Uint8Array[] {
  const got: Uint8Array[] = [];
  stepUntil(sleepStep, () => got.push(...guest.receive()) >= count, `${count} frames arrive`);
  return got;
}

/** vm1 and vm2 exchange a frame each. */
function exchange(vm1: VhostUserGuest, vm2: VhostUserGuest): void {
  vm1.transmit(etherFrame(MAC2, MAC1));
  receive(vm2, 1);
  vm2.transmit(etherFrame(MAC1, MAC2));
  receive(vm1, 1);
}

function sockets(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((f) => f.endsWith('.sock'));
}

async function stopped(fabric: CliProcess, signal: NodeJS.Signals = 'SIGINT'): Promise<string> {
  const { status, stdout, stderr } = await fabric.end(signal);
  assert.equal(status, 0, stderr);
  return stdout;
}

test('run: two guests talk, every command sees it, Ctrl-C sums up and leaves nothing', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...twoNics);
  assert.match(fabric.stdout, /vm1: virtio-net in slot 2:0 on vale0:vm1, 00:a0:98:/);
  assert.match(fabric.stdout, /netbe qemu-args vm1/);
  assert.deepEqual(sockets(cli.dir).sort(), ['run/netbe/default.sock', 'vm1.sock', 'vm2.sock']);
  const [vm1, vm2] = [join2(t, cli, 'vm1'), join2(t, cli, 'vm2')];
  exchange(vm1, vm2);

  const table = await cli.run('ports');
  assert.equal(table.status, 0);
  assert.match(table.stdout, /^vm1 +vale0:vm1 +up +running \(pid \d+\) +1 +60 B +1 +60 B +0$/m);
  const rows = JSON.parse((await cli.run('ports', '--json')).stdout);
  assert.equal(rows[1].port, 'vm2');
  assert.equal(rows[1].rxFrames, 1);
  assert.match((await cli.run('show')).stdout, /vale0: 2 ports: vm1, vm2\n {2}learned addresses: 2\n/);
  const shown = await cli.run('show', 'vm1');
  assert.match(shown.stdout, /ok +the receive ring runs, 64 entries/);
  assert.doesNotMatch(shown.stdout, /PROBLEM/);

  const out = await stopped(fabric);
  assert.match(out, /^vm1 +1 +60 B +1 +60 B +none$/m);
  assert.match(out, /^ran for \d+ seconds?$/m);
  assert.deepEqual(sockets(cli.dir), []);
});

test('run: the link and the NICs change while it runs', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...twoNics);
  assert.equal((await cli.run('link', 'vm1', 'down')).stdout, 'vm1: link down\n');
  assert.match((await cli.run('show', 'vm1')).stdout, /PROBLEM +the link is down/);
  assert.match(
    (await cli.run('nic', 'add', '4,virtio-net,vale0:vm3,socket=vm3.sock,mtu=9000')).stdout,
    /^vm3: virtio-net on vale0:vm3/,
  );
  const again = await cli.run('nic', 'add', '5,virtio-net,vale0:vm3,socket=vm4.sock');
  assert.equal(again.status, 2);
  assert.match(again.stderr, /^netbe: backend vale0:vm3 is given twice/);
  assert(existsSync(join(cli.dir, 'vm3.sock')));
  const args = await cli.run('qemu-args', 'vm3', '--qemu-version', '9.0');
  assert.match(args.stdout, /mac=00:a0:98:[0-9a-f:]+,host_mtu=9000\n$/);
  assert.equal((await cli.run('nic', 'remove', 'vm3')).stdout, 'vm3 removed\n');
  assert(!existsSync(join(cli.dir, 'vm3.sock')));
  const gone = await cli.run('nic', 'remove', 'vm3');
  assert.equal(gone.status, 2);
  assert.match(gone.stderr, /^netbe: there is no NIC "vm3"\n {2}NICs: vm1, vm2\.\n/);
  await stopped(fabric, 'SIGTERM');
});

test('run: a second one of the same name is refused; after a kill the next one takes over', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...twoNics);
  const second = await cli.run('run', '-s', '2,virtio-net,vale0:x,socket=x.sock');
  assert.equal(second.status, 2);
  assert.match(second.stderr, new RegExp(`is running already, by process ${fabric.child.pid},`));
  assert(!existsSync(join(cli.dir, 'x.sock')));
  await fabric.kill();
  assert.equal((await cli.run('ports')).status, 3);
  const next = await cli.fabric('run', ...twoNics);
  exchange(join2(t, cli, 'vm1'), join2(t, cli, 'vm2'));
  await stopped(next, 'SIGHUP');
  assert.deepEqual(sockets(cli.dir), []);
});

test('run: two fabrics of different names run side by side', async (t) => {
  const cli = folder(t);
  const one = await cli.fabric('run', '-s', '2,virtio-net,vale0:a,socket=a.sock');
  const two = await cli.fabric('run', '--fabric', 'two', '-s', '2,virtio-net,vale0:a,socket=b.sock');
  assert.match((await cli.run('show', '--fabric', 'two')).stdout, /^fabric "two"/);
  const none = await cli.run('ports', '--fabric', 'three');
  assert.match(none.stderr, /Control sockets there are: default, two/);
  await stopped(one);
  await stopped(two);
});

test('run: a NIC that cannot be opened ends it, and nothing is left', async (t) => {
  const cli = folder(t);
  const { status, stderr } = await cli.run('run', ...twoNics, '-s', '4,virtio-net,vale0:c,socket=none/c.sock');
  assert.equal(status, 1);
  assert.match(stderr, /none\/c\.sock/);
  assert.deepEqual(sockets(cli.dir), []);
});

test('run --log-json: standard error is JSON lines, standard output empty', async (t) => {
  const cli = folder(t);
  const fabric = cli.start('run', '--log-json', ...twoNics);
  await fabric.complains(/"ready"/);
  const { status, stdout, stderr } = await fabric.end('SIGINT');
  assert.equal(status, 0);
  assert.equal(stdout, '');
  const lines = stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  const ready = lines.find((line) => line.msg === 'ready');
  assert.equal(ready.level, 'info');
  assert.deepEqual(Object.keys(ready.sockets), ['vm1', 'vm2']);
});

test('run: a second Ctrl-C does not wait for what does not close', async (t) => {
  const cli = folder(t);
  const sink =
    'vnetHdrLen: 0, send: (iov) => iov.total, flush() {}, peekRecvLen: () => 0, recv: () => 0, rxDiscard: () => 0';
  const rest = 'recvEnable() {}, recvDisable() {}, getCap: () => 0n, setCap: () => false, close() { for (;;); }';
  writeFileSync(
    join(cli.dir, 'stuck.mjs'),
    `export const backend = { prefix: 'stuck', summary: '', example: 'stuck0', options: [], needsReceive: false,
      open: ({ device: name }) => ({ name, ${sink}, ${rest} }) };`,
  );
  const fabric = await cli.fabric('run', '--backend', 'stuck.mjs', '-s', '2,virtio-net,stuck0,socket=a.sock');
  fabric.child.kill('SIGINT');
  await fabric.complains(/stopping/);
  const { status, stderr } = await fabric.end('SIGINT');
  assert.equal(status, 1);
  assert.match(stderr, /netbe: stopped at once\n$/);
  assert.deepEqual(sockets(cli.dir), []);
});

test('run: goes on when nobody reads its output any more', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...twoNics);
  fabric.child.stdout.destroy();
  exchange(join2(t, cli, 'vm1'), join2(t, cli, 'vm2'));
  assert.equal((await cli.run('ports')).status, 0);
  assert.equal((await fabric.end('SIGINT')).status, 0);
});

test('up: a file, with sockets beside it and a name of its own', async (t) => {
  const cli = folder(t);
  writeFileSync(
    join(cli.dir, 'fabric.yaml'),
    'name: lab\nlog: { level: warn }\nnics:\n  - { backend: vale0:vm1, socket: vm1.sock }\n  - { backend: vale0:vm2, socket: vm2.sock }\n',
  );
  const fabric = await cli.fabric('up', 'fabric.yaml');
  exchange(join2(t, cli, 'vm1'), join2(t, cli, 'vm2'));
  assert.equal(JSON.parse((await cli.run('ports', '--fabric', 'lab', '--json')).stdout).length, 2);
  await stopped(fabric);
  assert.equal(fabric.stderr, '', 'nothing below a warning is logged');
});

test('patch: a switch is joined to a stream socket, and parted', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...twoNics);
  const patched = await cli.run('patch', 'vale0:up', 'stream0,addr=unix:up.sock');
  assert.equal(patched.stdout, 'vale0:up+stream0: vale0:up and stream0,addr=unix:up.sock\n', patched.stderr);
  const vm1 = join2(t, cli, 'vm1');
  const socket = connect(join(cli.dir, 'up.sock'));
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  // until the fabric has accepted, what it sends there is dropped
  const received = once(socket, 'data');
  const sender = setInterval(() => vm1.transmit(etherFrame(0xff, MAC1)), 20);
  t.after(() => clearInterval(sender));
  const [bytes] = (await received) as [Buffer];
  clearInterval(sender);
  assert.equal(bytes.readUInt32BE(0), 60, 'a length, and the frame');
  const frame = Buffer.from(etherFrame(MAC1, 0x77));
  socket.write(Buffer.concat([Buffer.from([0, 0, 0, frame.length]), frame]));
  assert.deepEqual(Buffer.from(receive(vm1, 1)[0] as Uint8Array), frame);
  assert.match(
    (await cli.run('show')).stdout,
    /patch vale0:up\+stream0: .*\n {2}first to second: \d+ frames?, .*\n {2}second to first: 1 frame, 0 dropped/,
  );
  assert.equal((await cli.run('patch', 'vale0:up', 'vale1:x')).status, 2, 'the port is in use');
  assert.equal((await cli.run('unpatch', 'vale0:up+stream0')).stdout, 'vale0:up+stream0 removed\n');
  assert.equal((await cli.run('unpatch', 'vale0:up+stream0')).status, 2);
  assert(!existsSync(join(cli.dir, 'up.sock')));
  await stopped(fabric);
});

test('capture: counts frames, and the file is whole', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...twoNics);
  const [vm1, vm2] = [join2(t, cli, 'vm1'), join2(t, cli, 'vm2')];
  const capture = cli.start('capture', 'vm1', '-w', 'vm1.pcapng', '-c', '4');
  await capture.complains(/capturing vm1/);
  await captureBegan(join(cli.dir, 'vm1.pcapng'));
  for (let i = 0; i < 4; i++) exchange(vm1, vm2);
  const { status, stderr } = await capture.end();
  assert.equal(status, 0, stderr);
  assert.match(stderr, /^4 frames, /m);
  const { packets } = readPcapng(readFileSync(join(cli.dir, 'vm1.pcapng')));
  assert.equal(packets.length, 4);
  await stopped(fabric);
});

/** The first blocks are written when the capture is in place. */
async function captureBegan(file: string): Promise<void> {
  await eventually('the capture begins', () => existsSync(file) && readFileSync(file).length > 0);
}

for (const [title, end] of [
  ['Ctrl-C', (capture: CliProcess) => capture.end('SIGINT')],
  ['the fabric ending', (_: CliProcess, fabric: CliProcess) => fabric.end('SIGINT')],
  ['the fabric being killed', (_: CliProcess, fabric: CliProcess) => fabric.kill()],
] as const)
  test(`capture: ${title} leaves a whole file`, async (t) => {
    const cli = folder(t);
    const fabric = await cli.fabric('run', ...twoNics);
    const [vm1, vm2] = [join2(t, cli, 'vm1'), join2(t, cli, 'vm2')];
    const file = join(cli.dir, 'x.pcapng');
    const capture = cli.start('capture', 'vm1', '-w', 'x.pcapng');
    await capture.complains(/capturing vm1/);
    await captureBegan(file);
    exchange(vm1, vm2);
    await eventually('two frames are written', () => readPcapng(readFileSync(file)).packets.length >= 2);
    await end(capture, fabric);
    const { status, stderr } = await capture.end();
    assert.equal(status, title === 'Ctrl-C' ? 0 : 1, stderr);
    assert.equal(readPcapng(readFileSync(file)).packets.length, 2);
  });

test('capture -w -: pcapng on a pipe; ends well when the reader goes', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...twoNics);
  const [vm1, vm2] = [join2(t, cli, 'vm1'), join2(t, cli, 'vm2')];
  const capture = cli.start('capture', 'vm1', '-w', '-');
  const chunks: Buffer[] = [];
  capture.child.stdout.on('data', (chunk) => chunks.push(chunk));
  await once(capture.child.stdout, 'data');
  exchange(vm1, vm2);
  await eventually('two frames come', () => readPcapng(Buffer.concat(chunks)).packets.length >= 2);
  capture.child.stdout.destroy();
  exchange(vm1, vm2);
  const { status, stderr } = await capture.end();
  assert.equal(status, 0, stderr);
  await stopped(fabric);
});

test('capture: a file that cannot be written is refused by name', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...twoNics);
  const { status, stderr } = await cli.run('capture', 'vm1', '-w', 'none/x.pcapng');
  assert.equal(status, 2);
  assert.match(stderr, /^netbe: cannot write none\/x\.pcapng: ENOENT$/m);
  await stopped(fabric);
});

test('ports --watch: rates; ends well when the reader goes', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...twoNics);
  const watch = cli.start('ports', '--watch', '0.1');
  await watch.prints(/TX PPS/);
  watch.child.stdout.destroy();
  assert.equal((await watch.end()).status, 0);
  const json = cli.start('ports', '--watch', '0.1', '--json');
  await json.prints(/\n.*\n/);
  assert.equal(JSON.parse(json.stdout.split('\n')[1] as string).ports.length, 2);
  await json.kill();
  await stopped(fabric);
});
