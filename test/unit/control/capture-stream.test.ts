import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { CaptureOptions } from '../../../src/control/capture-stream.js';
import { Fabric } from '../../../src/control/fabric.js';
import { DIRECTION_INBOUND, DIRECTION_OUTBOUND } from '../../../src/wire/pcapng.js';
import { type Capture, readPcapng } from '../../support/pcapng-reader.js';
import { tempDir } from '../../support/temp-dir.js';
import { etherFrame } from '../../support/test-guest.js';
import { sleepStep, stepUntil } from '../../support/vhost-user-client.js';
import { VhostUserGuest } from '../../support/vhost-user-guest.js';

interface Setup {
  fabric: Fabric;
  a: VhostUserGuest;
  b: VhostUserGuest;
}

/** Two guests on a switch, in a fabric with its own thread. */
async function twoGuests(t: TestContext): Promise<Setup> {
  const dir = tempDir(t);
  const fabric = await Fabric.start();
  t.after(() => fabric.close());
  const [a, b] = await Promise.all(
    ['a', 'b'].map(async (name) => {
      const socket = join(dir, `${name}.sock`);
      await fabric.addNic({ backend: `vale0:${name}`, socket });
      const guest = VhostUserGuest.connect(socket, sleepStep, { style: 'plain' });
      t.after(() => guest.close());
      return guest;
    }),
  );
  return { fabric, a: a as VhostUserGuest, b: b as VhostUserGuest };
}

/** Starts a capture; its blocks are read by the returned function, after the capture has ended. */
async function startCapture(fabric: Fabric, name: string, options?: CaptureOptions): Promise<() => Promise<Capture>> {
  const stream = fabric.capture(name, options);
  const chunks = [(await stream.next()).value as Uint8Array];
  return async () => {
    for await (const chunk of stream) chunks.push(chunk);
    return readPcapng(Buffer.concat(chunks));
  };
}

function exchange(from: VhostUserGuest, to: VhostUserGuest, frame: Uint8Array): void {
  from.transmit(frame);
  stepUntil(sleepStep, () => to.receive().length === 1, 'the frame arrives');
}

test('a capture is a pcapng of what crosses the NIC, both ways, and ends with the NIC', async (t) => {
  const { fabric, a, b } = await twoGuests(t);
  const early = etherFrame(0xff, 2, 60, 1);
  exchange(b, a, early);
  const before = BigInt(Date.now()) * 1_000_000n;
  const [whole, cut] = [await startCapture(fabric, 'a'), await startCapture(fabric, 'a', { snapLen: 60 })];
  const sent = etherFrame(2, 1, 1514, 2);
  const reply = etherFrame(1, 2, 100, 3);
  exchange(a, b, sent);
  exchange(b, a, reply);
  assert.deepEqual(fabric.counters()['a/capture'], { captured: 4, capture_dropped: 0 });
  await fabric.removeNic('a');
  const capture = await whole();
  assert.match(capture.application, /^netbe /);
  assert.equal(capture.interfaces[0]?.name, 'a');
  assert.deepEqual(
    capture.packets.map(({ data, direction }) => ({ data: [...data], direction })),
    [
      { data: [...sent], direction: DIRECTION_OUTBOUND },
      { data: [...reply], direction: DIRECTION_INBOUND },
    ],
  );
  for (const { time } of capture.packets) {
    assert.ok(time > before - 10_000_000_000n && time < before + 60_000_000_000n);
  }
  assert.deepEqual(
    capture.statistics.map(({ received, dropped }) => [received, dropped]),
    [[2n, 0n]],
  );
  const short = await cut();
  assert.equal(short.interfaces[0]?.snapLen, 60);
  assert.deepEqual(
    short.packets.map(({ data, originalLen }) => [data.length, originalLen]),
    [
      [60, 1514],
      [60, 100],
    ],
  );
});

test('a consumer that stops ends its capture, also while it waits; the NIC goes on without a copy', async (t) => {
  const { fabric, a, b } = await twoGuests(t);
  const stream = fabric.capture('a');
  await stream.next();
  const waiting = stream.next();
  await stream.return?.();
  // what waits gets the statistics, and then the end
  assert.equal((await waiting).done, false);
  assert.equal((await stream.next()).done, true);
  assert.equal(fabric.counters()['a/capture'], undefined);
  exchange(a, b, etherFrame(0xff, 1));
  for await (const header of fabric.capture('a')) {
    assert.ok(header.length > 0);
    break;
  }
  assert.equal(fabric.counters()['a/capture'], undefined);
});

test('a capture that is not read loses frames, says how many, and does not slow the guests', async (t) => {
  const { fabric, a, b } = await twoGuests(t);
  const finish = await startCapture(fabric, 'a', { ringBytes: 4096 });
  for (let i = 0; i < 30; i++) exchange(a, b, etherFrame(0xff, 1, 1000, i));
  const { captured, capture_dropped: lost } = fabric.counters()['a/capture'] as Record<string, number>;
  assert.equal((captured as number) + (lost as number), 30);
  assert.ok((lost as number) > 0);
  await fabric.close();
  const { packets, statistics } = await finish();
  assert.equal(packets.length, captured);
  assert.deepEqual([statistics[0]?.received, statistics[0]?.dropped], [30n, BigInt(lost as number)]);
});

test('more than one chunk of frames comes whole and in order', async (t) => {
  const { fabric, a, b } = await twoGuests(t);
  const finish = await startCapture(fabric, 'b');
  const frames = Array.from({ length: 400 }, (_, i) => etherFrame(0xff, 1, 1000 + i, i & 0xff));
  for (const frame of frames) exchange(a, b, frame);
  await fabric.removeNic('b');
  const { packets } = await finish();
  assert.deepEqual(
    packets.map(({ data }) => Buffer.from(data).toString('base64')),
    frames.map((frame) => Buffer.from(frame).toString('base64')),
  );
});

test('options out of range are refused', async (t) => {
  const { fabric } = await twoGuests(t);
  for (const snapLen of [0, -1, 1.5, 2 ** 20]) assert.throws(() => fabric.capture('a', { snapLen }), { kind: 'usage' });
  await assert.rejects(fabric.capture('a', { ringBytes: 5000 }).next(), { kind: 'usage' });
});
