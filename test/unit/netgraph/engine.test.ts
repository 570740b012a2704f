import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as A from '../../../src/netgraph/abi.js';
import { decodeId, isNodeName, parseAddress } from '../../../src/netgraph/address.js';
import type { NgBurst } from '../../../src/netgraph/burst.js';
import { hooklistType, namelistType, nodeinfoType, typelistType } from '../../../src/netgraph/generic.js';
import type { NgHook } from '../../../src/netgraph/hook.js';
import { decodeMessage, encodeMessage, newMessage, putString } from '../../../src/netgraph/message.js';
import type { NgMethods, NgNode, NgType } from '../../../src/netgraph/node.js';
import { unpack } from '../../../src/netgraph/parse/parse-type.js';
import { GraphLab, type Probe } from '../../support/netgraph.js';

const generic = (probe: Probe, path: string, cmd: number, data?: Uint8Array) =>
  probe.socket.send(path, A.NGM_GENERIC_COOKIE, cmd, data);

/** A type whose nodes have these methods; the last node made is `made`. */
function ownType(methods: (node: NgNode) => NgMethods, name = 'own'): NgType & { made: NgNode | undefined } {
  const type: NgType & { made: NgNode | undefined } = {
    name,
    made: undefined,
    create: (node) => {
      type.made = node;
      return methods(node);
    },
  };
  return type;
}

describe('addresses', () => {
  test('a node and hooks, or hooks only', () => {
    assert.deepEqual(parseAddress('br0:'), { node: 'br0', hooks: [] });
    assert.deepEqual(parseAddress('.:a.b'), { node: '.', hooks: ['a', 'b'] });
    assert.deepEqual(parseAddress('a.b.'), { node: undefined, hooks: ['a', 'b'] });
    assert.deepEqual(parseAddress('.'), { node: undefined, hooks: [] });
    for (const bad of [':', 'a.b:', 'a:b:c', 'a..b', 'a:..', 'x'.repeat(512)])
      assert.equal(parseAddress(bad), undefined, bad);
  });

  test('IDs in brackets are hexadecimal; names are 1 to 31 bytes and no IDs', () => {
    assert.equal(decodeId('[1f]'), 31);
    for (const bad of ['[0]', '[]', '[g]', '1f', '[-1]', '[123456789]']) assert.equal(decodeId(bad), 0, bad);
    assert.equal(isNodeName('x'.repeat(31)), true);
    for (const bad of ['', 'x'.repeat(32), 'a.b', 'a:', '[1f]']) assert.equal(isNodeName(bad), false, bad);
  });
});

