import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { NgSocket } from '../../../../src/netgraph/nodes/socket.js';
import { GraphLab } from '../../../support/netgraph.js';

describe('hub', () => {
  test('sends out of all other hooks; goes with its last, unless persistent', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: hub a x');
    lab.ngctl('name p:a h');
    probe.send('a', Buffer.from([1]));
    assert.deepEqual(probe.counts(), {});
    lab.ngctl('connect p: h: b y');
    lab.ngctl('connect p: h: c z');
    probe.send('a', Buffer.from([1]), Buffer.from([2]));
    assert.deepEqual(probe.counts(), { b: 2, c: 2 });
    lab.ngctl('msg h: setpersistent');
    for (const hook of ['a', 'b', 'c']) lab.ngctl(`rmhook p: ${hook}`);
    assert.match(lab.ngctl('show h:'), /Num hooks: 0/);
    lab.ngctl('shutdown h:');
    assert.equal(lab.fails('show h:'), 'No such file or directory');
    lab.ngctl('mkpeer p: hub a x');
    assert.equal(probe.socket.send('p:a', 1082189597, 2), 'EINVAL');
    assert.equal(probe.socket.send('p:a', 1, 1), 'EINVAL');
    lab.ngctl('rmhook p: a');
    assert.equal(lab.graph.listNodes().length, 2);
  });
});

describe('hole', () => {
  test('swallows and counts by hook', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: hole a x');
    lab.ngctl('connect p: p:a b y');
    probe.send('a', Buffer.alloc(60), Buffer.alloc(40));
    assert.equal(lab.ask('p:a', 'getstats "x"'), '{ frames=2 octets=100 }');
    assert.equal(lab.ask('p:a', 'getclrstats "x"'), '{ frames=2 octets=100 }');
    assert.equal(lab.ask('p:a', 'getstats "x"'), '{}');
    probe.send('b', Buffer.alloc(1));
    lab.ngctl('msg p:a clrstats "y"');
    assert.equal(lab.ask('p:a', 'getstats "y"'), '{}');
    assert.equal(lab.fails('msg p:a getstats "z"'), 'No such file or directory');
    assert.equal(lab.fails('msg p:a getstats'), 'Invalid argument');
    assert.equal(probe.socket.send('p:a', 915433206, 1, Buffer.alloc(3)), 'EINVAL');
    assert.equal(probe.socket.send('p:a', 915433206, 8), 'EINVAL');
    assert.equal(probe.socket.send('p:a', 8, 1), 'EINVAL');
    assert.deepEqual(probe.counts(), {});
    lab.ngctl('rmhook p: a');
    lab.ngctl('rmhook p: b');
    assert.equal(lab.graph.listNodes().length, 2);
  });
});

describe('echo', () => {
  test('sends frames back, and messages as their own reply', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: echo a x');
    probe.send('a', Buffer.from([1]), Buffer.from([2]));
    assert.deepEqual(probe.take(), ['a 01', 'a 02']);
    assert.equal(probe.socket.send('p:a', 42, 7, Buffer.from([5])), undefined);
    const reply = probe.socket.recv();
    assert.deepEqual([reply?.message.typecookie, reply?.message.cmd, reply?.message.flags], [42, 7, 1]);
    assert.deepEqual([...(reply?.message.data ?? [])], [5]);
    lab.ngctl('rmhook p: a');
    assert.equal(lab.graph.listNodes().length, 2);
  });

  test('two echoes joined end their exchange, and it is counted', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: tee l left');
    lab.ngctl('mkpeer p:l echo right x');
    lab.ngctl('name p:l t');
    lab.ngctl('connect p: t: tap right2left');
    lab.ngctl('mkpeer t: echo left2right y');
    probe.send('l', Buffer.from([1]));
    assert(probe.take().length < 10_000);
  });
});

describe('socket', () => {
  test('cannot be asked for; takes any hook; lingers without hooks, or not', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    assert.equal(lab.fails('mkpeer p: socket a b'), 'Invalid argument');
    lab.ngctl('mkpeer p: hub any-name-at_all x');
    lab.ngctl('rmhook p: any-name-at_all');
    lab.ngctl('show p:');
    lab.ngctl('msg p: nolinger');
    lab.ngctl('mkpeer p: hub a x');
    lab.ngctl('rmhook p: a');
    assert.equal(lab.fails('show p:'), 'No such file or directory');
    assert.equal(probe.socket.closed, true);
    assert.equal(probe.socket.send('.', 1, 1), 'ENOTCONN');
  });

  test('linger undoes nolinger; other messages of its cookie: EINVAL', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    lab.ngctl('msg p: nolinger');
    lab.ngctl('msg p: linger');
    lab.ngctl('mkpeer p: hub a x');
    lab.ngctl('rmhook p: a');
    lab.ngctl('show p:');
    assert.equal(probe.socket.send('p:', 851601233, 3), 'EINVAL');
  });

  test('messages wait up to 64; then the eldest are lost and counted', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    const other = lab.probe('q');
    for (let i = 0; i < 70; i++) other.socket.send('p:', 77, i);
    assert.equal(probe.socket.recv()?.message.cmd, 6);
    assert.equal(lab.counter('p:', 'drop_messages_full'), 6);
  });

  test('data for nobody is counted', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    const socket = NgSocket.open(lab.graph, 'q');
    assert(typeof socket !== 'string');
    lab.ngctl('connect p: q: a b');
    probe.send('a', Buffer.from([1]), Buffer.from([2]));
    assert.equal(lab.counter('q:', 'drop_no_reader'), 2);
  });

  test('its program hears of hooks that go, and of its end', () => {
    using lab = new GraphLab();
    const heard: string[] = [];
    const socket = NgSocket.open(lab.graph, 'q', {
      onDisconnect: (hook) => heard.push(hook.name),
      onClose: () => heard.push('closed'),
    });
    assert(typeof socket !== 'string');
    lab.ngctl('mkpeer q: hub a x');
    lab.ngctl('mkpeer q: hub b x');
    lab.ngctl('rmhook q: a');
    lab.ngctl('shutdown q:');
    assert.deepEqual(heard, ['a', 'b', 'closed']);
    assert.equal(NgSocket.open(lab.graph, 'bad.name'), 'EINVAL');
    assert.equal(lab.graph.listNodes().length, 1);
  });
});

describe('hooks that a node does not have', () => {
  for (const [type, says] of [
    ['tee', /a tee has no hook "x": they are right, left, right2left, left2right/],
    ['one2many', /a one2many has no hook "x": they are one, and many0 to many63/],
    ['patch', /a patch has the hooks in and out, not "x"/],
    ['bridge', /a bridge has no hook "x": they are link0/],
    ['pipe', /a pipe has the hooks upper and lower, not "x"/],
  ] as const)
    test(`${type}: EINVAL, and which there are`, () => {
      using lab = new GraphLab();
      const probe = lab.probe('p');
      assert.equal(probe.mkpeer('.', type, 'a', 'x'), 'EINVAL');
      assert.match(probe.socket.lastErrorText, says);
    });
});
