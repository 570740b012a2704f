import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { NgNode } from '../../../src/netgraph/node.js';
import { parseAscii, unparseAscii } from '../../../src/netgraph/parse/parse-type.js';
import { pipeCfg, pipeRun, pipeStats } from '../../../src/netgraph/pipe/messages.js';
import { GraphLab, type Probe } from '../../support/netgraph.js';
import { etherFrame } from '../../support/test-guest.js';

/** A pipe between two hooks of one socket: "up" leads to its upper hook, "down" to its lower one. */
function piped(lab: GraphLab): Probe {
  const probe = lab.probe('me');
  assert.equal(probe.mkpeer('.', 'pipe', 'up', 'upper'), undefined);
  assert.equal(probe.connect('.', '.:up', 'down', 'lower'), undefined);
  return probe;
}

function set(probe: Probe, config: string): void {
  assert.equal(probe.socket.sendAscii('.:up', 'setcfg', config), undefined);
}

/** The answer to a command without arguments, in ASCII. */
function get(probe: Probe, command: string): string {
  assert.equal(probe.socket.sendAscii('.:up', command, ''), undefined);
  const data = probe.socket.recv()!.message.data;
  const type = { getcfg: pipeCfg, getrun: pipeRun, getstats: pipeStats, getclrstats: pipeStats }[command]!;
  return unparseAscii(type, data);
}

function waitFor(lab: GraphLab, done: () => boolean): void {
  while (!done()) lab.runtime.loop.step(-1);
}

const frame = etherFrame(1, 2, 100);