describe('messages', () => {
  test('binary form: version 8, 56 bytes of header, little-endian', () => {
    const bytes = encodeMessage(newMessage(0x01020304, 5, Uint8Array.of(9), { token: 6, cmdstr: 'name', flags: 1 }));
    assert.equal(
      Buffer.from(bytes).toString('hex'),
      `0800000001000000050000000100000006000000040302016e616d65${'00'.repeat(28)}09`,
    );
    assert.deepEqual(decodeMessage(bytes)?.data, Uint8Array.of(9));
    bytes[0] = 7;
    assert.equal(decodeMessage(bytes), undefined);
    assert.equal(decodeMessage(bytes.subarray(0, 55)), undefined);
  });

  test('every generic message with arguments of another size: EINVAL', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    for (const cmd of [A.NGM_MKPEER, A.NGM_CONNECT, A.NGM_NAME, A.NGM_RMHOOK, A.NGM_BINARY2ASCII, A.NGM_ASCII2BINARY])
      for (const size of [0, 31, 33, 1000])
        assert.equal(generic(probe, '.', cmd, new Uint8Array(size)), 'EINVAL', `${cmd}`);
    assert.equal(generic(probe, '.', 15), 'EINVAL');
    assert.equal(generic(probe, 'nowhere:', A.NGM_NODEINFO), 'ENOENT');
    assert.equal(generic(probe, 'a:b:c', A.NGM_NODEINFO), 'EINVAL');
  });

  test('a message in BINARY2ASCII whose length lies: EINVAL', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    const inner = encodeMessage(newMessage(A.NGM_GENERIC_COOKIE, A.NGM_NAME, new Uint8Array(32)));
    new DataView(inner.buffer).setUint32(4, 1000, true);
    assert.equal(generic(probe, '.', A.NGM_BINARY2ASCII, inner), 'EINVAL');
    const unknown = encodeMessage(newMessage(1, 2));
    assert.equal(generic(probe, '.', A.NGM_BINARY2ASCII, unknown), 'ENOSYS');
    const short = encodeMessage(newMessage(A.NGM_GENERIC_COOKIE, A.NGM_NAME, new Uint8Array(3)));
    assert.equal(generic(probe, '.', A.NGM_BINARY2ASCII, short), 'EINVAL');
  });

  test('NODEINFO, LISTHOOKS, LISTNAMES, LISTNODES, LISTTYPES as structures', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: hub a x');
    const ask = <T>(cmd: number, type: Parameters<typeof unpack<T>>[0]) => {
      assert.equal(generic(probe, '.', cmd), undefined);
      const reply = probe.socket.recv();
      assert(reply);
      assert.equal(reply.message.flags, A.NGF_RESP);
      assert.equal(reply.path, '[1]:');
      return unpack(type, reply.message.data);
    };
    assert.deepEqual(ask(A.NGM_NODEINFO, nodeinfoType), { name: 'p', type: 'socket', id: 1, hooks: 1 });
    const hub = { name: '', type: 'hub', id: 3, hooks: 1 };
    assert.deepEqual(ask(A.NGM_LISTHOOKS, hooklistType)?.linkinfo, [{ ourhook: 'a', peerhook: 'x', nodeinfo: hub }]);
    assert.deepEqual(
      ask(A.NGM_LISTNODES, namelistType)?.nodeinfo.map(({ id }) => id),
      [1, 2, 3],
    );
    assert.deepEqual(
      ask(A.NGM_LISTNAMES, namelistType)?.nodeinfo.map(({ name }) => name),
      ['p', 'ngctl'],
    );
    assert(
      ask(A.NGM_LISTTYPES, typelistType)?.typeinfo.some(
        ({ typename, numnodes }) => typename === 'hub' && numnodes === 1,
      ),
    );
  });

  test('generic messages have an ASCII form too', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    lab.ngctl('msg p: mkpeer { type="hub" ourhook="a" peerhook="x" }');
    lab.ngctl('msg p:a name { name="h" }');
    lab.ngctl('msg p: connect { path="h:" ourhook="b" peerhook="y" }');
    probe.send('a', Buffer.from([1]));
    assert.deepEqual(probe.counts(), { b: 1 });
    assert.equal(lab.ask('h:', 'nodeinfo'), '{ name="h" type="hub" id=0x3 hooks=2 }');
    assert.match(lab.ask('h:', 'listnames'), /^\{ numnames=3 nodeinfo=\[ /);
    assert.match(lab.ask('h:', 'listtypes'), /typename="hub" numnodes=1/);
    assert.equal(lab.fails('msg h: textstatus'), 'Invalid argument');
    assert.equal(lab.fails('msg h: textconfig'), 'Invalid argument');
    lab.ngctl('msg h: rmhook { hook="x" }');
    lab.ngctl('msg h: shutdown');
    assert.equal(lab.fails('show h:'), 'No such file or directory');
  });

  test('a string without NUL ends with its field', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    const name = new Uint8Array(32).fill(0x78);
    assert.equal(generic(probe, '.', A.NGM_NAME, name), undefined);
    lab.ngctl(`show ${'x'.repeat(31)}:`);
    putString(name, 0, 32, '');
    assert.equal(generic(probe, '.', A.NGM_NAME, name), 'EINVAL');
  });

  test('two nodes that answer each other for ever are cut short, and the log says so', () => {
    using lab = new GraphLab();
    const answer = ownType((node) => ({
      rcvmsg: (msg) => {
        node.engine.sendMessage(node.engine.nodeById(msg.from) as NgNode, { ...msg, flags: 0, from: node.id });
        return undefined;
      },
    }));
    lab.graph.registerType(answer);
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: own a x');
    lab.ngctl('mkpeer p: own b y');
    const first = lab.graph.resolve(probe.socket.node, 'a');
    const second = lab.graph.resolve(probe.socket.node, 'b');
    assert(typeof first !== 'string' && typeof second !== 'string');
    lab.graph.sendMessage(first.node, newMessage(99, 1, undefined, { from: second.node.id }));
    assert.deepEqual(
      lab.runtime.records.map(({ message }) => message),
      ['netgraph: messages answer each other without end; dropped'],
    );
  });
});

