import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  existsSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { FabricSummary } from '../../../src/control/control-client.js';
import { landlockAbi } from '../../../src/sys/landlock.js';
import { seccompMissing } from '../../../src/sys/seccomp.js';
import { findUser } from '../../../src/sys/user.js';
import { CliFolder, CliProcess } from '../../support/cli.js';
import { tempDir } from '../../support/temp-dir.js';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const folder = (t: TestContext) => new CliFolder(t, tempDir(t));
const oneNic = ['-s', '2,virtio-net,vale0:vm1,socket=vm1.sock'];

const lacks = typeof landlockAbi() === 'string' || seccompMissing() !== undefined;
const skip = lacks && 'this kernel lacks Landlock or seccomp';

/** A field of the status of each thread of a process, as the kernel gives it. */
function ofThreads(pid: number, field: string): string[] {
  return readdirSync(`/proc/${pid}/task`).map((tid) => {
    const status = readFileSync(`/proc/${pid}/task/${tid}/status`, 'utf8');
    return new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? '';
  });
}

async function shown(cli: CliFolder, ...args: string[]): Promise<FabricSummary['sandbox']> {
  const { stdout, stderr, status } = await cli.run('show', '--json', ...args);
  assert.equal(status, 0, stderr);
  return (JSON.parse(stdout) as FabricSummary).sandbox;
}

test('run is in a sandbox, whole on every thread, and show says so', { skip }, async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...oneNic);
  const pid = fabric.child.pid as number;
  const names = ofThreads(pid, 'Name');
  assert(names.includes('netbe-fabric') && names.length > 5);
  for (const [field, value] of [
    ['NoNewPrivs', '1'],
    ['Seccomp', '2'],
    ['CapEff', '0000000000000000'],
    ['CapPrm', '0000000000000000'],
    ['CapInh', '0000000000000000'],
    ['CapAmb', '0000000000000000'],
  ] as const)
    assert.deepEqual(new Set(ofThreads(pid, field)), new Set([value]), field);

  const text = (await cli.run('show')).stdout;
  assert.match(text, /^sandbox: on$/m);
  assert.match(text, /no capabilities; no new privileges on all \d+ threads/);
  assert.match(text, /^ {2}seccomp filter, \d+ system calls allowed, on all \d+ threads$/m);
  assert(text.includes(`    ${cli.dir} (sockets)\n`));
  const sandbox = await shown(cli);
  assert.equal(sandbox?.state, 'on');
  assert(sandbox.threads.some(({ name }) => name === 'netbe-fabric'));
  assert.equal((await fabric.end('SIGINT')).status, 0);
  assert.equal(fabric.stderr.match(/warn/), null, fabric.stderr);
});

test('a NIC that is added later: where sockets are allowed; elsewhere the refusal says why', { skip }, async (t) => {
  const cli = folder(t);
  const [later, never] = [tempDir(t), tempDir(t)];
  const fabric = await cli.fabric('run', ...oneNic, '--allow-path', later);
  const add = (spec: string) => cli.run('nic', 'add', `3,virtio-net,${spec}`);
  assert.equal((await add(`vale0:vm2,socket=${later}/vm2.sock`)).status, 0);
  assert(existsSync(join(later, 'vm2.sock')));
  const { status, stderr } = await add(`vale0:vm3,socket=${never}/vm3.sock`);
  assert.equal(status, 2);
  assert.match(stderr, /^netbe: sockets in .* are not allowed, and the sandbox cannot be widened/);
  assert(stderr.includes(`Start the fabric with --allow-path ${never}, or use one of: `));
  const client = await add('vale0:vm4,socket=vm4.sock,mode=client');
  assert.match(client.stderr, /vm4\.sock is to be connected to, .*\n {2}Start the fabric with a NIC in client mode/);
  const patch = await cli.run('patch', 'vale0:up', 'stream0,addr=tcp:127.0.0.1:4000');
  assert.match(patch.stderr, /^netbe: backend stream0 needs sockets of family 2, TCP, and the sandbox/);
  assert.equal((await cli.run('nic', 'remove', 'vm2')).status, 0);
  assert(!existsSync(join(later, 'vm2.sock')));
  assert.equal((await fabric.end('SIGINT')).status, 0);
  assert(!existsSync(join(cli.dir, 'vm1.sock')));
});

test('up reads its file in the sandbox; a backend that needs TCP has it', { skip }, async (t) => {
  const cli = folder(t);
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  writeFileSync(
    join(cli.dir, 'fabric.yaml'),
    `nics:\n  - backend: vale0:a\n    socket: a.sock\npatches:\n  - { a: vale0:up, b: 'stream0,addr=tcp:127.0.0.1:${port}' }\n`,
  );
  const fabric = await cli.fabric('up', 'fabric.yaml');
  const sandbox = await shown(cli);
  assert.equal(sandbox?.state, 'on');
  assert.equal(sandbox.landlock?.tcp, 'allowed');
  assert.equal((await fabric.end('SIGTERM')).status, 0);
});