describe('pipe node', () => {
  test('has the hooks upper and lower and no others, and goes with the last', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    assert.equal(probe.mkpeer('.', 'pipe', 'x', 'middle'), 'EINVAL');
    assert.equal(probe.mkpeer('.', 'pipe', 'x', 'upper'), undefined);
    lab.graph.destroyHook(probe.socket.node.findHook('x')!);
    assert.deepEqual(
      lab.graph.listNodes().map((n) => n.type.name),
      ['socket'],
    );
  });

  test('passes frames at once while nothing is configured', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    probe.send('up', frame, frame);
    probe.send('down', frame);
    assert.deepEqual(probe.counts(), { down: 2, up: 1 });
    assert.equal(
      get(probe, 'getstats'),
      '{ downstream={ FwdOctets=200 FwdFrames=2 } upstream={ FwdOctets=100 FwdFrames=1 } }',
    );
    assert.equal(
      get(probe, 'getclrstats'),
      '{ downstream={ FwdOctets=200 FwdFrames=2 } upstream={ FwdOctets=100 FwdFrames=1 } }',
    );
    assert.equal(get(probe, 'getstats'), '{}');
  });

  test('a frame arrives no sooner than the delay, byte for byte, and its buffer is free again', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    set(probe, '{ delay=3000 }');
    const sentMs = performance.now();
    probe.send('up', frame);
    assert.equal(get(probe, 'getrun'), '{ downstream={ delayedOctets=100 delayedFrames=1 } }');
    assert.equal(lab.graph.buffers.keptCount, 1);
    waitFor(lab, () => probe.seen.length > 0);
    assert.ok(performance.now() - sentMs >= 3);
    assert.deepEqual(probe.take(), [`down ${Buffer.from(frame).toString('hex')}`]);
    assert.equal(lab.graph.buffers.keptCount, 0);
    assert.equal(get(probe, 'getrun'), '{}');
  });

  test('lets the thread sleep until shortly before a frame is due, and again when none waits', () => {
    using lab = new GraphLab();
    const { loop } = lab.runtime;
    const probe = piped(lab);
    set(probe, '{ delay=200000 }');
    assert.equal(loop.activeCount, 0);
    probe.send('up', frame);
    assert.equal(loop.activeCount, 0);
    waitFor(lab, () => probe.seen.length > 0);
    while (loop.activeCount > 0) loop.turn();
  });

  test('shut down while it is polled: the poll loop has forgotten it', () => {
    using lab = new GraphLab();
    const { loop } = lab.runtime;
    const probe = piped(lab);
    set(probe, '{ delay=20 }');
    probe.send('up', frame);
    assert.equal(loop.activeCount, 1);
    lab.graph.removeNode((lab.graph.resolve(probe.socket.node, '.:up') as { node: NgNode }).node);
    assert.equal(loop.activeCount, 0);
    assert.equal(loop.turn(), 0);
    assert.deepEqual(probe.take(), []);
    assert.equal(lab.graph.buffers.keptCount, 0);
  });

  test('both directions wait on their own; a frame that is due sooner wakes the node sooner', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    set(probe, '{ downstream={ bandwidth=1000 } upstream={ bandwidth=100000000 } }');
    probe.send('up', frame);
    probe.send('down', frame);
    waitFor(lab, () => probe.seen.length > 0);
    assert.deepEqual(probe.counts(), { up: 1 });
  });

  test('bandwidth for both directions sets the overhead of its kind of link; getcfg says it once', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    const side = '{ queuelen=50 fifo=1 droptail=1 }';
    assert.equal(get(probe, 'getcfg'), `{ downstream=${side} upstream=${side} }`);
    set(probe, '{ bandwidth=64000 delay=1000 header_offset=14 }');
    assert.match(get(probe, 'getcfg'), /^\{ bandwidth=64000 delay=1000 header_offset=14 overhead=10 /);
    set(probe, '{ bandwidth=100000000 }');
    assert.match(get(probe, 'getcfg'), /^\{ bandwidth=100000000 .*overhead=24 /);
    set(probe, '{ overhead=-1 delay=-1 header_offset=-1 upstream={ bandwidth=2000000 wfq=1 duplicate=3 } }');
    assert.equal(
      get(probe, 'getcfg'),
      '{ downstream={ bandwidth=100000000 queuelen=50 fifo=1 droptail=1 } ' +
        'upstream={ bandwidth=2000000 queuelen=50 duplicate=3 wfq=1 droptail=1 } }',
    );
    set(probe, '{ bandwidth=-1 }');
    assert.doesNotMatch(get(probe, 'getcfg'), /bandwidth/);
  });

  test('what is out of range, or zero, changes nothing', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    set(probe, '{ bandwidth=64000 delay=1000 overhead=7 header_offset=14 }');
    const before = get(probe, 'getcfg');
    set(probe, '{ bandwidth=99 delay=10000000 overhead=256 header_offset=64 }');
    assert.equal(get(probe, 'getcfg'), before);
  });

  test('refuses commands it does not have, and a setcfg of another size', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    const COOKIE = 200708191;
    assert.equal(probe.socket.send('.:up', COOKIE, 7), 'EINVAL');
    assert.equal(probe.socket.send('.:up', COOKIE + 1, 1), 'EINVAL');
    assert.equal(probe.socket.send('.:up', COOKIE, 6, new Uint8Array(119)), 'EINVAL');
    assert.equal(probe.socket.send('.:up', COOKIE, 6, new Uint8Array(121)), 'EINVAL');
    assert.equal(parseAscii(pipeCfg, '{}').length, 120);
    assert.equal(probe.socket.sendAscii('.:up', 'setcfg', '{ bandwith=1 }'), 'ENOENT');
  });

  test('BER 1 cuts the link, and both neighbours are told, also when it is whole again', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    const told = (): number[] => {
      const cmds: number[] = [];
      for (let got = probe.socket.recv(); got !== undefined; got = probe.socket.recv())
        if (got.message.typecookie === 851672669) cmds.push(got.message.cmd);
      return cmds;
    };
    set(probe, '{ downstream={ BER=1 } }');
    assert.deepEqual(told(), [33, 33]);
    probe.send('up', frame);
    probe.send('down', frame);
    waitFor(lab, () => probe.seen.length > 0);
    assert.deepEqual(probe.counts(), { up: 1 });
    assert.match(get(probe, 'getstats'), /downstream=\{ delayDropOctets=100 delayDropFrames=1 \}/);
    set(probe, '{ downstream={ BER=-1 } }');
    assert.deepEqual(told(), [32, 32]);
  });

  test('frames that wait are given back when their hook goes, and when the node is shut down', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    set(probe, '{ bandwidth=100 upstream={ duplicate=50 } }');
    probe.send('up', frame, frame, frame);
    probe.send('down', frame, frame, frame);
    assert.ok(lab.graph.buffers.keptCount >= 6);
    lab.graph.destroyHook(probe.socket.node.findHook('up')!);
    assert.ok(lab.graph.buffers.keptCount <= 4);
    assert.equal(probe.socket.send('.:down', 1137070366, 1), undefined);
    assert.equal(lab.graph.buffers.keptCount, 0);
  });

  test('tells flows apart by the IPv4 addresses behind header_offset', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    set(probe, '{ bandwidth=100 header_offset=14 downstream={ wfq=1 } }');
    const ip = (last: number): Uint8Array => {
      const bytes = etherFrame(1, 2, 100);
      bytes[14] = 0x45;
      bytes[14 + 15] = last;
      return bytes;
    };
    probe.send('up', frame, ip(1), ip(2), ip(1), ip(3), frame);
    // the first of all is on the link already
    assert.match(get(probe, 'getrun'), /queues=4 /);
  });

  test('counts what it cannot keep for want of memory', () => {
    using lab = new GraphLab();
    const probe = piped(lab);
    set(probe, '{ delay=5000000 downstream={ queuelen=100000 } }');
    const long = new Uint8Array(20_000);
    for (let i = 0; i < 300; i++) probe.send('up', long);
    assert.equal(lab.counter('.:'.replace('.', '[2]'), 'drop_no_memory'), 300 - 256);
    assert.match(get(probe, 'getstats'), /queueDropFrames=44/);
  });
});
