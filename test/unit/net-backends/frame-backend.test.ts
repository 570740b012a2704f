import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Iovec } from '../../../src/memory/iovec.js';
import { FrameBackend } from '../../../src/net-backends/frame-backend.js';
import { MAX_FRAME_LEN, type NetBackend } from '../../../src/net-backends/net-backend.js';
import { OwnBackend } from '../../support/own-backend.js';
import { type TestRuntime, testRuntime } from '../../support/runtime.js';

function open<T extends FrameBackend>(type: new (...args: ConstructorParameters<typeof FrameBackend>) => T) {
  const runtime = testRuntime();
  let calls = 0;
  const onReceive = () => {
    calls++;
  };
  const request = { runtime, device: 'own0', options: new Map(), onReceive, subject: 'nic' };
  return { runtime, backend: new type(request, { slots: 2 }), calls: () => calls };
}

/** `length` bytes of window memory. */
function iovec(runtime: TestRuntime, length: number): Iovec {
  const { window, off } = runtime.windows.mapAnonymous(length);
  const iov = new Iovec(1);
  iov.push(window.index, off, length);
  return iov;
}

function receive(runtime: TestRuntime, backend: NetBackend): number {
  return backend.recv(iovec(runtime, MAX_FRAME_LEN));
}

test('what is delivered while the guest sends is announced once, at the end of the burst', () => {
  class Twice extends FrameBackend {
    protected override onFrame(frame: Uint8Array): void {
      this.deliver(frame);
    }
  }
  const { runtime, backend, calls } = open(Twice);
  backend.recvEnable();
  backend.send(iovec(runtime, 60));
  backend.send(iovec(runtime, 61));
  assert.equal(calls(), 0);
  backend.flush();
  assert.equal(calls(), 1);
  assert.deepEqual([receive(runtime, backend), receive(runtime, backend), receive(runtime, backend)], [60, 61, 0]);
  backend.close();
});

test('what is delivered at any other time is announced at once, if receive is enabled', () => {
  const { backend, calls } = open(OwnBackend);
  backend.give(new Uint8Array(60));
  assert.equal(calls(), 0);
  backend.recvEnable();
  assert.equal(calls(), 1);
  backend.give(new Uint8Array(60));
  assert.equal(calls(), 2);
  backend.close();
});

test('a frame too many, or too long, is dropped and counted', () => {
  const { runtime, backend } = open(OwnBackend);
  const given = [0, 0, 0].map(() => backend.give(new Uint8Array(60)));
  assert.deepEqual(given, [true, true, false]);
  assert.equal(receive(runtime, backend), 60);
  assert.equal(backend.give(new Uint8Array(MAX_FRAME_LEN + 1)), false);
  assert.equal(runtime.count('own0', 'rx_drop_full'), 2);
  backend.close();
  assert.equal(backend.give(new Uint8Array(60)), false, 'nothing is taken after close');
});

test('an error in onFrame costs the frame, is counted, and logged once', () => {
  class Broken extends FrameBackend {
    protected override onFrame(): void {
      throw new Error('mine');
    }
  }
  const { runtime, backend } = open(Broken);
  for (let i = 0; i < 3; i++) assert.equal(backend.send(iovec(runtime, 60)), 60);
  assert.equal(runtime.count('own0', 'tx_drop_failed'), 3);
  assert.equal(runtime.records.filter((r) => r.level === 'error').length, 1);
  backend.close();
});

test('an error in onClose leaves nothing behind', () => {
  class Broken extends OwnBackend {
    protected override onClose(): void {
      throw new Error('mine');
    }
  }
  const { runtime, backend } = open(Broken);
  assert.throws(() => backend.close(), /mine/);
  assert.deepEqual(runtime.counters.directory(), []);
  backend.close();
});
