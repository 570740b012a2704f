import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { separateNgctl } from '../../../src/cli/ngctl.js';
import { ngctlHistory } from '../../../src/cli/ngctl-history.js';
import { CliFolder, type CliProcess } from '../../support/cli.js';
import { eventually } from '../../support/eventually.js';
import { tempDir } from '../../support/temp-dir.js';

const folder = (t: TestContext) => new CliFolder(t, tempDir(t));

const graph = '# a switch\nmkpeer bridge link0 link0\nname .:link0 br0\n\nmsg br0: setpersistent\n';
const nic = (n: number) => ['-s', `${n + 1}:0,virtio-net,netgraph,path=br0:,peerhook=link${n},socket=vm${n}.sock`];

test('options end where the command begins: from there on they are its own', () => {
  const separated = (line: string) => separateNgctl(line.split(' ')).join(' ');
  assert.equal(separated('ngctl show -n br0:'), 'ngctl -- show -n br0:');
  assert.equal(separated('ngctl -d -n me -f - list -l'), 'ngctl -d -n me -f - -- list -l');
  assert.equal(separated('--debug ngctl --fabric a msg x: y -1'), '--debug ngctl --fabric a -- msg x: y -1');
  assert.equal(separated('ngctl -- list'), 'ngctl -- list');
  assert.equal(separated('ngctl -f x'), 'ngctl -f x --');
  assert.equal(separated('show ngctl'), 'show ngctl');
});

