import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import type { NetBackend } from '../../../src/net-backends/net-backend.js';
import { openBackend } from '../../../src/net-backends/registry.js';
import { valeSwitches } from '../../../src/netmap/vale/switches.js';
import { FrameBuffer } from '../../conformance/backend-peers.js';
import { type TestRuntime, testRuntime } from '../../support/runtime.js';
import { etherFrame } from '../../support/test-guest.js';

let runtime: TestRuntime;
let frames: FrameBuffer;
let opened: NetBackend[];

beforeEach(() => {
  runtime = testRuntime();
  frames = new FrameBuffer(runtime);
  opened = [];
});
afterEach(() => {
  for (const b of opened) b.close();
  frames.close();
  assert.deepEqual(runtime.counters.directory(), []);
  assert.deepEqual(valeSwitches(runtime).list(), [], 'a switch goes with its last port');
  runtime.close();
});

interface Port {
  be: NetBackend;
  got: Uint8Array[];
  send(...frame: Uint8Array[]): void;
}

function port(name: string, options = '', onFrame?: (port: Port, frame: Uint8Array) => void): Port {
  const got: Uint8Array[] = [];
  const be = openBackend(runtime, `vale0:${name}${options}`, () => drain(), name);
  const self: Port = {
    be,
    got,
    send(...list) {
      for (const frame of list) {
        const iov = frames.iovec(frame.length, [6, 7]);
        frames.write(iov, frame);
        be.send(iov);
        be.flush();
      }
    },
  };
  function drain(): void {
    for (let len = be.peekRecvLen(); len > 0; len = be.peekRecvLen()) {
      const iov = new FrameBuffer(runtime);
      const list = iov.iovec(len);
      be.recv(list);
      const frame = iov.read(list, len);
      iov.close();
      got.push(frame);
      onFrame?.(self, frame);
    }
  }
  be.recvEnable();
  opened.push(be);
  return self;
}

