/** What goes out of a socket that is full, or takes a part. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { NativeBuffer } from '../../../../src/sys/native-buffer.js';
import { recvMsg, socketPair } from '../../../../src/sys/socket.js';
import { MessageWriter } from '../../../../src/transports/vfio-user/message-writer.js';
import { pattern } from '../../../support/dma-rig.js';
import { testRuntime } from '../../../support/runtime.js';

const LONGEST = 131104;

class WriterRig {
  readonly events: string[] = [];
  readonly writer: MessageWriter;
  readonly runtime = testRuntime();
  readonly hangUp: () => void;
  readonly #received = new NativeBuffer(LONGEST).u8;
  readonly #theirs: number;

  constructor(t: TestContext) {
    const [ours, theirs] = socketPair();
    this.#theirs = theirs.number;
    this.hangUp = () => theirs.close();
    this.writer = new MessageWriter({
      mevent: this.runtime.mevent,
      socket: ours.number,
      onDrained: () => this.events.push('drained'),
      onBroken: (fault) => this.events.push(`broken: ${fault}`),
    });
    t.after(() => {
      this.writer.close();
      for (const fd of [ours, theirs]) fd.close();
      this.runtime.close();
    });
  }

  /** A REGION_READ reply of `length` bytes, all of them different from those of another `seed`. */
  message(length: number, seed = 0): Uint8Array {
    const { u8 } = new NativeBuffer(length);
    const bytes = pattern(u8.subarray(0, length)).map((byte) => byte + seed);
    u8.set(bytes);
    u8[2] = 9;
    u8[3] = 0;
    return u8.subarray(0, length);
  }

  /** What the other side has in its socket, at most `most` bytes of it. */
  receive(most = LONGEST): Buffer {
    const { length } = recvMsg(this.#theirs, this.#received.subarray(0, most), 0);
    return Buffer.from(this.#received.subarray(0, Math.max(length, 0)));
  }

  /** Everything, while the event queue goes round. */
  receiveAll(): Buffer {
    const parts: Buffer[] = [];
    for (let idle = 0; idle < 3; idle++) {
      const part = this.receive();
      if (part.length > 0) idle = -1;
      parts.push(part);
      this.runtime.mevent.dispatch(0);
    }
    return Buffer.concat(parts);
  }
}

test('a message is sent at once, and nobody is told', (t) => {
  const rig = new WriterRig(t);
  const message = rig.message(36);
  rig.writer.send(message);
  assert.equal(rig.writer.busy, false);
  assert.deepEqual(rig.receive(), Buffer.from(message));
  rig.runtime.mevent.dispatch(0);
  assert.deepEqual(rig.events, []);
});

test('what a full socket does not take goes on when it can be written again, in order and whole', (t) => {
  const rig = new WriterRig(t);
  const sent: Uint8Array[] = [];
  for (let i = 0; i < 3; i++) {
    // the writer keeps nothing of what it is given
    const message = rig.message(LONGEST, i);
    sent.push(message.slice());
    rig.writer.send(message);
    message.fill(0xee);
  }
  for (let i = 0; i < 50; i++) {
    sent.push(rig.message(36, i).slice());
    rig.writer.send(sent.at(-1)!);
  }
  assert.equal(rig.writer.busy, true);
  assert.deepEqual(rig.events, []);
  assert.deepEqual(rig.receiveAll(), Buffer.concat(sent));
  assert.deepEqual(rig.events, ['drained']);
  assert.equal(rig.writer.busy, false);
});

test('a reader that takes a few bytes now and then gets all of them', (t) => {
  const rig = new WriterRig(t);
  const sent = Array.from({ length: 2 }, (_, i) => rig.message(LONGEST, i));
  for (const message of sent) rig.writer.send(message);
  const got: Buffer[] = [];
  let most = 1;
  for (let total = 0; total < 2 * LONGEST; most = (most * 7) % 5003) {
    got.push(rig.receive(most));
    total += got.at(-1)!.length;
    rig.runtime.mevent.dispatch(0);
  }
  assert.ok(Buffer.concat(got).equals(Buffer.concat(sent)));
});

test('flush goes on without the event queue', (t) => {
  const rig = new WriterRig(t);
  const sent = Array.from({ length: 2 }, (_, i) => rig.message(LONGEST, i));
  for (const message of sent) rig.writer.send(message);
  const parts: Buffer[] = [];
  while (rig.writer.busy) {
    parts.push(rig.receive());
    rig.writer.flush();
  }
  for (let part = rig.receive(); part.length > 0; part = rig.receive()) parts.push(part);
  assert.deepEqual(Buffer.concat(parts), Buffer.concat(sent));
  assert.deepEqual(rig.events, ['drained']);
});

test('a header is never cut: each message is a call of its own', (t) => {
  const rig = new WriterRig(t);
  const message = rig.message(36);
  // many small ones, so that the socket is full between two of them
  for (let i = 0; i < 2000; i++) rig.writer.send(message);
  let total = 0;
  while (rig.writer.busy) {
    const part = rig.receive(16);
    assert.equal(part.length, 16, 'a header is there whole');
    assert.equal(rig.receive(20).length, 20);
    total += 36;
    rig.runtime.mevent.dispatch(0);
  }
  total += rig.receiveAll().length;
  assert.equal(total, 2000 * 36);
});

test('a peer that reads nothing at all is given up, with the message that was one too many', (t) => {
  const rig = new WriterRig(t);
  const message = rig.message(LONGEST);
  let sent = 0;
  while (rig.events.length === 0 && sent < 10) {
    rig.writer.send(message);
    sent++;
  }
  assert.deepEqual(rig.events, ['broken: REGION_READ: the client does not read its replies']);
  assert.ok(sent >= 3, `${sent} of the longest messages fit`);
});

test('a peer that has gone is no fault', (t) => {
  const rig = new WriterRig(t);
  rig.hangUp();
  rig.writer.send(rig.message(36));
  assert.deepEqual(rig.events, ['broken: undefined']);
});

test('a peer that goes while something waits is no fault either', (t) => {
  const rig = new WriterRig(t);
  for (let i = 0; i < 3; i++) rig.writer.send(rig.message(LONGEST));
  rig.hangUp();
  rig.runtime.mevent.dispatch(0);
  assert.deepEqual(rig.events, ['broken: undefined']);
});

test('a writer that is closed calls nobody', (t) => {
  const rig = new WriterRig(t);
  for (let i = 0; i < 3; i++) rig.writer.send(rig.message(LONGEST));
  rig.writer.close();
  rig.receiveAll();
  assert.deepEqual(rig.events, []);
  assert.equal(rig.writer.busy, false);
});
