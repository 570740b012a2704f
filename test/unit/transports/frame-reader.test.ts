import assert from 'node:assert/strict';
import { fstatSync, readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import * as fc from 'fast-check';
import type { Fd } from '../../../src/sys/fd.js';
import { memfdCreate } from '../../../src/sys/memfd.js';
import { sendMsg, socketPair } from '../../../src/sys/socket.js';
import { type FrameFormat, FrameReader, protocolError } from '../../../src/transports/frame-reader.js';

/** one byte of length, one of content, then content */
const format: FrameFormat = {
  headerBytes: 2,
  maxBytes: 255,
  maxFds: 4,
  lengthOf: (view) => {
    const length = view.getUint8(0);
    if (length < 2) throw protocolError(`a length of ${length}`);
    return length;
  },
  nameOf: () => 'message',
};

const message = (length: number, content: number): Uint8Array =>
  Uint8Array.of(length, ...Array(length - 1).fill(content));

interface Rig {
  reader: FrameReader;
  send(bytes: Uint8Array, fds?: readonly Fd[]): void;
  fd(): Fd;
  /** the next message's content, length and files; or why there is none */
  next(): string;
  hangUp(): void;
}

function rig(t: TestContext): Rig {
  const [a, b] = socketPair();
  const reader = new FrameReader(b.number, format);
  const files: Fd[] = [];
  t.after(() => {
    reader.close();
    for (const fd of [a, b, ...files]) fd.close();
  });
  return {
    reader,
    send: (bytes, fds = []) =>
      assert.equal(
        sendMsg(
          a.number,
          bytes,
          fds.map((fd) => fd.number),
        ),
        bytes.length,
      ),
    fd: () => {
      files.push(memfdCreate('frame-reader'));
      return files.at(-1)!;
    },
    next: () => {
      const got = reader.read();
      if (got !== 'message') return got;
      const received = reader.takeFds();
      const names = received.map((fd) => files.findIndex((f) => fstatSync(f.number).ino === fstatSync(fd.number).ino));
      for (const fd of received) fd.close();
      assert.ok(reader.bytes.subarray(1, reader.length).every((byte) => byte === reader.bytes[1]));
      return [`${reader.length}x${reader.bytes[1]}`, ...names].join(' ');
    },
    hangUp: () => a.close(),
  };
}

test('messages come one by one, however the stream was cut', (t) => {
  const { reader: _reader, send, next } = rig(t);
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 2, max: 255 }), { minLength: 1, maxLength: 40 }),
      fc.array(fc.integer({ min: 1, max: 600 }), { maxLength: 30 }),
      (lengths, cuts) => {
        const stream = Buffer.concat(lengths.map((length, i) => message(length, i)));
        const got: string[] = [];
        let at = 0;
        for (const cut of [...cuts, stream.length]) {
          if (at >= stream.length) break;
          send(stream.subarray(at, Math.min(at + cut, stream.length)));
          at += cut;
          for (let result = next(), waits = 0; waits < 2; result = next())
            if (result === 'wait') waits++;
            else got.push(result);
        }
        assert.deepEqual(
          got,
          lengths.map((length, i) => `${length}x${i}`),
        );
      },
    ),
  );
});

test('descriptors belong to the message they were sent with, whatever is sent before and after it', (t) => {
  const { send, next, fd } = rig(t);
  send(message(20, 1));
  send(message(20, 2), [fd()]);
  send(message(20, 3));
  send(message(20, 4), [fd(), fd()]);
  send(message(20, 5), [fd()]);
  const got = Array.from({ length: 5 }, next);
  assert.deepEqual(got, ['20x1', '20x2 0', '20x3', '20x4 1 2', '20x5 3']);
});

test('a message in pieces keeps the descriptors of each, and the next one its own', (t) => {
  const { send, next, fd } = rig(t);
  const whole = message(30, 1);
  send(whole.subarray(0, 1), [fd()]);
  assert.equal(next(), 'wait');
  send(whole.subarray(1, 12), [fd()]);
  send(whole.subarray(12));
  send(message(9, 2), [fd()]);
  assert.deepEqual([next(), next()], ['30x1 0 1', '9x2 2']);
});

test('descriptors of a message that never becomes whole are closed with the reader', (t) => {
  const { reader, send, next, fd, hangUp } = rig(t);
  const file = fd();
  send(message(10, 1));
  send(message(10, 2).subarray(0, 5), [file]);
  assert.equal(next(), '10x1');
  reader.release();
  hangUp();
  assert.equal(next(), 'closed');
  assert.equal(reader.pendingBytes, 5);
  const open = (): number => readdirSync('/proc/self/fd').length;
  const before = open();
  reader.close();
  assert.equal(open(), before - 1);
});

test('a broken length is refused after the messages before it', (t) => {
  const { send, next } = rig(t);
  send(Buffer.concat([message(4, 1), Uint8Array.of(1, 1)]));
  assert.equal(next(), '4x1');
  assert.throws(next, /a length of 1/);
});
