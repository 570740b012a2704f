import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { NetBackend } from '../../../src/net-backends/net-backend.js';
import { openBackend } from '../../../src/net-backends/registry.js';
import { openFdCount } from '../../../src/sys/fd.js';
import { bindDatagram, DatagramBatch } from '../../../src/sys/inet.js';
import { NativeBuffer } from '../../../src/sys/native-buffer.js';
import { connectUnix, sendMsg } from '../../../src/sys/socket.js';
import { testRuntime } from '../../support/runtime.js';
import { tempDir } from '../../support/temp-dir.js';

const FRAME_LEN = 60;

/** A backend whose peer sends another frame for each that is taken. */
function endlessPeer(t: TestContext, device: string, sendFrame: () => void): { taken: () => number; serve(): void } {
  const runtime = testRuntime();
  let taken = 0;
  const backend: NetBackend = openBackend(
    runtime,
    device,
    () => {
      while (backend.peekRecvLen() > 0) {
        assert.ok(taken < 200_000, 'the callback never ends');
        assert.equal(backend.rxDiscard(), FRAME_LEN);
        taken++;
        sendFrame();
      }
    },
    'test',
  );
  t.after(() => {
    backend.close();
    runtime.close();
  });
  backend.recvEnable();
  return { taken: () => taken, serve: () => void runtime.mevent.dispatch(0) };
}

/** Serves, and checks that each turn takes something and ends. */
function checkTurns(peer: { taken: () => number; serve(): void }): void {
  for (let i = 0; i < 10; i++) {
    const before = peer.taken();
    peer.serve();
    assert.ok(peer.taken() > before);
  }
}

test('a stream peer that never stops sending does not keep the thread for itself', (t) => {
  const path = join(tempDir(t), 's');
  const frame = new Uint8Array(4 + FRAME_LEN);
  frame[3] = FRAME_LEN;
  const peer = endlessPeer(t, `stream0,addr=unix:${path}`, () => void sendMsg(socket.number, frame));
  const socket = connectUnix(path);
  t.after(() => socket.close());
  peer.serve();
  for (let i = 0; i < 10; i++) sendMsg(socket.number, frame);
  checkTurns(peer);
});

test('a datagram peer that never stops sending does not keep the thread for itself', (t) => {
  const dir = tempDir(t);
  const frame = new NativeBuffer(FRAME_LEN);
  const batch = new DatagramBatch(1, { kind: 'unix', path: join(dir, 'a') });
  batch.setBuffer(0, frame.addr, FRAME_LEN);
  const sender = bindDatagram({ kind: 'unix', path: join(dir, 'b') }, 2 ** 20);
  const send = (): void => void batch.send(sender.number, 0, 1);
  const peer = endlessPeer(t, `dgram0,local=unix:${dir}/a,remote=unix:${dir}/b`, send);
  t.after(() => sender.close());
  for (let i = 0; i < 5; i++) send();
  checkTurns(peer);
});

test('a file where a datagram socket is to be is refused, and left alone', (t) => {
  const dir = tempDir(t);
  const runtime = testRuntime();
  t.after(() => runtime.close());
  writeFileSync(join(dir, 'a'), 'precious');
  const before = openFdCount();
  assert.throws(() => openBackend(runtime, `dgram0,local=unix:${dir}/a,remote=unix:${dir}/b`, undefined, 'x'), {
    code: 'EADDRINUSE',
    message: /not a socket/,
  });
  assert.equal(readFileSync(join(dir, 'a'), 'utf8'), 'precious');
  assert.deepEqual(runtime.counters.directory(), []);
  assert.equal(openFdCount(), before);
});

test("a datagram socket is its owner's alone, and a second backend of its name leaves nothing behind", (t) => {
  const dir = tempDir(t);
  const runtime = testRuntime();
  const first = openBackend(runtime, `dgram0,local=unix:${dir}/a,remote=unix:${dir}/b`, undefined, 'x');
  assert.equal(lstatSync(join(dir, 'a')).mode & 0o777, 0o600);
  const before = openFdCount();
  assert.throws(() => openBackend(runtime, `dgram0,local=unix:${dir}/c,remote=unix:${dir}/d`, undefined, 'y'), {
    code: 'EEXIST',
  });
  assert.deepEqual(readdirSync(dir), ['a']);
  assert.equal(openFdCount(), before);
  first.close();
  assert.deepEqual(readdirSync(dir), []);
  runtime.close();
});
