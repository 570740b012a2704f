/**
 * A driver that changes its rings and tables while the device reads them: another thread scribbles
 * over the same memory for as long as this one serves it. What the device has checked may be something
 * else a moment later, so it must look once and use what it saw.
 *
 *   node dist/test/fuzz/virtqueue-race.js [--seconds N] [--seed N]
 *
 * Two threads that race cannot be repeated; a fault found here wants a test of its own. Memory between
 * and behind the guest's must stay as it is, frames must pass between two other guests, and no callback
 * may throw.
 */
import assert from 'node:assert/strict';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { RX_QUEUE, TX_QUEUE, VirtioNet } from '../../src/frontends/virtio-net/device.js';
import { GuestMemory } from '../../src/memory/guest-memory.js';
import { WindowPool } from '../../src/memory/window.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { ftruncate, memfdCreate } from '../../src/sys/memfd.js';
import { type TestRuntime, testRuntime } from '../support/runtime.js';
import { etherFrame, TestGuest } from '../support/test-guest.js';
import { Random } from './harness.js';

const USER = 0x7f0000000000;
const SIZE = 64;
/** of both queues: descriptors, available ring, used ring */
const RING_GPA = [0x1000, 0x3000] as const;
const AVAIL = 16 * SIZE;
const USED = 0x800;
const TABLE_GPA = 0x5000;
const BUFFER_GPA = 0x6000;
const MAIN_SIZE = 0x20000;
const CANARY_SIZE = 0x10000;
const FILL = 0xa5;

interface WorkerInput {
  fd: number;
  seed: number;
  stop: Int32Array;
}

/** Descriptors, tables, heads and indices, as fast as it can. */
function scribble({ fd, seed, stop }: WorkerInput): void {
  const pool = new WindowPool(16 * 2 ** 20);
  const mapping = pool.mapFile({ fd, fileOffset: 0, length: MAIN_SIZE, pageSize: 4096 });
  const { u8, u16, u32 } = mapping.window;
  const base = mapping.off;
  const random = new Random(seed);
  const lengths = [0, 12, 60, 2048, 0xffff, 0x100000, 0xffffffff];
  const addresses = [0, MAIN_SIZE - 8, MAIN_SIZE, 0xfffff000, 0xffffffff];
  const descriptor = (at: number) => {
    const w = (base + at) / 4;
    u32[w] = random.below(3) === 0 ? addresses[random.below(addresses.length)]! : BUFFER_GPA + random.below(MAIN_SIZE);
    u32[w + 1] = random.below(16) === 0 ? random.next() : 0;
    u32[w + 2] = lengths[random.below(lengths.length)]!;
    u32[w + 3] = random.below(8) | (random.below(SIZE + 2) << 16);
    // an indirect one points into the tables as a rule
    if ((u32[w + 3]! & 4) !== 0 && random.below(4) > 0) {
      u32[w] = TABLE_GPA + 16 * random.below(64);
      u32[w + 2] = 16 * random.below(16);
    }
  };
  while (Atomics.load(stop, 0) === 0) {
    const ring = RING_GPA[random.below(2) as 0 | 1];
    descriptor(ring + 16 * random.below(SIZE));
    descriptor(TABLE_GPA + 16 * random.below(64));
    u16[(base + ring + AVAIL + 4) / 2 + random.below(SIZE)] = random.below(20_000) === 0 ? SIZE : random.below(SIZE);
    if (random.below(4) === 0) {
      // some more, seldom far too many
      const at = (base + ring + AVAIL + 2) / 2;
      const waiting = (u16[at]! - u16[(base + ring + USED + 2) / 2]!) & 0xffff;
      if (random.below(20_000) === 0) u16[at] = random.next();
      else if (waiting < SIZE - 8) u16[at] = u16[at]! + random.below(8);
    }
    if (random.below(64) === 0) u8[base + BUFFER_GPA + random.below(MAIN_SIZE - BUFFER_GPA)] = random.below(256);
  }
  mapping.close();
}

export interface RaceResult {
  turns: number;
  frames: number;
  faults: number;
}