describe('life cycle', () => {
  test('a type may refuse a node, a hook, a connection; nothing is left', () => {
    using lab = new GraphLab();
    lab.probe('p');
    lab.graph.registerType({ name: 'never', create: () => 'ENOMEM' });
    lab.graph.registerType(ownType(() => ({ newhook: () => 'EPERM' }), 'nohook'));
    lab.graph.registerType(ownType(() => ({ connect: () => 'EBUSY' }), 'noconnect'));
    const before = lab.runtime.counters.directory().length;
    lab.ngctl('list');
    assert.equal(lab.fails('mkpeer p: never a x'), 'Cannot allocate memory');
    assert.equal(lab.fails('mkpeer p: nohook a x'), 'Operation not permitted');
    assert.equal(lab.fails('mkpeer p: noconnect a x'), 'Device busy');
    assert.match(lab.ngctl('show p:'), /Num hooks: 0/);
    assert.equal(lab.graph.listNodes().length, 2);
    assert.equal(lab.runtime.counters.directory().length, before + 1);
  });

  test('methods are called in order: newhook, connect, disconnect, shutdown, close', () => {
    using lab = new GraphLab();
    const calls: string[] = [];
    const note = (name: string) => void calls.push(name);
    lab.graph.registerType(
      ownType(() => ({
        newhook: () => note('newhook') as undefined,
        connect: (hook) => note(`connect ${hook.peer?.name}`) as undefined,
        closing: () => note('closing'),
        disconnect: (hook) => note(`disconnect ${hook.peer?.name}`),
        shutdown: () => note('shutdown') as never,
        close: () => note('close'),
      })),
    );
    lab.probe('p');
    lab.ngctl('mkpeer p: own a x');
    lab.ngctl('shutdown p:a');
    assert.deepEqual(calls, ['newhook', 'connect a', 'closing', 'disconnect undefined', 'shutdown', 'close']);
  });

  test('a persistent node stays, without hooks, until the graph closes', () => {
    const lab = new GraphLab();
    let closed = 0;
    lab.graph.registerType(ownType(() => ({ shutdown: () => true, close: () => closed++ })));
    lab.probe('p');
    lab.ngctl('mkpeer p: own a x');
    lab.ngctl('name p:a o');
    lab.ngctl('shutdown o:');
    assert.match(lab.ngctl('show o:'), /Num hooks: 0/);
    lab.close();
    assert.equal(closed, 1);
    assert.deepEqual(lab.runtime.counters.directory(), []);
  });

  test('a method that throws is an error of the message, not of the fabric', () => {
    using lab = new GraphLab();
    lab.graph.registerType(
      ownType(() => ({
        rcvmsg: () => {
          throw new Error('oops');
        },
        rcvdata: () => {
          throw new Error('oops');
        },
        disconnect: () => {
          throw new Error('oops');
        },
      })),
    );
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: own a x');
    assert.equal(probe.socket.send('p:a', 1, 1), 'EIO');
    probe.send('a', Buffer.from([1]), Buffer.from([2]));
    probe.send('a', Buffer.from([3]));
    assert.equal(lab.counter('p:a', 'drop_failed'), 3);
    lab.ngctl('rmhook p: a');
    assert.match(lab.ngctl('show -n p:'), /Num hooks: 0/);
  });

  test('what happens to a node while a method of it runs, happens afterwards', () => {
    using lab = new GraphLab();
    const calls: string[] = [];
    const own = ownType((node) => ({
      rcvdata: (hook) => {
        node.engine.removeNode(node);
        calls.push(`still there: ${node.valid} ${hook.valid}`);
      },
      disconnect: () => calls.push('disconnect'),
      close: () => calls.push('close'),
    }));
    lab.graph.registerType(own);
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: own a x');
    probe.send('a', Buffer.from([1]));
    assert.deepEqual(calls, ['still there: true true', 'disconnect', 'close']);
    assert.match(lab.ngctl('show -n p:'), /Num hooks: 0/);
  });

  test('a hook removed from within its own data: the rest of the burst is dropped and counted', () => {
    using lab = new GraphLab();
    const own = ownType((node) => ({
      rcvdata: (hook, burst) => {
        node.engine.destroyHook(hook);
        hook.send(burst);
      },
    }));
    lab.graph.registerType(own);
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: own a x');
    probe.send('a', Buffer.from([1]));
    assert.deepEqual(probe.counts(), {});
    assert.equal(own.made?.values[1], 1);
  });

  test('connecting to a node whose method runs waits for it', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    const own = ownType((node) => ({
      rcvdata: () => {
        assert.equal(node.engine.connect(node, 'late', probe.socket.node, 'late'), undefined);
        assert.equal(node.findHook('late'), undefined);
      },
    }));
    lab.graph.registerType(own);
    lab.ngctl('mkpeer p: own a x');
    probe.send('a', Buffer.from([1]));
    assert.equal(own.made?.findHook('late')?.valid, true);
  });

  test('types: a name twice is refused, and so is a bad one', () => {
    using lab = new GraphLab();
    assert.throws(() => lab.graph.registerType({ name: 'hub' }), { code: 'EEXIST' });
    assert.throws(() => lab.graph.registerType({ name: 'x'.repeat(32) }), { code: 'EINVAL' });
    assert.throws(() => lab.graph.registerType({ name: '' }), { code: 'EINVAL' });
  });

  test('nothing is left of a graph that was used', () => {
    const lab = new GraphLab();
    const ranges = () => lab.runtime.windows.windows.reduce((sum, w) => sum + w.rangeCount, 0);
    const before = ranges();
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: bridge a link0');
    lab.ngctl('mkpeer p:a vlan link1 downstream');
    lab.ngctl('mkpeer p:a one2many link2 one');
    probe.send('a', Buffer.alloc(60));
    lab.graph.close();
    assert.equal(ranges(), before);
    assert.deepEqual(lab.runtime.counters.directory(), []);
    lab.close();
  });
});

