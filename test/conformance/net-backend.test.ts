/** One suite over every backend of the registry: what the contract in net-backend.ts says, rule by rule. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { MAX_FRAME_LEN, type NetBackend } from '../../src/net-backends/net-backend.js';
import { netBackends, openBackend } from '../../src/net-backends/registry.js';
import { openFdCount } from '../../src/sys/fd.js';
import { type TestRuntime, testRuntime } from '../support/runtime.js';
import { etherFrame } from '../support/test-guest.js';
import { type BackendUnderTest, backendPeers, backendsUnavailable, FrameBuffer, openingsOf } from './backend-peers.js';

const ENOSPC = 28;

const suites = netBackends.flatMap((type) => {
  const names = Object.keys(backendPeers).filter((name) => name.split(',')[0] === type.prefix);
  return (names.length > 0 ? names : [type.prefix]).map((name) => ({ type, name }));
});

for (const { type, name } of suites) {
  describe(`backend ${name}`, { skip: backendsUnavailable[type.prefix] ?? false }, () => {
    let runtime: TestRuntime;
    let under: BackendUnderTest;
    let backend: NetBackend;
    let frames: FrameBuffer;
    let calls: number;
    let onReceive: () => void;

    beforeEach(() => {
      const open = backendPeers[name];
      assert.ok(open, `test/conformance/backend-peers.ts has no entry for ${name}`);
      runtime = testRuntime();
      frames = new FrameBuffer(runtime);
      calls = 0;
      onReceive = () => {};
      under = open(runtime, () => {
        calls++;
        onReceive();
      });
      backend = under.backend;
    });

    afterEach(() => {
      under.close();
      frames.close();
      assert.deepEqual(runtime.counters.directory(), [], 'close() left counters behind');
      runtime.close();
    });

    function send(frame: Uint8Array, pieces: number[] = []): number {
      const bytes = Buffer.concat([new Uint8Array(backend.vnetHdrLen), frame]);
      const iov = frames.iovec(bytes.length, pieces);
      frames.write(iov, bytes);
      const sent = backend.send(iov);
      backend.flush();
      return sent;
    }

    /** Takes the next frame, header included. */
    function recv(pieces: number[] = [], room = 4096): Uint8Array | number {
      const iov = frames.iovec(room, pieces);
      const got = backend.recv(iov);
      return got > 0 ? frames.read(iov, got) : got;
    }

    const body = (n: number): Uint8Array => {
      const frame = etherFrame(0xff, 1, n);
      for (let i = 14; i < n; i++) frame[i] = (i * 7) & 255;
      return frame;
    };

    test('opens by the name in its own example, which its prefix matches', () => {
      assert.ok(type.example.startsWith(type.prefix));
      assert.match(type.example.slice(type.prefix.length), /^(?:[0-9:]|$)/);
    });

    test('says 0 while there is nothing to receive, and never blocks', () => {
      assert.equal(backend.peekRecvLen(), 0);
      assert.equal(recv(), 0);
      assert.equal(backend.rxDiscard(), 0);
    });

    test('sends a frame whole, gathered from pieces of any shape', () => {
      for (const pieces of [[], [1], [5, 7, 1, 13], [14], [backend.vnetHdrLen, 3]]) {
        const frame = body(200);
        assert.ok(send(frame, pieces) > 0);
        assert.deepEqual(under.sent(), [frame]);
      }
    });

    test('hands a frame over scattered over pieces of any shape, and its length before that', () => {
      for (const pieces of [[], [1], [3, 9, 2], [60]]) {
        under.inject(body(333));
        assert.equal(backend.peekRecvLen(), 333 + backend.vnetHdrLen);
        assert.deepEqual((recv(pieces) as Uint8Array).subarray(backend.vnetHdrLen), body(333));
      }
    });

    test('keeps frames in order', () => {
      for (let n = 60; n < 100; n++) under.inject(body(n));
      for (let n = 60; n < 100; n++) assert.equal(recv([5]).valueOf() instanceof Uint8Array && n, n);
      assert.equal(backend.peekRecvLen(), 0);
    });

    test('carries frames of every length up to the longest', () => {
      const longest = under.maxFrameLen ?? MAX_FRAME_LEN;
      for (const n of [14, 15, 59, 60, 61, 1514, 1518, 9014, 65500, longest]) {
        under.inject(body(n));
        const got = recv([100], MAX_FRAME_LEN + 64);
        assert.ok(got instanceof Uint8Array, `${n} bytes: ${got}`);
        assert.deepEqual(Buffer.from(got.subarray(backend.vnetHdrLen)), Buffer.from(body(n)));
      }
    });

    test('consumes and counts a frame that is longer than the list it is given: -ENOSPC, then the next', () => {
      under.inject(body(500));
      under.inject(body(60));
      assert.equal(recv([], 100), -ENOSPC);
      assert.equal(backend.peekRecvLen(), 60 + backend.vnetHdrLen);
      assert.ok(recv() instanceof Uint8Array);
      const counted = runtime.counters.directory().filter((d) => d.names.includes('rx_no_space'));
      assert.deepEqual(
        counted.map((d) => runtime.count(d.subject, 'rx_no_space')).filter((n) => n > 0),
        [1],
      );
    });

    test('discards one frame of any size, and says how long it was', () => {
      const longest = under.maxFrameLen ?? MAX_FRAME_LEN;
      under.inject(body(longest));
      under.inject(body(61));
      assert.equal(backend.rxDiscard(), longest + backend.vnetHdrLen);
      assert.equal(backend.peekRecvLen(), 61 + backend.vnetHdrLen);
    });

    test('starts with receive disabled; enable calls back if frames wait, and again for each later one', () => {
      under.inject(body(60));
      assert.equal(calls, 0);
      onReceive = () => void backend.rxDiscard();
      backend.recvEnable();
      assert.equal(calls, 1);
      under.inject(body(60));
      assert.equal(calls, 2);
    });

    test('does not call back after disable, and keeps what came meanwhile', () => {
      backend.recvEnable();
      backend.recvDisable();
      under.inject(body(70));
      assert.equal(calls, 0);
      onReceive = () => assert.equal(backend.rxDiscard(), 70 + backend.vnetHdrLen);
      backend.recvEnable();
      assert.equal(calls, 1);
    });

    test('a callback may disable receive; the frames it left are kept', () => {
      onReceive = () => backend.recvDisable();
      backend.recvEnable();
      under.inject(body(80));
      under.inject(body(81));
      assert.equal(calls, 1);
      assert.equal(backend.peekRecvLen(), 80 + backend.vnetHdrLen);
    });

    test('agrees on header lengths 0, 10 and 12, or says that it cannot; refuses others', () => {
      for (const length of [0, 10, 12]) {
        const agreed = backend.setCap(0n, length);
        assert.equal(backend.vnetHdrLen, agreed ? length : 0);
        under.inject(body(60));
        const got = recv([4]);
        assert.ok(got instanceof Uint8Array);
        assert.equal(got.length, 60 + backend.vnetHdrLen);
        assert.ok(got.subarray(0, backend.vnetHdrLen).every((b) => b === 0));
      }
      for (const length of [-1, 1, 9, 11, 13, 24])
        assert.throws(() => backend.setCap(0n, length), { code: 'EINVAL', message: /allowed are 0, 10 and 12/ });
    });

    test('offers the same capabilities each time it is asked, and takes all of them', () => {
      const cap = backend.getCap();
      assert.equal(backend.getCap(), cap);
      assert.equal(backend.vnetHdrLen, 0, 'asking must not change the header length');
      assert.equal(backend.setCap(cap, 12) || cap === 0n, true);
    });

    const openings = openingsOf[type.prefix] ?? 100;
    test(`close is idempotent, and ${openings} openings and closings leak no descriptor and no counter`, () => {
      under.close();
      under.close();
      const open = backendPeers[name]!;
      const before = openFdCount();
      for (let i = 0; i < openings; i++) open(runtime, () => {}).close();
      assert.equal(openFdCount(), before);
      assert.deepEqual(runtime.counters.directory(), []);
    });

    test('refuses an option that it does not have, by name', () => {
      assert.throws(() => openBackend(runtime, `${type.example},nonsense=1`, () => {}, 'x'), {
        code: 'EINVAL',
        message: /nonsense/,
      });
    });
  });
}

describe('choice of a backend by name', () => {
  test('only where a digit, a colon or the end follows the prefix', () => {
    const runtime = testRuntime();
    for (const name of ['valet', 'vale-x', 'loopbacks', '', 'x', 'tapestry'])
      assert.throws(() => openBackend(runtime, name, () => {}, 'x'), { code: 'EINVAL' }, name);
    runtime.close();
  });

  test('an unknown device is refused with the list of what exists', () => {
    const runtime = testRuntime();
    assert.throws(
      () => openBackend(runtime, 'foo0', () => {}, 'x'),
      (error: { remedy?: string }) => {
        for (const type of netBackends) assert.match(error.remedy ?? '', new RegExp(type.prefix));
        return true;
      },
    );
    runtime.close();
  });
});
