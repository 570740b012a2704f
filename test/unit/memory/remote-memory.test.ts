import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { GuestMemory } from '../../../src/memory/guest-memory.js';
import { Iovec } from '../../../src/memory/iovec.js';
import { DmaBatch, type RemoteMemory } from '../../../src/memory/remote-memory.js';
import { type Mapping, WindowPool } from '../../../src/memory/window.js';
import type { Fd } from '../../../src/sys/fd.js';
import { ftruncate, memfdCreate } from '../../../src/sys/memfd.js';
import { TestDmaChannel } from '../../support/test-dma-channel.js';

const PAGE = 4096;
/** remote, shared, remote, then nothing, then remote */
const SIZE = 8 * PAGE;
const SHARED = 2 * PAGE;
const SECOND = 3 * PAGE;
const HOLE = 5 * PAGE;
const LAST = 6 * PAGE;

let pool: WindowPool;
let memory: GuestMemory;
let remote: RemoteMemory;
let channel: TestDmaChannel;
/** the guest's memory: that of the hypervisor for remote regions, a file for the shared one */
let guest: Mapping;
let file: Fd;
let shared: Mapping;

beforeEach(() => {
  pool = new WindowPool();
  memory = new GuestMemory(pool);
  guest = pool.mapAnonymous(SIZE);
  channel = new TestDmaChannel({ u8: guest.window.u8, base: guest.off });
  file = memfdCreate('remote-memory-test');
  ftruncate(file.number, PAGE);
  shared = pool.mapFile({ fd: file.number, fileOffset: 0, length: PAGE, pageSize: PAGE });
  memory.addRemoteRegionLater({ gpa: 0, size: SHARED, userAddr: 0 }, channel);
  const fd = file.number;
  memory.addRegionLater({ gpa: SHARED, size: PAGE, userAddr: SHARED, mmapOffset: 0, fd, pageSize: PAGE });
  memory.addRemoteRegionLater({ gpa: SECOND, size: HOLE - SECOND, userAddr: SECOND }, channel);
  memory.addRemoteRegionLater({ gpa: LAST, size: SIZE - LAST, userAddr: LAST }, channel);
  memory.settle();
  remote = memory.remote!;
  channel.arrived = (gpa, bytes) => remote.arrived(gpa, bytes);
});

afterEach(() => {
  memory.close();
  guest.close();
  shared.close();
  file.close();
});

function isShared(gpa: number): boolean {
  return gpa >= SHARED && gpa < SECOND;
}

/** What the guest has at `gpa`. */
function poke(gpa: number, value: number): void {
  if (isShared(gpa)) shared.window.u8[shared.off + gpa - SHARED] = value;
  else guest.window.u8[guest.off + gpa] = value;
}

function peek(gpa: number): number {
  return isShared(gpa) ? shared.window.u8[shared.off + gpa - SHARED]! : guest.window.u8[guest.off + gpa]!;
}

/** What a device model sees of it. */
function bytesHere(gpa: number, len: number): number[] {
  const iov = new Iovec(8);
  assert.equal(remote.map.translate(gpa, len, iov), 0);
  const bytes: number[] = [];
  for (let i = 0; i < iov.count; i++)
    bytes.push(...pool.windows[iov.win[i]!]!.u8.subarray(iov.off[i]!, iov.off[i]! + iov.len[i]!));
  return bytes;
}

function submit(batch: DmaBatch): boolean {
  let result: boolean | undefined;
  remote.submit(batch, (ok) => {
    assert.equal(result, undefined, 'a batch was over twice');
    result = ok;
  });
  channel.deliverAll();
  assert.notEqual(result, undefined, 'a batch was never over');
  return result === true;
}

test('the copy is not taken for the guest’s memory: shared memory alone is translated without it', () => {
  const iov = new Iovec(8);
  assert.equal(memory.translate(0, 1, iov), -14);
  assert.equal(memory.translate(SHARED, PAGE, iov), 0);
  assert.equal(memory.translate(SHARED, PAGE + 1, iov), -14);
  assert.equal(remote.map.translate(0, HOLE, iov), 0);
});

test('memory that is all shared has no remote side', () => {
  const other = new GuestMemory(pool);
  other.addRegion({ gpa: 0, size: PAGE, userAddr: 0, mmapOffset: 0, fd: file.number, pageSize: PAGE });
  assert.equal(other.remote, undefined);
  other.close();
});

test('an empty batch is over at once', () => {
  let result: boolean | undefined;
  remote.submit(new DmaBatch(), (ok) => {
    result = ok;
  });
  assert.equal(result, true);
});

