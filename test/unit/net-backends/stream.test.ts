import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, type TestContext, test } from 'node:test';
import type { NetBackend } from '../../../src/net-backends/net-backend.js';
import { openBackend } from '../../../src/net-backends/registry.js';
import { type Fd, openFdCount } from '../../../src/sys/fd.js';
import { connectUnix, recvMsg, sendMsg } from '../../../src/sys/socket.js';
import { FrameBuffer } from '../../conformance/backend-peers.js';
import { type TestRuntime, testRuntime } from '../../support/runtime.js';
import { tempDir } from '../../support/temp-dir.js';
import { etherFrame } from '../../support/test-guest.js';

let runtime: TestRuntime;
let frames: FrameBuffer;
let fds: number;
const closing: { close(): void }[] = [];

beforeEach(() => {
  fds = openFdCount();
  runtime = testRuntime();
  frames = new FrameBuffer(runtime);
});
afterEach(() => {
  for (const c of closing.splice(0).reverse()) c.close();
  frames.close();
  runtime.close();
  assert.equal(openFdCount(), fds, 'descriptors were left open');
});

function open(device: string, got: number[] = []): NetBackend {
  const backend: NetBackend = openBackend(
    runtime,
    device,
    () => {
      for (let len = backend.peekRecvLen(); len > 0; len = backend.peekRecvLen()) {
        got.push(len);
        backend.rxDiscard();
      }
    },
    'test',
  );
  closing.push(backend);
  backend.recvEnable();
  return backend;
}

function connect(path: string): Fd {
  const socket = connectUnix(path);
  closing.push(socket);
  serve();
  return socket;
}

function serve(times = 3): void {
  for (let i = 0; i < times; i++) runtime.mevent.dispatch(0);
}

function sendTo(backend: NetBackend, frame: Uint8Array): void {
  const iov = frames.iovec(frame.length, [3]);
  frames.write(iov, frame);
  backend.send(iov);
}

function framed(...list: Uint8Array[]): Uint8Array {
  return Buffer.concat(
    list.flatMap((f) => {
      const head = Buffer.alloc(4);
      head.writeUInt32BE(f.length);
      return [head, f];
    }),
  );
}

function logged(pattern: RegExp): boolean {
  return runtime.records.some((r) => pattern.test(r.message));
}

function server(t: TestContext, got: number[] = []): { backend: NetBackend; path: string } {
  const path = `${tempDir(t)}/s`;
  return { path, backend: open(`stream0,addr=unix:${path}`, got) };
}

