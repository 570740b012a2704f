import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { netBackends } from '../../../src/net-backends/registry.js';
import { CliFolder } from '../../support/cli.js';
import { tempDir } from '../../support/temp-dir.js';

const folder = (t: TestContext) => new CliFolder(t, tempDir(t));
const subcommands = [
  'run',
  'up',
  'ports',
  'show',
  'capture',
  'nic',
  'link',
  'patch',
  'unpatch',
  'qemu-args',
  'uml-args',
  'vale-ctl',
  'pkt-gen',
  'lb',
  'bridge',
  'schema',
];

test('help names every subcommand, and each has help of its own', async (t) => {
  const cli = folder(t);
  const all = await cli.run('--help');
  assert.equal(all.status, 0);
  for (const name of subcommands) {
    assert.match(all.stdout, new RegExp(`^  ${name}\\b`, 'm'));
    const help = await cli.run(name, '--help');
    assert.equal(help.status, 0);
    assert.match(help.stdout, new RegExp(`^Usage: netbe ${name}`));
  }
});

test('the help of run lists every backend with every option', async (t) => {
  const { stdout } = await folder(t).run('run', '-s', 'help');
  for (const type of netBackends) {
    assert(stdout.includes(type.summary), type.prefix);
    for (const option of type.options) assert(stdout.includes(`${option.name}=${option.value}`), option.name);
  }
});

const refusals: { args: string[]; status: number; says: RegExp }[] = [
  { args: ['bogus'], status: 2, says: /unknown command 'bogus'\n {2}netbe --help shows what is allowed\.$/ },
  { args: ['port'], status: 2, says: /Did you mean ports\?/ },
  { args: ['ports', '--bogus'], status: 2, says: /unknown option '--bogus'\n {2}netbe ports --help/ },
  { args: ['ports', '--watch', '0'], status: 2, says: /Give seconds from 0\.1 to 3600\./ },
  { args: [], status: 2, says: /Usage: netbe/ },
  { args: ['run'], status: 2, says: /^netbe: no NIC is given\n {2}Give one with -s / },
  { args: ['run', '-s', '2:0,virtio-nte,vale0:a'], status: 2, says: /\n {2}-s 2:0,virtio-nte,vale0:a\n {9}\^~{9}\n/ },
  {
    args: ['run', '-s', '2,virtio-net,vale0:a,socket=a', '-s', '3,virtio-net,vale0:b,socket=a'],
    status: 2,
    says: /^netbe: name a is given twice: by -s 2,.* and by -s 3,/,
  },
  { args: ['up', 'none.yaml'], status: 2, says: /^netbe: cannot read none\.yaml: ENOENT\n/ },
  { args: ['ports'], status: 3, says: /^netbe: no fabric is running at .*default\.sock\n {2}Start one with netbe run/ },
  { args: ['ports', '--fabric', 'a/b'], status: 2, says: /name "a\/b" is not allowed/ },
  { args: ['capture', 'vm1'], status: 2, says: /required option '-w, --write <file>'/ },
  { args: ['capture', 'vm1', '-w', 'x', '-c', '0'], status: 2, says: /Give a number of frames, 1 or more\./ },
  { args: ['link', 'vm1', 'sideways'], status: 2, says: /neither up nor down/ },
  { args: ['schema', 'other'], status: 2, says: /Allowed choices are fabric, openapi\./ },
  { args: ['qemu-args', 'a b.sock'], status: 2, says: /characters that need quotes\n {2}Use --quote/ },
  {
    args: ['uml-args', 'vm1'],
    status: 2,
    says: /^netbe: there is no NIC "vm1" in a running fabric\n {2}Start the fabric first/,
  },
  { args: ['run', '-s', '2,virtio-net,vale0:a,socket=no/a'], status: 1, says: /^netbe: .*no\/a.*ENOENT/m },
];

for (const { args, status, says } of refusals)
  test(`netbe ${args.join(' ')}: status ${status}, and says why, without a stack`, async (t) => {
    const result = await folder(t).run(...args);
    assert.equal(result.status, status, result.stderr);
    assert.match(result.stderr.trimEnd(), says);
    assert.doesNotMatch(result.stderr, /\n {4}at /);
    assert.equal(result.stdout, '');
  });

test('--debug shows where an error happened', async (t) => {
  const { status, stderr } = await folder(t).run('ports', '--debug');
  assert.equal(status, 3);
  assert.match(stderr, /\n {4}at /);
});

test('up --check points into a wrong file, and passes a right one', async (t) => {
  const cli = folder(t);
  const file = join(cli.dir, 'fabric.yaml');
  writeFileSync(file, 'nics:\n  - backend: vale0:a\n    scoket: a\n');
  const wrong = await cli.run('up', '--check', 'fabric.yaml');
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /fabric\.yaml:3:5: unknown key "scoket" in nics\[0\]; did you mean socket\?/);
  writeFileSync(file, 'nics:\n  - backend: vale0:a\n    socket: a\n');
  assert.deepEqual(await cli.run('up', '--check', 'fabric.yaml'), {
    status: 0,
    signal: null,
    stdout: 'fabric.yaml is right: 1 NIC\n',
    stderr: '',
  });
});

test('the schemas that are printed are those that are published', async (t) => {
  const cli = folder(t);
  for (const [which, file] of [
    ['fabric', 'fabric.schema.json'],
    ['openapi', 'openapi.json'],
  ] as const) {
    const { stdout } = await cli.run('schema', which);
    const { default: published } = await import(`../../../../docs/${file}`, { with: { type: 'json' } });
    assert.deepEqual(JSON.parse(stdout), published);
  }
});

test('guest arguments for a socket that no fabric knows are made, with a note', async (t) => {
  const cli = folder(t);
  const qemu = await cli.run('qemu-args', 'vm1.sock', '--qemu-version', '11.1', '--json');
  assert.equal(qemu.status, 0);
  assert.match(qemu.stderr, /no running fabric knows vm1\.sock/);
  assert(
    (JSON.parse(qemu.stdout) as string[]).includes(
      `socket,id=netbe-chr-vm1,path=${cli.dir}/vm1.sock,reconnect-ms=1000`,
    ),
  );
  const uml = await cli.run('uml-args', 'vm1.sock');
  assert.equal(uml.stdout, `virtio_uml.device=${cli.dir}/vm1.sock:1\n`);
});