test('what is not all guest memory is refused, and adds nothing', () => {
  const batch = new DmaBatch();
  for (const [gpa, len] of [
    [HOLE, 1],
    [HOLE - 1, 2],
    [0, SIZE],
    [SIZE - 1, 2],
    [2 ** 52, 16],
    [2 ** 63, 16],
    [2 ** 64 - 2 ** 11, 16],
  ] as const) {
    assert.equal(remote.fetch(batch, gpa, len), false);
    assert.equal(remote.store(batch, gpa, len), false);
    assert.equal(remote.fetchInto(batch, gpa, new Uint8Array(len)), false);
    assert.equal(remote.storeFrom(batch, gpa, new Uint8Array(len)), false);
  }
  assert.equal(batch.empty, true);
  assert.equal(batch.bytes, 0);
});

test('any run of bytes is fetched and stored as the guest has it, whichever regions it lies in', () => {
  const range = fc
    .oneof(
      fc.tuple(fc.integer({ min: 0, max: HOLE - 1 }), fc.constant(HOLE)),
      fc.tuple(fc.integer({ min: LAST, max: SIZE - 1 }), fc.constant(SIZE)),
    )
    .chain(([gpa, end]) => fc.tuple(fc.constant(gpa), fc.integer({ min: 1, max: end - gpa })));
  fc.assert(
    fc.property(range, fc.nat(255), ([gpa, len], seed) => {
      const value = (at: number): number => (at * 7 + seed) & 0xff;
      const all = Array.from({ length: len }, (_, i) => gpa + i);
      for (const at of all) poke(at, value(at));
      const fetched = new DmaBatch();
      assert.equal(remote.fetch(fetched, gpa, len), true);
      const into = new Uint8Array(len);
      assert.equal(remote.fetchInto(fetched, gpa, into), true);
      assert.equal(submit(fetched), true);
      assert.deepEqual(bytesHere(gpa, len), all.map(value));
      assert.deepEqual([...into], all.map(value));
      // the guest changes what was fetched, and what is here is stored over it
      for (const at of all) if (!isShared(at)) poke(at, 0);
      const stored = new DmaBatch();
      assert.equal(remote.store(stored, gpa, len), true);
      assert.equal(submit(stored), true);
      assert.deepEqual(all.map(peek), all.map(value));
      const before = bytesHere(gpa, len);
      const from = Uint8Array.from(all, (at) => ~value(at));
      const storedFrom = new DmaBatch();
      assert.equal(remote.storeFrom(storedFrom, gpa, from), true);
      from.fill(0);
      assert.equal(submit(storedFrom), true);
      assert.deepEqual(
        all.map(peek),
        all.map((at) => ~value(at) & 0xff),
      );
      for (const [i, at] of all.entries()) if (!isShared(at)) assert.equal(bytesHere(at, 1)[0], before[i]);
    }),
    { numRuns: 60 },
  );
});

test('a store takes the bytes as they are when it is added', () => {
  const place = { win: 0, off: 0 };
  remote.map.locate(0, 1, place);
  const { u8 } = pool.windows[place.win]!;
  const batch = new DmaBatch();
  u8[place.off] = 1;
  remote.store(batch, 0, 1);
  u8[place.off] = 2;
  submit(batch);
  assert.equal(peek(0), 1);
});

test('what is for a region that may only be read stays in the copy', () => {
  const rom = SIZE;
  memory.addRemoteRegionLater({ gpa: rom, size: PAGE, userAddr: rom, readOnly: true }, channel);
  memory.settle();
  const batch = new DmaBatch();
  assert.equal(remote.store(batch, rom, 16), true);
  assert.equal(remote.storeFrom(batch, rom, new Uint8Array(16)), true);
  assert.equal(batch.empty, true);
  assert.equal(remote.fetch(batch, rom, 16), true);
  assert.equal(batch.bytes, 16);
});

test('what arrives for memory that is gone is dropped, and harms nobody', () => {
  const batch = new DmaBatch();
  remote.fetch(batch, LAST, PAGE);
  remote.submit(batch, () => {});
  memory.removeRegionLater(LAST, SIZE - LAST, LAST);
  // somebody else gets the place
  const other = pool.mapAnonymous(SIZE - LAST);
  memory.settle();
  for (let i = 0; i < PAGE; i++) poke(LAST + i, 0xff);
  channel.deliverAll();
  assert.ok(other.window.u8.subarray(other.off, other.off + PAGE).every((byte) => byte === 0));
  other.close();
});

test('windows are empty once the memory is closed', () => {
  memory.close();
  guest.close();
  shared.close();
  assert.deepEqual(
    pool.windows.map((w) => w.rangeCount),
    pool.windows.map(() => 0),
  );
});