describe('a VALE switch', () => {
  test('drops runts, frames that are too long, and frames to oneself, each counted', () => {
    const a = port('a');
    const b = port('b');
    b.send(etherFrame(0xff, 2));
    a.send(new Uint8Array(13), new Uint8Array(65536 + 65));
    b.send(etherFrame(2, 2));
    assert.equal(a.got.length, 1);
    assert.equal(runtime.count('vale0:a', 'tx_drop_runt'), 1);
    assert.equal(runtime.count('vale0:a', 'tx_drop_too_long'), 1);
    assert.equal(runtime.count('vale0:b', 'tx_drop_self'), 1);
  });

  test('does not learn from a source that is a group address', () => {
    const [a, b, c] = [port('a'), port('b'), port('c')];
    const bad = etherFrame(0xff, 2);
    bad[6] = 3;
    a.send(bad);
    assert.equal(valeSwitches(runtime).list()[0]!.table.length, 0);
    const to = etherFrame(2, 5);
    to[0] = 3;
    b.send(to);
    assert.equal(a.got.length, 1, 'a group address is flooded');
    assert.equal(c.got.length, 2);
  });

  test('forgets the addresses of a port that closes', () => {
    const [a, b, c] = [port('a'), port('b'), port('c')];
    b.send(etherFrame(0xff, 2));
    b.be.close();
    const d = port('d');
    a.send(etherFrame(2, 1));
    assert.equal(d.got.length, 1, 'flooded: the address is unknown again');
    assert.equal(c.got.length, 2);
  });

  test('a name in use is refused with the names in use; a 255th port with the limit', () => {
    port('a');
    assert.throws(() => port('a'), { code: 'EEXIST', remedy: /a/ });
    for (let i = 1; i < 254; i++) port(`p${i}`);
    assert.throws(() => port('x'), { code: 'ENOSPC', message: /254/ });
  });

  test('a device name that is no switch and port is refused with an example', () => {
    for (const device of ['vale0', 'vale0:', 'vale0:a b', `vale0:${'x'.repeat(64)}`, 'vale:a:b'])
      assert.throws(() => openBackend(runtime, device, () => {}, 'x'), { code: 'EINVAL' }, device);
    for (const options of ['slots=63', 'slots=4097', 'slots=abc', 'ring-kib=1', 'table=100', 'age=0'])
      assert.throws(() => openBackend(runtime, `vale0:a,${options}`, () => {}, 'x'), { code: 'EINVAL' }, options);
  });

  test('has a name of letters, digits and underscores, or none', () => {
    for (const name of ['vale', 'vale7', 'valeLab_2', 'valet'])
      opened.push(openBackend(runtime, `${name}:p`, () => {}, 'p'));
    assert.deepEqual(
      valeSwitches(runtime)
        .list()
        .map((s) => s.name),
      ['vale', 'vale7', 'valeLab_2', 'valet'],
    );
  });

  test('a port may answer from within its receive callback', () => {
    const a = port('a');
    port('echo', '', (self, frame) => {
      const reply = Uint8Array.from(frame);
      reply.set(frame.subarray(6, 12), 0);
      reply.set(frame.subarray(0, 6), 6);
      reply[6] = 2;
      self.send(reply);
    });
    a.send(etherFrame(0xff, 1, 77));
    assert.equal(a.got.length, 1);
    assert.equal(a.got[0]!.length, 77);
  });

  test('two ports that answer each other for ever do not stop the fabric', () => {
    const forward = (self: Port, frame: Uint8Array): void => {
      const copy = Uint8Array.from(frame);
      copy.fill(0xff, 0, 6);
      self.send(copy);
    };
    const a = port('a', '', forward);
    port('b', '', forward);
    a.send(etherFrame(0xff, 1));
    const dropped = runtime.count('vale0:a', 'tx_drop_loop') + runtime.count('vale0:b', 'tx_drop_loop');
    assert.equal(dropped, 1);
  });

  test('a callback that closes its own port, or another, in the middle of a burst', () => {
    const a = port('a');
    const b = port('b', '', (self) => self.be.close());
    const c = port('c', '', () => b.be.close());
    const d = port('d');
    a.send(etherFrame(0xff, 1), etherFrame(0xff, 1));
    assert.equal(d.got.length, 2);
    assert.equal(c.got.length, 2);
    assert.equal(b.got.length, 1);
  });

  test('a callback that throws does not wedge the switch', () => {
    const a = port('a');
    let angry = true;
    const b = port('b', '', () => {
      if (angry) throw new Error('user fault');
    });
    assert.throws(() => a.send(etherFrame(0xff, 1)), /user fault/);
    angry = false;
    a.send(etherFrame(0xff, 1));
    assert.equal(b.got.length, 2);
  });

  test('forwards as a naive switch does, over any sequence of frames, new ports and closings', () => {
    const step = fc.oneof(
      {
        weight: 12,
        arbitrary: fc.record({ op: fc.constant('send' as const), port: fc.nat(4), src: fc.nat(6), dst: fc.nat(7) }),
      },
      { weight: 1, arbitrary: fc.record({ op: fc.constant('close' as const), port: fc.nat(4) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const ports: (Port | undefined)[] = [0, 1, 2, 3, 4].map((i) => port(`p${i}`));
        const where = new Map<number, number>();
        let id = 0;
        for (const s of steps) {
          if (s.op === 'close') {
            ports[s.port]?.be.close();
            ports[s.port] = undefined;
            for (const [mac, p] of where) if (p === s.port) where.delete(mac);
            continue;
          }
          const from = ports[s.port];
          if (from === undefined) continue;
          const frame = etherFrame(s.dst === 7 ? 0xff : s.dst, s.src, 64);
          frame[20] = ++id & 255;
          for (const p of ports) p?.got.splice(0);
          from.send(frame);
          where.set(s.src, s.port);
          const known = s.dst === 7 ? undefined : where.get(s.dst);
          ports.forEach((p, i) => {
            if (p === undefined) return;
            const expected = known === undefined ? i !== s.port : i === known && i !== s.port;
            assert.equal(p.got.length, expected ? 1 : 0, `port ${i} of ${JSON.stringify(s)}`);
            if (expected) assert.deepEqual(p.got[0], frame);
          });
        }
        for (const p of ports) p?.be.close();
      }),
      { numRuns: 60 },
    );
  });
});