describe('stream', () => {
  test('takes frames in pieces of any size off the wire', (t) => {
    const got: number[] = [];
    const { backend, path } = server(t, got);
    assert.deepEqual(backend.status?.(), { address: `unix:${path}`, state: 'listening' });
    const peer = connect(path);
    assert.equal(backend.status?.().state, 'connected');
    const bytes = framed(etherFrame(2, 1, 60), etherFrame(2, 1, 1514), etherFrame(2, 1, 14));
    for (let at = 0; at < bytes.length; at += 7) {
      sendMsg(peer.number, bytes.subarray(at, at + 7));
      serve(1);
    }
    assert.deepEqual(got, [60, 1514, 14]);
  });

  test('writes a burst at once, behind its lengths', (t) => {
    const { backend, path } = server(t);
    const peer = connect(path);
    const [a, b] = [etherFrame(2, 1, 60, 1), etherFrame(2, 1, 61, 2)];
    sendTo(backend, a);
    sendTo(backend, b);
    backend.flush();
    const buf = new Uint8Array(500);
    const { length } = recvMsg(peer.number, buf, 0);
    assert.deepEqual(Buffer.from(buf.subarray(0, length)), framed(a, b));
  });

  test('drops runts and goes on; a length beyond any frame ends that connection, and says so', (t) => {
    const got: number[] = [];
    const { path } = server(t, got);
    const peer = connect(path);
    sendMsg(peer.number, framed(new Uint8Array(0), new Uint8Array(13), etherFrame(2, 1, 60)));
    serve();
    assert.deepEqual(got, [60]);
    assert.equal(runtime.count('stream0', 'rx_drop_runt'), 2);
    sendMsg(peer.number, Uint8Array.of(0xff, 0xff, 0xff, 0xff));
    serve();
    assert.ok(logged(/4294967295 bytes was announced.*connection closed/));
    sendMsg(connect(path).number, framed(etherFrame(2, 1, 70)));
    serve();
    assert.deepEqual(got, [60, 70], 'the next peer is served');
  });

  test('a peer that does not read loses frames; the sender goes on, and what is left goes when it reads', (t) => {
    const { backend, path } = server(t);
    const peer = connect(path);
    for (let i = 0; i < 3000; i++) {
      sendTo(backend, etherFrame(2, 1, 1514));
      backend.flush();
    }
    const dropped = runtime.count('stream0', 'tx_drop_full');
    assert.ok(dropped > 0 && dropped < 3000);
    const buf = new Uint8Array(1 << 20);
    let total = 0;
    for (;;) {
      const { length } = recvMsg(peer.number, buf, 0);
      if (length > 0) total += length;
      else if (runtime.mevent.dispatch(0) === 0) break;
    }
    assert.equal(total, (3000 - dropped) * 1518);
  });

  test('without a peer frames are dropped and counted', (t) => {
    const { backend } = server(t);
    sendTo(backend, etherFrame(2, 1));
    backend.flush();
    assert.equal(runtime.count('stream0', 'tx_drop_not_connected'), 1);
  });

  test('a peer that dies in the middle of a frame costs that frame; the next one is served', (t) => {
    const got: number[] = [];
    const { path } = server(t, got);
    const peer = connect(path);
    sendMsg(peer.number, framed(etherFrame(2, 1, 100)).subarray(0, 50));
    serve();
    peer.close();
    serve();
    sendMsg(connect(path).number, framed(etherFrame(2, 1, 64)));
    serve();
    assert.deepEqual(got, [64]);
  });

  test('as client waits for its server, and finds it again after it went', (t) => {
    const path = `${tempDir(t)}/s`;
    const got: number[] = [];
    const client = open(`stream1,addr=unix:${path},mode=client,reconnect-ms=10`, got);
    const until = (done: () => boolean): void => {
      for (let i = 0; i < 200 && !done(); i++) runtime.mevent.dispatch(10);
      assert.ok(done());
    };
    for (let round = 1; round <= 2; round++) {
      const received: number[] = [];
      const host = open(`stream0,addr=unix:${path}`, received);
      const before = runtime.records.length;
      until(() => runtime.records.slice(before).filter((r) => /peer connected/.test(r.message)).length === 2);
      sendTo(client, etherFrame(2, 1, 60 + round));
      client.flush();
      until(() => received.length === 1);
      host.close();
      until(() => runtime.records.slice(before).some((r) => /stream1: peer disconnected/.test(r.message)));
    }
    assert.ok(logged(/waiting for unix:.*: /));
  });

  test('speaks TCP on loopback too', () => {
    const got: number[] = [];
    open('stream0,addr=tcp:127.0.0.1:42613', got);
    const client = open('stream1,addr=127.0.0.1:42613,mode=client');
    for (let i = 0; i < 50 && runtime.records.length < 2; i++) runtime.mevent.dispatch(10);
    sendTo(client, etherFrame(2, 1, 99));
    client.flush();
    for (let i = 0; i < 50 && got.length === 0; i++) runtime.mevent.dispatch(10);
    assert.deepEqual(got, [99]);
  });

  test('removes its socket when it closes', (t) => {
    const { backend, path } = server(t);
    assert.ok(existsSync(path));
    backend.close();
    assert.ok(!existsSync(path));
  });
});

describe('addresses', () => {
  test('that are not on this machine, or not of the form, are refused with what is allowed', () => {
    for (const addr of [
      '192.0.2.1:80',
      '127.0.0.1',
      '127.0.0.1:0',
      '127.0.0.1:70000',
      'unix:',
      'udp:127.0.0.1:9',
      '[::1]:80',
    ])
      assert.throws(() => openBackend(runtime, { device: 'stream0', options: { addr } }, () => {}, 'x'), {
        code: 'EINVAL',
        remedy: /unix:PATH/,
      });
    assert.throws(() => openBackend(runtime, 'stream0', () => {}, 'x'), { message: /addr must be provided/ });
    assert.throws(() => openBackend(runtime, 'stream0,addr=unix:x,mode=both', () => {}, 'x'), {
      message: /allowed are server and client/,
    });
  });

  test('of a datagram socket that somebody else has are refused; frames to nobody are counted', (t) => {
    const dir = tempDir(t);
    const spec = `local=unix:${dir}/a,remote=unix:${dir}/b`;
    const first = open(`dgram0,${spec}`);
    assert.throws(() => openBackend(runtime, `dgram1,${spec}`, () => {}, 'x'), { code: 'EADDRINUSE' });
    sendTo(first, etherFrame(2, 1));
    first.flush();
    assert.equal(runtime.count('dgram0', 'tx_drop_no_peer'), 1);
    const got: number[] = [];
    open(`dgram1,local=unix:${dir}/b,remote=unix:${dir}/a`, got);
    for (let i = 0; i < 5; i++) sendTo(first, etherFrame(2, 1, 60 + i));
    first.flush();
    serve();
    assert.deepEqual(got, [60, 61, 62, 63, 64]);
  });
});