export async function race(seconds: number, seed: number): Promise<RaceResult> {
  const runtime = testRuntime();
  const errors: unknown[] = [];
  runtime.mevent.onError = (error) => errors.push(error);
  runtime.loop.onError = (error) => errors.push(error);
  const memory = new GuestMemory(runtime.windows);
  const before = runtime.windows.mapAnonymous(CANARY_SIZE);
  const fd = memfdCreate('race');
  ftruncate(fd.number, MAIN_SIZE);
  memory.addRegion({ gpa: 0, size: MAIN_SIZE, userAddr: USER, mmapOffset: 0, fd: fd.number, pageSize: 4096 });
  const behind = runtime.windows.mapAnonymous(CANARY_SIZE);
  const canaries = [before, behind].map((m) => m.window.u8.subarray(m.off, m.off + CANARY_SIZE).fill(FILL));
  const place = { win: 0, off: 0 };
  assert.ok(memory.locate(0, MAIN_SIZE, place));
  const main = new Uint16Array(runtime.windows.windows[place.win]!.u8.buffer, place.off, MAIN_SIZE / 2);
  const device = new VirtioNet({
    runtime,
    name: 'vm1',
    mac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    openBackend: (onReceive) => openBackend(runtime, 'vale0:vm1', onReceive, 'vm1'),
  });
  const [a, b] = [2, 3].map((n) => {
    const mac = Uint8Array.of(2, 0, 0, 0, 0, n);
    return new TestGuest(runtime, { backend: `vale0:vm${n}`, name: `vm${n}`, mac });
  }) as [TestGuest, TestGuest];
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const workerInput: WorkerInput = { fd: fd.number, seed, stop };
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: workerInput });
  await new Promise((resolve) => worker.once('online', resolve));
  try {
    device.setDriverFeatures(device.deviceFeatures);
    device.setMemory(memory);
    const turns = serve(device, seconds, main, () => {
      a.send(etherFrame(0xff, 2, 60 + (turnsSeed++ % 1400)));
      b.receive();
      b.device.kick(RX_QUEUE);
      runtime.loop.step(0);
      runtime.records.length = 0;
    });
    assert.deepEqual(errors, []);
    for (const canary of canaries)
      assert.ok(
        canary.every((byte) => byte === FILL),
        'memory beside the guest was written',
      );
    checkTraffic(runtime, a, b);
    const { names, values } = device.counters;
    const sum = (pattern: RegExp) => names.reduce((n, name, i) => n + (pattern.test(name) ? values[i]! : 0), 0);
    return { turns, frames: sum(/^[rt]x_frames$/), faults: sum(/^fault_/) };
  } finally {
    Atomics.store(stop, 0, 1);
    await new Promise((resolve) => worker.once('exit', resolve));
    device.close();
    memory.close();
    for (const guest of [a, b]) guest.close();
    for (const m of [before, behind]) m.close();
    fd.close();
    runtime.close();
  }
}

let turnsSeed = 0;

/** Keeps both queues served for a while: one that broke is set up again, as after a reset. */
function serve(device: VirtioNet, seconds: number, main: Uint16Array, turn: () => void): number {
  const end = performance.now() + seconds * 1000;
  let turns = 0;
  while (performance.now() < end) {
    for (const queue of [RX_QUEUE, TX_QUEUE]) {
      const { started, broken } = device.status().queues[queue]!;
      if (broken || !started) startQueue(device, queue, main);
      device.kick(queue);
    }
    turn();
    turns++;
  }
  return turns;
}

function startQueue(device: VirtioNet, queue: number, main: Uint16Array): void {
  const ring = RING_GPA[queue as 0 | 1];
  const at = USER + ring;
  // nothing is available in a ring that was reset
  main[(ring + AVAIL + 2) / 2] = 0;
  main[(ring + USED + 2) / 2] = 0;
  device.stopQueue(queue);
  device.setQueueSize(queue, SIZE);
  device.setQueueAddresses(queue, { descUser: at, availUser: at + AVAIL, usedUser: at + USED });
  device.setQueueBase(queue, 0);
  device.setNotifier(queue, () => {});
  device.startQueue(queue);
  device.enableQueue(queue, true);
}

function checkTraffic(runtime: TestRuntime, a: TestGuest, b: TestGuest): void {
  const frame = etherFrame(0xff, 2, 60, 0x77);
  for (let i = 0; i < 200; i++) {
    if (i % 20 === 0) a.send(frame);
    b.device.kick(RX_QUEUE);
    runtime.loop.step(0);
    if (b.receive().some((got) => Buffer.compare(got.frame, frame) === 0)) return;
  }
  assert.fail('no frame passes between two other guests');
}

if (!isMainThread) scribble(workerData as WorkerInput);
else if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const { values } = parseArgs({
    options: { seconds: { type: 'string', default: '10' }, seed: { type: 'string', default: '1' } },
  });
  const result = await race(Number(values.seconds), Number(values.seed));
  process.stdout.write(`virtqueue-race: nothing broke: ${JSON.stringify(result)}\n`);
}