describe('turns', () => {
  test('two hubs crossed drop what goes round, count it, tell the log once, and go on', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    probe.mkpeer('.:', 'hub', 'a', 'in');
    probe.mkpeer('.:a', 'hub', 'x1', 'x1');
    probe.connect('.:a', 'x1', 'x2', 'x2');
    probe.connect('.:a', 'x1', 'x3', 'x3');
    probe.connect('.:', '.:a.x1', 'b', 'out');
    probe.send('a', Buffer.from([1]));
    assert(probe.take().length < 10_000);
    assert(lab.counter('p:a', 'drop_loop') + lab.counter('p:a.x1', 'drop_loop') > 0);
    probe.send('a', Buffer.from([2]));
    assert(probe.take().includes('b 02'));
    assert.equal(lab.runtime.records.length, 1);
    assert.match(lab.runtime.records[0]?.message ?? '', /loop/);
  });

  test('a full mesh of hubs, with more ways than could ever be gone, ends too', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    const hubs = 12;
    for (let i = 0; i < hubs; i++) {
      lab.ngctl(`mkpeer p: hub h${i} p`);
      lab.ngctl(`name p:h${i} hub${i}`);
      for (let k = 0; k < i; k++) lab.ngctl(`connect hub${i}: hub${k}: to${k} to${i}`);
    }
    probe.send('h0', ...Array.from({ length: 64 }, (_, i) => Buffer.from([i])));
    assert(probe.take().length < 200_000);
  });

  test('a chain longer than the recursion may be deep', () => {
    using lab = new GraphLab();
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: hub a x');
    lab.ngctl('name p:a h0');
    for (let i = 1; i < 300; i++) {
      lab.ngctl(`mkpeer h${i - 1}: hub out in`);
      lab.ngctl(`name h${i - 1}:out h${i}`);
    }
    lab.ngctl('connect p: h299: b end');
    probe.send('a', Buffer.from([1]), Buffer.from([2]));
    assert.deepEqual(probe.take(), ['b 01', 'b 02']);
  });

  test('a frame sent from within its receiver comes later, and whole', () => {
    using lab = new GraphLab();
    const own = ownType((node) => {
      let first = true;
      return {
        rcvdata: (hook: NgHook, burst: NgBurst) => {
          if (!first) return;
          first = false;
          hook.send(burst);
          assert.equal(node.busy, true);
        },
      };
    });
    lab.graph.registerType(own);
    const probe = lab.probe('p');
    lab.ngctl('mkpeer p: own a x');
    probe.send('a', Buffer.from([1]), Buffer.from([2]));
    assert.deepEqual(probe.take(), ['a 01', 'a 02']);
  });

  test('frames kept beyond the turn are copies, and are given back', () => {
    using lab = new GraphLab();
    const { buffers } = lab.graph;
    const burst = lab.burst([Buffer.from([1, 2, 3]), Buffer.alloc(10_000, 7), Buffer.alloc(65_600, 9)]);
    const kept = [0, 1, 2].map((i) => buffers.keep(burst, i));
    assert(kept.every((off) => off !== 0));
    assert.equal(buffers.keptCount, 3);
    lab.read(burst, 0).fill(0);
    assert.deepEqual([...buffers.window.u8.slice(kept[0], (kept[0] as number) + 3)], [1, 2, 3]);
    assert.equal(buffers.window.u8[(kept[2] as number) + 65_599], 9);
    for (const off of kept) buffers.free(off);
    assert.equal(buffers.keptCount, 0);
  });
});
