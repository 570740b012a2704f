/** The channel by itself: message IDs, and when nothing may be sent. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CounterPage } from '../../../../src/engine/counters.js';
import { GuestMemory } from '../../../../src/memory/guest-memory.js';
import type { DmaTransfer } from '../../../../src/memory/remote-memory.js';
import { WindowPool } from '../../../../src/memory/window.js';
import { counterNames } from '../../../../src/transports/vfio-user/counters.js';
import { DmaMessages } from '../../../../src/transports/vfio-user/dma-channel.js';

const read: DmaTransfer = { kind: 'read', gpa: 0x1000, length: 4, bytes: undefined };

function rig() {
  const sent: Buffer[] = [];
  const outcomes: boolean[] = [];
  const writer = {
    busy: false,
    isBusy: () => writer.busy,
    send: (message: Uint8Array) => sent.push(Buffer.from(message)),
  };
  const channel = new DmaMessages({
    writer,
    memory: new GuestMemory(new WindowPool()),
    counters: new CounterPage().create('nic/vfio-user', counterNames),
    warn: () => {},
    onFirst: () => {},
  });
  return {
    ...{ channel, writer, sent, outcomes },
    ask: () => channel.submit([read], (ok) => outcomes.push(ok)),
    /** with data that are not zeros */
    answer: (request: Buffer) => {
      const reply = Buffer.concat([request, Buffer.of(1, 2, 3, 4)]);
      reply.writeUInt32LE(36, 4);
      reply.writeUInt32LE(1, 8);
      channel.reply(reply);
    },
  };
}

test('nothing is sent before the versions have been agreed on', () => {
  const { channel, sent, ask } = rig();
  ask();
  channel.pump();
  assert.equal(sent.length, 0);
  channel.open(4096);
  channel.pump();
  assert.equal(sent.length, 1);
});

test('nothing is sent while something else goes first', () => {
  const { channel, writer, sent, ask } = rig();
  channel.open(4096);
  writer.busy = true;
  ask();
  assert.equal(sent.length, 0);
  writer.busy = false;
  channel.pump();
  assert.equal(sent.length, 1);
});

test('a message ID is not used again before its reply has come', () => {
  const { channel, sent, outcomes, ask, answer } = rig();
  channel.open(4096);
  ask();
  const first = sent.pop()!;
  const ids = new Set([first.readUInt16LE(0)]);
  for (let i = 0; i < 0xffff; i++) {
    ask();
    const request = sent.pop()!;
    const id = request.readUInt16LE(0);
    assert.ok(!ids.has(id), `${id} is new`);
    ids.add(id);
    answer(request);
  }
  assert.equal(ids.size, 0x10000);
  ask();
  assert.notEqual(sent.pop()!.readUInt16LE(0), first.readUInt16LE(0));
  answer(first);
  assert.equal(outcomes.length, 0x10000);
});

test('a channel that is closed sends nothing and calls nobody', () => {
  const { channel, sent, outcomes, ask, answer } = rig();
  channel.open(4096);
  ask();
  const [request] = sent;
  channel.close();
  ask();
  channel.reset();
  channel.memoryChanged();
  channel.pump();
  assert.equal(sent.length, 1);
  assert.throws(() => answer(request!), /a request that was not made/);
  assert.deepEqual(outcomes, []);
});
