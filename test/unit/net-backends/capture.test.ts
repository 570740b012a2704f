import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFrameRing, FrameRingConsumer } from '../../../src/engine/frame-ring.js';
import { CaptureBackend } from '../../../src/net-backends/capture.js';
import { DIRECTION_INBOUND, DIRECTION_OUTBOUND } from '../../../src/wire/pcapng.js';
import { testRuntime } from '../../support/runtime.js';
import { etherFrame, TestGuest } from '../../support/test-guest.js';

function read(ring: FrameRingConsumer): { frame: number[]; direction: number; originalLen: number }[] {
  const out = [];
  while (ring.next()) {
    const frame = [...ring.u8.subarray(ring.dataOff, ring.dataOff + ring.capturedLen)];
    out.push({ frame, direction: ring.direction, originalLen: ring.originalLen });
  }
  return out;
}

test('a capture sees what its guest sends and receives, without headers; traffic goes on as before', () => {
  const runtime = testRuntime();
  const a = new TestGuest(runtime, { backend: 'vale0:a', name: 'a' });
  const b = new TestGuest(runtime, { backend: 'vale0:b', name: 'b' });
  const buffers = [createFrameRing(1 << 16), createFrameRing(1 << 16)] as const;
  const [whole, short] = buffers.map((buffer) => new FrameRingConsumer(buffer)) as [
    FrameRingConsumer,
    FrameRingConsumer,
  ];
  let capture: CaptureBackend | undefined;
  a.device.wrapBackend((inner) => {
    capture = new CaptureBackend(inner, runtime, 'a');
    return capture;
  });
  capture?.addSink(1, buffers[0], 65536);
  capture?.addSink(2, buffers[1], 14);
  const sent = etherFrame(2, 1, 100, 7);
  const reply = etherFrame(1, 2, 1200, 9);
  a.send(sent);
  b.send(reply);
  assert.deepEqual(
    b.receive().map(({ frame }) => [...frame]),
    [[...sent]],
  );
  assert.deepEqual(
    a.receive().map(({ frame }) => [...frame]),
    [[...reply]],
  );
  assert.deepEqual(read(whole), [
    { frame: [...sent], direction: DIRECTION_OUTBOUND, originalLen: 100 },
    { frame: [...reply], direction: DIRECTION_INBOUND, originalLen: 1200 },
  ]);
  assert.deepEqual(read(short), [
    { frame: [...sent.subarray(0, 14)], direction: DIRECTION_OUTBOUND, originalLen: 100 },
    { frame: [...reply.subarray(0, 14)], direction: DIRECTION_INBOUND, originalLen: 1200 },
  ]);
  assert.equal(runtime.count('a/capture', 'captured'), 4);
  assert.equal(capture?.removeSink(2), 1);
  assert.equal(short.closed, true);
  assert.equal(whole.closed, false);
  a.device.wrapBackend((inner) => inner);
  capture?.detach();
  assert.equal(whole.closed, true);
  a.send(sent);
  assert.deepEqual(read(whole), []);
  assert.equal(b.receive().length, 1);
  assert.throws(() => runtime.count('a/capture', 'captured'));
  for (const guest of [a, b]) guest.close();
  runtime.close();
});

test('a capture that is not read drops and counts; the guest notices nothing', () => {
  const runtime = testRuntime();
  const a = new TestGuest(runtime, { backend: 'vale0:a', name: 'a' });
  const b = new TestGuest(runtime, { backend: 'vale0:b', name: 'b' });
  const buffer = createFrameRing(4096);
  let capture: CaptureBackend | undefined;
  a.device.wrapBackend((inner) => {
    capture = new CaptureBackend(inner, runtime, 'a');
    return capture;
  });
  capture?.addSink(1, buffer, 65536);
  for (let i = 0; i < 20; i++) {
    a.send(etherFrame(2, 1, 1000));
    assert.equal(b.receive().length, 1);
  }
  const ring = new FrameRingConsumer(buffer);
  const captured = read(ring).length;
  assert.ok(captured > 0 && captured < 20);
  assert.equal(ring.dropped, 20 - captured);
  assert.equal(runtime.count('a/capture', 'captured'), captured);
  assert.equal(runtime.count('a/capture', 'capture_dropped'), 20 - captured);
  assert.equal(runtime.count('a', 'tx_frames'), 20);
  for (const guest of [a, b]) guest.close();
  capture?.detach();
  runtime.close();
});
