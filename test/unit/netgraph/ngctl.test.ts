import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { scriptLines, splitFiles, writeBytes } from '../../../src/netgraph/ngctl/files.js';
import { NgctlSession, runNgctl, takeEvents } from '../../../src/netgraph/ngctl/session.js';
import { GraphLab } from '../../support/netgraph.js';

/** A socket p: with hooks a and b on a bridge br0:. */
function bridged(): GraphLab {
  const lab = new GraphLab();
  lab.probe('p');
  lab.ngctl('mkpeer p: bridge a link0');
  lab.ngctl('name p:a br0');
  lab.ngctl('connect p: br0: b link1');
  return lab;
}

describe('ngctl tells', () => {
  test('show: name, type, ID in eight hexadecimal digits, and the hooks in five columns', () => {
    using lab = bridged();
    const rows = [
      '  Name: br0             Type: bridge          ID: 00000003   Num hooks: 2',
      '  Local hook      Peer name       Peer type    Peer ID         Peer hook      ',
      '  ----------      ---------       ---------    -------         ---------      ',
      '  link1           p               socket       00000001        b              ',
      '  link0           p               socket       00000001        a              ',
      '',
    ];
    assert.equal(lab.ngctl('show br0:'), rows.join('\n'));
    for (const alias of ['info', 'inquire', 'INQ']) assert.equal(lab.ngctl(`${alias} br0:`), rows.join('\n'));
    assert.equal(lab.ngctl('show -n br0:'), `${rows[0]}\n`);
    assert.equal(lab.ngctl('show [3]:'), rows.join('\n'));
    assert.equal(lab.ngctl('show br0:link1.a'), rows.join('\n'));
  });

  test('list: all nodes, those with a name, and their hooks', () => {
    using lab = bridged();
    lab.ngctl('mkpeer br0: hub link2 x');
    const list = lab.ngctl('list');
    assert.match(list, /^There are 4 total nodes:\n/);
    assert.match(list, / {2}Name: <unnamed> {7}Type: hub {13}ID: 00000004 {3}Num hooks: 1\n/);
    assert.match(lab.ngctl('ls -n'), /^There are 3 total named nodes:\n(?!.*unnamed)/s);
    assert.match(lab.ngctl('list -ln'), /link0 {11}p {15}socket {7}00000001 {8}a/);
  });

  test('types: each with the number of its nodes', () => {
    using lab = bridged();
    const lines = lab.ngctl('types').split('\n');
    assert.match(lines[0] as string, /^There are \d+ total types:$/);
    assert.equal(lines[1], '      Type name   Number of living nodes');
    assert.equal(lines[2], '      ---------   ----------------------');
    assert(lines.includes('         bridge       1'));
    assert(lines.includes('         socket       2'));
  });

  test('msg: the reply with its command, number, sender, and arguments as ASCII', () => {
    using lab = bridged();
    assert.equal(
      lab.ngctl('msg br0: getconfig'),
      'Rec\'d response "getconfig" (2) from "[3]:":\nArgs:\t{ debugLevel=1 loopTimeout=60 maxStaleness=900 minStableAge=1 }\n',
    );
    assert.equal(lab.ngctl('msg br0: reset'), '');
    assert.equal(lab.ngctl('cmd br0: getstats 0'), 'Rec\'d response "getstats" (4) from "[3]:":\nArgs:\t{}\n');
  });

  test('status and config: what the node says, or that it says nothing', () => {
    using lab = bridged();
    assert.equal(lab.ngctl('status br0:'), 'No status available for "br0:"\n');
    assert.equal(lab.ngctl('config br0: a b'), 'No config available for "br0:"\n');
    lab.ngctl('mkpeer p: echo e x');
    assert.equal(lab.ngctl('config p:e up 5'), 'Config for "p:e":\nup 5\n');
  });

  test('dot: each node, each hook, each edge once', () => {
    using lab = bridged();
    const dot = lab.ngctl('dot');
    assert.match(dot, /^graph netgraph \{\n/);
    assert.match(dot, /\n\}\n$/);
    assert(dot.includes('"3" [ label = "{br0:|{bridge|[3]:}}" ];'));
    assert.equal(dot.match(/"[0-9a-f]+\.\w+" -- "[0-9a-f]+\.\w+";/g)?.length, 2);
    assert.match(dot, /cluster_disconnected \{\n\t\tbgcolor = pink;\n\t\t"2";\n/);
    assert.equal(dot.match(/\{/g)?.length, dot.match(/\}/g)?.length);
  });

  test('help: all commands, and one with its aliases', () => {
    using lab = bridged();
    assert.equal(lab.ngctl('help').split('\n').length, 19);
    assert.equal(lab.ngctl('?'), lab.ngctl('help'));
    assert.match(lab.ngctl('help shutdown'), /^usage: {4}shutdown <path>\nAliases: {2}kill, rmnode\nSummary: /);
    for (const line of lab.ngctl('help connect').split('\n')) assert(line.length <= 66, line);
  });

  test('debug: the level, raised, lowered and set', () => {
    using lab = bridged();
    lab.ngctl('debug 3');
    lab.ngctl('debug +');
    assert.equal(lab.ngctl('debug'), 'Current debug level is 4\n');
    lab.ngctl('debug -');
    assert.equal(lab.ngctl('debug'), 'Current debug level is 3\n');
    assert.equal(lab.run('debug -1').status, 64);
  });
});

describe('ngctl changes', () => {
  test('rmhook removes both ends, of its own node or another', () => {
    using lab = bridged();
    lab.ngctl('rmhook p: b');
    assert.match(lab.ngctl('show -n br0:'), /Num hooks: 1/);
    lab.ngctl('mkpeer hub x y');
    lab.ngctl('rmhook x');
    assert.match(lab.ngctl('show -n .'), /Num hooks: 0/);
    assert.equal(lab.ngctl('rmhook nothing'), '');
  });

  test('shutdown removes a node, its hooks and its name', () => {
    using lab = bridged();
    lab.ngctl('shutdown br0:');
    assert.equal(lab.fails('show br0:'), 'No such file or directory');
    assert.match(lab.ngctl('show -n p:'), /Num hooks: 0/);
    assert.equal(lab.fails('kill br0:'), 'shutdown: No such file or directory');
  });

  test('a path is its own node where it is left out', () => {
    using lab = bridged();
    lab.ngctl('mkpeer hub x y');
    lab.ngctl('connect br0: z link9');
    assert.match(lab.ngctl('show .'), /z {15}br0/);
  });
});

describe('ngctl refuses', () => {
  test('wrong arguments: usage, status 64', () => {
    using lab = bridged();
    const cases: [string, string][] = [
      ['mkpeer a b', 'mkpeer [path] <type> <hook> <peerhook>'],
      ['connect a', 'connect [path] <relpath> <hook> <peerhook>'],
      ['name p:', 'name <path> <name>'],
      ['rmhook', 'rmhook [path] <hook>'],
      ['show', 'show [-n] <path>'],
      ['list x', 'list [-ln]'],
      ['types x', 'types'],
      ['msg br0:', 'msg path command [args ... ]'],
      ['shutdown', 'shutdown <path>'],
      ['status', 'status <path>'],
      ['config', 'config <path> [arguments]'],
      ['write a', 'write hook < -f file | byte ... >'],
      ['read', 'read <filename>'],
      ['debug 1 2', 'debug [level]'],
    ];
    for (const [line, usage] of cases)
      assert.deepEqual(lab.run(line), { output: '', error: `ngctl: usage: ${usage}\n`, status: 64, quit: false }, line);
    assert.equal(lab.run('show -x p:').error, 'ngctl: illegal option -- x\nngctl: usage: show [-n] <path>\n');
  });

  test('unknown and ambiguous commands: status 71', () => {
    using lab = bridged();
    assert.deepEqual(lab.run('frobnicate'), {
      output: '',
      error: 'ngctl: "frobnicate": unknown command\n',
      status: 71,
      quit: false,
    });
    assert.equal(lab.run('s').error, 'ngctl: "s": ambiguous command\n');
    assert.equal(lab.run('c p: x').error, 'ngctl: "c": ambiguous command\n');
  });

  test('what the graph refuses, with its errno, and why', () => {
    using lab = bridged();
    assert.equal(lab.fails('mkpeer p: nonsense x y'), 'No such file or directory');
    assert.equal(lab.fails('mkpeer p: socket x y'), 'Invalid argument');
    assert.equal(lab.fails('mkpeer p: hub a y'), 'File exists');
    assert.equal(lab.fails('connect p: br0: x link0'), 'File exists');
    assert.equal(lab.fails('connect br0: br0: link5 link6'), 'Too many levels of symbolic links');
    assert.equal(lab.fails('name p: br0'), 'Address already in use');
    assert.equal(lab.fails('name p: [5]'), 'Invalid argument');
    assert.equal(lab.fails('msg br0: nonsense'), 'Function not implemented');
    assert.equal(lab.fails('msg br0: getstats 7'), 'Socket is not connected');
    assert.equal(lab.fails('msg br0: getstats x'), 'Invalid argument');
    assert.equal(lab.fails('show p:nowhere'), 'No such file or directory');
    assert.equal(lab.fails('show a..b'), 'Invalid argument');
    assert.match(lab.run('mkpeer p: nonsense x y').error, /\(there is no node type "nonsense"\)/);
  });
});

describe('ngctl as a program', () => {
  test('an empty line does nothing; quit ends', () => {
    using lab = bridged();
    assert.deepEqual(lab.run('  '), { output: '', error: '', status: 0, quit: false });
    assert.equal(lab.run('quit').quit, true);
    assert.equal(lab.run('exit').quit, true);
  });

  test('words may hold spaces, as from a shell', () => {
    using lab = bridged();
    const session = NgctlSession.open(lab.graph, 'other') as NgctlSession;
    assert.equal(runNgctl(session, ['msg', 'br0:', 'setconfig', '{ loopTimeout=7', 'maxStaleness=9 }']).status, 0);
    assert.equal(lab.ask('br0:', 'getconfig'), '{ loopTimeout=7 maxStaleness=9 }');
    session.close();
  });

  test('write sends a frame; what comes in is dumped', () => {
    using lab = bridged();
    const session = NgctlSession.open(lab.graph, 'other') as NgctlSession;
    assert.equal(runNgctl(session, 'mkpeer echo x y').status, 0);
    assert.equal(runNgctl(session, 'write x 0x41 66 0103 -1').status, 0);
    assert.equal(
      takeEvents(session),
      'Rec\'d data packet on hook "x":\n0000:  41 42 43 ff                                      ABC.            \n',
    );
    assert.equal(runNgctl(session, 'w x 300').error, 'ngctl: invalid byte "300"\n');
    assert.equal(runNgctl(session, 'w nohook 1').error, 'ngctl: writing to hook "nohook": Socket is not connected\n');
    assert.equal(takeEvents(session), '');
    session.close();
  });

  test('a session whose node somebody else shuts down says so', () => {
    using lab = bridged();
    const session = NgctlSession.open(lab.graph, 'other') as NgctlSession;
    lab.ngctl('shutdown other:');
    assert.equal(runNgctl(session, 'list').status, 71);
    session.close();
  });

  test('a name in use: no session', () => {
    using lab = bridged();
    assert.equal(NgctlSession.open(lab.graph, 'br0'), 'EADDRINUSE');
  });

  test('files are split off: scripts, output of dot, frames', () => {
    assert.deepEqual(splitFiles('read /a/b'), { argv: [], script: '/a/b' });
    assert.deepEqual(splitFiles('. x'), { argv: [], script: 'x' });
    assert.deepEqual(splitFiles('dot out.dot'), { argv: ['dot'], outputFile: 'out.dot' });
    assert.deepEqual(splitFiles('write h -f x'), { argv: ['write', 'h'], input: 'x' });
    assert.deepEqual(splitFiles('list -l'), { argv: ['list', '-l'] });
    assert.deepEqual(writeBytes(Uint8Array.of(1, 255)), ['1', '255']);
    assert.equal(writeBytes(new Uint8Array(0)), undefined);
    assert.deepEqual(scriptLines('# c\nlist\n\nshow x:\n'), [
      { line: 'list', number: 2 },
      { line: 'show x:', number: 4 },
    ]);
  });
});