test('--no-sandbox keeps everything, and show says so', async (t) => {
  const cli = folder(t);
  const fabric = await cli.fabric('run', ...oneNic, '--no-sandbox');
  assert.match((await cli.run('show')).stdout, /^sandbox: off\n {2}not in force: --no-sandbox was given$/m);
  assert.deepEqual(
    new Set(ofThreads(fabric.child.pid as number, 'Seccomp_filters')),
    new Set(ofThreads(process.pid, 'Seccomp_filters')),
  );
  assert.equal((await fabric.end('SIGINT')).status, 0);
});

test('a backend that does not say what it needs runs without a sandbox, with a warning', async (t) => {
  const cli = folder(t);
  const module = `export const backend = { prefix: 'mine', summary: 's', example: 'mine0', options: [], needsReceive: false, open() { throw new Error(); } };`;
  writeFileSync(join(cli.dir, 'mine.mjs'), module);
  const fabric = await cli.fabric('run', ...oneNic, '--backend', 'mine.mjs');
  assert.match(fabric.stderr, /"warn".*the sandbox is off: backend mine does not say what it needs/);
  assert.equal((await shown(cli))?.state, 'off');
  assert.equal((await fabric.end('SIGINT')).status, 0);
});

for (const [calls, missing] of [
  ['landlock_create_ruleset', 'Landlock'],
  ['seccomp', 'seccomp filters'],
] as const)
  test(`a machine without ${missing} still runs, with a warning that names it`, { skip }, async (t) => {
    const cli = folder(t);
    const args = [here('../../support/lesser-kernel.js'), calls, here('../../../src/cli/main.js'), 'run', ...oneNic];
    const env = { ...process.env, XDG_RUNTIME_DIR: `${cli.dir}/run` };
    const fabric = new CliProcess(spawn(process.execPath, args, { cwd: cli.dir, env }));
    t.after(() => fabric.kill());
    await fabric.prints(/Ready\./);
    assert.match(fabric.stderr, new RegExp(`"warn".*the sandbox is not whole: ${missing} \\(.*ENOSYS`));
    const sandbox = await shown(cli);
    assert.equal(sandbox?.state, 'partial');
    assert.match(sandbox.missing.join(), new RegExp(`^${missing}`));
    assert.equal((await fabric.end('SIGINT')).status, 0);
    assert(!existsSync(join(cli.dir, 'vm1.sock')));
  });

const nobody = findUser('nobody');

/** Whether everybody can read a file and enter the folders above it. */
function isPublic(path: string): boolean {
  if ((statSync(path).mode & 0o004) === 0) return false;
  for (let dir = dirname(path); dir !== '/'; dir = dirname(dir)) if ((statSync(dir).mode & 0o001) === 0) return false;
  return true;
}

const unreachable = !isPublic(here('../../../src/cli/main.js')) || !isPublic(realpathSync(process.execPath));
const skipUser = skip || (process.getuid?.() !== 0 && 'only root can become another user');

test('--user: the fabric is that user, without capabilities; its sockets are', { skip: skipUser }, async (t) => {
  assert(nobody);
  const cli = folder(t);
  chmodSync(cli.dir, 0o755);
  if (unreachable) {
    // where netbe or Node lies out of nobody's reach, that is what must be said
    chownSync(cli.dir, nobody.uid, nobody.gid);
    const { status, stderr } = await cli.run('run', ...oneNic, '--user', 'nobody', '--control', 'c.sock');
    assert.equal(status, 2);
    assert.match(stderr, /^netbe: user nobody cannot read /);
    return;
  }
  const refused = await cli.run('run', ...oneNic, '--user', 'nobody', '--control', 'c.sock');
  assert.match(refused.stderr, /^netbe: /);
  assert.equal(existsSync(join(cli.dir, 'vm1.sock')), false);
  chownSync(cli.dir, nobody.uid, nobody.gid);
  const fabric = await cli.fabric('run', ...oneNic, '--user', 'nobody', '--control', 'c.sock');
  const pid = fabric.child.pid as number;
  assert.deepEqual(new Set(ofThreads(pid, 'Uid')), new Set([Array(4).fill(nobody.uid).join('\t')]));
  assert.deepEqual(new Set(ofThreads(pid, 'CapPrm')), new Set(['0000000000000000']));
  assert.equal(statSync(join(cli.dir, 'vm1.sock')).uid, nobody.uid);
  assert.equal((await shown(cli, '--control', 'c.sock'))?.user, nobody.uid);
  assert.equal((await fabric.end('SIGINT')).status, 0);
  assert(!existsSync(join(cli.dir, 'vm1.sock')));
});

test('--user: nobody of that name, or no right to, is refused', async (t) => {
  const cli = folder(t);
  const { status, stderr } = await cli.run('run', ...oneNic, '--user', 'no-such-user');
  assert.equal(status, 2);
  assert.equal(stderr, 'netbe: there is no user "no-such-user"\n');
  const both = await cli.run('run', ...oneNic, '--user', 'nobody', '--no-sandbox');
  assert.match(both.stderr, /^netbe: --user nobody has no meaning with --no-sandbox/);
});