test('a graph from a file, NICs on it, and what ngctl and show say of it, with its exit status', async (t) => {
  const cli = folder(t);
  writeFileSync(join(cli.dir, 'graph'), graph);
  const fabric = await cli.fabric('run', '--netgraph', 'graph', ...nic(1), ...nic(2));

  const shown = await cli.run('ngctl', 'show', 'br0:');
  assert.equal(shown.status, 0);
  assert.match(shown.stdout, /^ {2}Name: br0 {13}Type: bridge {10}ID: 00000002 {3}Num hooks: 2\n/);
  assert.match(shown.stdout, /^ {2}link1 {11}<unnamed> {7}socket {7}00000003 {8}vmlink {9}$/m);
  assert.equal((await cli.run('ngctl', 'show', '-n', 'br0:')).stdout.split('\n').length, 2);
  assert.match((await cli.run('ngctl', '-n', 'me', 'show', '.:')).stdout, /Name: me /);

  for (const [args, status, text] of [
    [['msg', 'br0:', 'getstats', '1'], 0, /^$/],
    [['msg', 'br0:', 'getstats', '9'], 71, /^ngctl: send msg: Socket is not connected\n/],
    [['msg', 'none:', 'x'], 71, /No such file or directory/],
    [['blub'], 71, /^ngctl: "blub": unknown command\n$/],
    [['mkpeer'], 64, /^ngctl: usage: mkpeer /],
    [[], 64, /^ngctl: no command specified\nngctl: usage: ngctl \[-d\] \[-f file\] \[-n name\] \[command \.\.\.\]\n$/],
    [['-f', 'none'], 66, /^ngctl: none: No such file or directory\n$/],
    [['-n', 'br0', 'list'], 2, /can't create node br0/],
  ] as const) {
    const result = await cli.run('ngctl', ...args);
    assert.equal(result.status, status, `${args.join(' ')}: ${result.stderr}`);
    assert.match(result.stderr, text);
  }

  const everything = await cli.run('show');
  assert.match(everything.stdout, /peer br0:, type bridge, peerhook link1/);
  assert.match(everything.stdout, /netgraph: 3 nodes\n/);
  const { netgraph } = JSON.parse((await cli.run('show', '--json')).stdout);
  assert.deepEqual(netgraph.nodes[0].hooks[0], {
    name: 'link2',
    peerHook: 'vmlink',
    peerId: '4',
    peerName: '',
    peerType: 'socket',
  });
  const { status, stderr } = await fabric.end('SIGINT');
  assert.equal(status, 0, stderr);
});

test('scripts: from files and standard input, one within another, up to the first error, with its line', async (t) => {
  const cli = folder(t);
  writeFileSync(join(cli.dir, 'graph'), graph);
  await cli.fabric('run', '--netgraph', 'graph');
  writeFileSync(join(cli.dir, 'inner'), 'list -n\n');
  writeFileSync(join(cli.dir, 'outer'), '#\nread inner\nmsg br0: nonsense\nlist\n');
  writeFileSync(join(cli.dir, 'frame'), Buffer.from('abc'));

  const outer = await cli.run('ngctl', '-f', 'outer');
  assert.equal(outer.status, 71);
  assert.match(outer.stdout, /^There are 2 total named nodes:\n/);
  assert.equal(outer.stdout.match(/There are/g)?.length, 1);
  assert.match(outer.stderr, /ngctl: line 3: error in file\n$/);

  const fromInput = cli.start('ngctl', '-f', '-');
  fromInput.child.stdin.end('mkpeer echo e e\nwrite e 1 0x2 255\nwrite e -f frame\nquit\nblub\n');
  const { status, stderr } = await fromInput.end();
  assert.equal(status, 0, stderr);

  assert.equal((await cli.run('ngctl', 'dot', 'graph.dot')).status, 0);
  assert.match(readFileSync(join(cli.dir, 'graph.dot'), 'utf8'), /^graph netgraph \{/);
  const loop = join(cli.dir, 'loop');
  writeFileSync(loop, `read ${loop}\n`);
  assert.match((await cli.run('ngctl', '-f', loop)).stderr, /files read each other/);
});

test('a graph that cannot be made keeps the fabric from starting, with the command and the reason', async (t) => {
  const cli = folder(t);
  writeFileSync(join(cli.dir, 'graph'), 'mkpeer bridge link0 link0\nmkpeer blub a b\n');
  const { status, stderr } = await cli.run('run', '--netgraph', 'graph', ...nic(1));
  assert.equal(status, 2);
  assert.match(stderr, /^netbe: netgraph: "mkpeer blub a b": send msg: .*there is no node type "blub"/);
  assert(!existsSync(join(cli.dir, 'vm1.sock')));
  const missing = await cli.run('run', '--netgraph', 'none', ...nic(1));
  assert.equal(missing.status, 2);
  assert.match(missing.stderr, /--netgraph none: ENOENT/);
});

test('the options of a NIC on a graph are those of bhyve, with its messages', async (t) => {
  const cli = folder(t);
  writeFileSync(join(cli.dir, 'graph'), graph);
  await cli.fabric('run', '--netgraph', 'graph', ...nic(1));
  const add = (options: string) => cli.run('nic', 'add', `9,virtio-net,netgraph${options},socket=x.sock`);
  for (const [options, message] of [
    [',peerhook=link5', /^netbe: path must be provided\n/],
    [',path=br0:', /^netbe: peer hook must be provided\n/],
    [',path=br0:,peerhook=link1', /given twice/],
    [',path=none:,peerhook=link1', /^netbe: can't connect to node none: \(hook link1\): No such file or directory/],
    [',path=br0:,peerhook=nolink', /can't connect to node br0: .*Invalid argument/],
    [',path=br0:,peerhook=link5,backend.socket=br0', /can't get Netgraph sockets named br0: Address already in use/],
  ] as const) {
    const { status, stderr } = await add(options);
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
  assert.equal((await add(',path=br0:,peerhook=link5,hook=mine')).status, 0);
  assert.match((await cli.run('ngctl', 'show', 'br0:')).stdout, /link5 .* mine /);
});

test('the history of the prompt is kept, newest first, and a place where it cannot be is no error', (t) => {
  const dir = tempDir(t);
  const history = ngctlHistory(join(dir, 'state', 'netbe', 'history'));
  assert.deepEqual(history.load(), []);
  history.save(['list', 'types']);
  assert.deepEqual(history.load(), ['list', 'types']);
  ngctlHistory(join(dir, 'state', 'netbe', 'history', 'below')).save(['x']);
});

/** Types at the prompt of ngctl, and reads what the terminal shows. */
class Prompt {
  readonly cli: CliProcess;
  /** how much of the output has been read */
  #read = 0;

  constructor(cli: CliFolder) {
    this.cli = cli.startOnTerminal('ngctl -n me', { NETBE_NGCTL_HISTORY: join(cli.dir, 'history') });
  }

  /** What is shown until the next prompt, as text. */
  untilPrompt(): Promise<string> {
    return this.until('\n+ ');
  }

  async until(end: string): Promise<string> {
    const unread = () => stripVTControlCharacters(this.cli.stdout).replaceAll('\r', '').slice(this.#read);
    await eventually(`"${end}" on the terminal`, () => unread().includes(end));
    const text = unread().slice(0, unread().indexOf(end) + end.length);
    this.#read += text.length;
    return text;
  }

  type(keys: string): void {
    this.cli.child.stdin.write(keys);
  }
}

const ENTER = '\r';
const UP = '\x1b[A';
const CONTROL_D = '\x04';

test('on a terminal: help, a prompt, commands and their errors, a history for the arrow keys, the end by quit', async (t) => {
  const cli = folder(t);
  writeFileSync(join(cli.dir, 'graph'), graph);
  await cli.fabric('run', '--netgraph', 'graph');
  const prompt = new Prompt(cli);
  assert.match(await prompt.untilPrompt(), /Available commands:[\s\S]* mkpeer /);
  prompt.type(`show br0:${ENTER}`);
  assert.match(await prompt.untilPrompt(), /Name: br0 {13}Type: bridge/);
  prompt.type(`blub${ENTER}`);
  assert.match(await prompt.untilPrompt(), /ngctl: "blub": unknown command/);
  // twice back, past the command that failed
  prompt.type(UP + UP);
  await prompt.until('show br0:');
  prompt.type(ENTER);
  assert.match(await prompt.untilPrompt(), /Name: br0 {13}Type: bridge/);
  // what comes to the node is shown as it comes
  prompt.type(`mkpeer echo e e${ENTER}`);
  await prompt.untilPrompt();
  prompt.type(`write e 1 2 255${ENTER}`);
  await prompt.until('ff');
  prompt.type(`quit${ENTER}`);
  const { status, stdout } = await prompt.cli.end();
  assert.equal(status, 0, stdout);
});

test('on a terminal: the history lasts to the next time, and the end of the input is an end like quit', async (t) => {
  const cli = folder(t);
  writeFileSync(join(cli.dir, 'graph'), graph);
  await cli.fabric('run', '--netgraph', 'graph');
  const first = new Prompt(cli);
  await first.untilPrompt();
  first.type(`types${ENTER}`);
  await first.untilPrompt();
  first.type(CONTROL_D);
  assert.equal((await first.cli.end()).status, 0);
  const second = new Prompt(cli);
  await second.untilPrompt();
  second.type(UP);
  await second.until('types');
  second.type(ENTER);
  assert.match(await second.untilPrompt(), /There are \d+ total types/);
  second.type(CONTROL_D);
  assert.equal((await second.cli.end()).status, 0);
});

test('on a terminal: a fabric that ends is told, with the exit status of an error', async (t) => {
  const cli = folder(t);
  writeFileSync(join(cli.dir, 'graph'), graph);
  const fabric = await cli.fabric('run', '--netgraph', 'graph');
  const prompt = new Prompt(cli);
  await prompt.untilPrompt();
  await fabric.end('SIGINT');
  const { status, stdout } = await prompt.cli.end();
  assert.match(stdout, /ngctl: the fabric has ended/);
  assert.equal(status, 71);
});
