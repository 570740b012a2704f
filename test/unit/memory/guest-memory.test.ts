import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { copyPieces } from '../../../src/memory/copy.js';
import { GuestMemory } from '../../../src/memory/guest-memory.js';
import { Iovec } from '../../../src/memory/iovec.js';
import { WindowPool } from '../../../src/memory/window.js';
import type { Fd } from '../../../src/sys/fd.js';
import { ftruncate, memfdCreate } from '../../../src/sys/memfd.js';

const KIB = 1024;
const GIB = 2 ** 30;
const USER = 0x7f00_0000_0000;

let pool: WindowPool;
let memory: GuestMemory;
let fds: Fd[];

beforeEach(() => {
  pool = new WindowPool();
  memory = new GuestMemory(pool);
  fds = [];
});
afterEach(() => {
  memory.close();
  for (const fd of fds) fd.close();
});

function file(size: number): number {
  const fd = memfdCreate('guest-memory-test');
  fds.push(fd);
  ftruncate(fd.number, size);
  return fd.number;
}

function add(gpa: number, size: number, fd: number, mmapOffset = 0, userAddr = USER + gpa): void {
  memory.addRegion({ gpa, size, userAddr, mmapOffset, fd, pageSize: 4096 });
}

function write(gpa: number, bytes: Uint8Array): void {
  const iov = new Iovec(8);
  assert.equal(memory.translate(gpa, bytes.length, iov), 0);
  let at = 0;
  for (let i = 0; i < iov.count; i++) {
    pool.windows[iov.win[i]!]!.u8.set(bytes.subarray(at, at + iov.len[i]!), iov.off[i]!);
    at += iov.len[i]!;
  }
}

function read(gpa: number, len: number): Uint8Array {
  const iov = new Iovec(8);
  assert.equal(memory.translate(gpa, len, iov), 0);
  const parts = Array.from({ length: iov.count }, (_, i) =>
    pool.windows[iov.win[i]!]!.u8.subarray(iov.off[i]!, iov.off[i]! + iov.len[i]!),
  );
  return Uint8Array.from(Buffer.concat(parts));
}

describe('translation', () => {
  test('every byte of a region is reached, and none beside it', () => {
    add(0x10000, 64 * KIB, file(64 * KIB));
    const iov = new Iovec(4);
    for (const [gpa, len, code] of [
      [0x10000, 1, 0],
      [0x1ffff, 1, 0],
      [0x10000, 64 * KIB, 0],
      [0xffff, 1, -14],
      [0x20000, 1, -14],
      [0x1ffff, 2, -14],
      [0, 2 ** 32 - 1, -14],
      [2 ** 53, 1, -14],
      [2 ** 64, 2 ** 32, -14],
    ] as const) {
      iov.clear();
      assert.equal(memory.translate(gpa, len, iov), code, `gpa 0x${gpa.toString(16)} length ${len}`);
    }
  });

  test('a buffer may cross from one region into the one that follows it, not over a gap', () => {
    const fd = file(192 * KIB);
    add(0, 64 * KIB, fd, 0);
    add(64 * KIB, 64 * KIB, fd, 128 * KIB);
    add(256 * KIB, 64 * KIB, fd, 64 * KIB);
    const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
    write(64 * KIB - 50, bytes);
    assert.deepEqual(read(64 * KIB - 50, 100), bytes);
    assert.deepEqual(read(64 * KIB, 50), bytes.slice(50), 'the second half lies in the second region');
    assert.equal(memory.translate(128 * KIB - 50, 100, new Iovec(4)), -14);
  });

  test('a list that is full is said, and nothing is lost', () => {
    add(0, 64 * KIB, file(64 * KIB));
    const iov = new Iovec(1);
    assert.equal(memory.translate(0, 10, iov), 0);
    assert.equal(memory.translate(10, 10, iov), -90);
    assert.equal(iov.total, 10);
  });

  test('user addresses are those of the region they lie in', () => {
    add(0x1000, 4096, file(8192), 4096, USER);
    assert.equal(memory.userToGpa(USER), 0x1000);
    assert.equal(memory.userToGpa(USER + 4095), 0x1fff);
    assert.equal(memory.userToGpa(USER + 4096), -1);
    assert.equal(memory.userToGpa(USER - 1), -1);
  });
});

describe('regions', () => {
  test('of sparse memory, also above 4 GiB and longer than a window, are reached at both ends', () => {
    const size = 9 * GIB;
    add(4 * GIB, size, file(size));
    const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    for (const gpa of [4 * GIB, 7 * GIB - 4, 8 * GIB - 4, 10 * GIB - 4, 12 * GIB, 13 * GIB - 8]) {
      write(gpa, bytes);
      assert.deepEqual(read(gpa, 8), bytes, `at ${gpa / GIB} GiB`);
    }
    assert.equal(memory.translate(13 * GIB - 7, 8, new Iovec(4)), -14);
    assert.ok(pool.windows.length >= 3);
    memory.close();
    assert.ok(pool.windows.every((w) => !w.inUse));
  });

  test('a region that begins in the middle of a page of its file', () => {
    const fd = file(64 * KIB);
    memory.addRegion({ gpa: 0, size: 8192, userAddr: USER, mmapOffset: 4096 + 512, fd, pageSize: 4096 });
    write(0, Uint8Array.of(9));
    const whole = new GuestMemory(pool);
    whole.addRegion({ gpa: 0, size: 64 * KIB, userAddr: USER, mmapOffset: 0, fd, pageSize: 4096 });
    const iov = new Iovec(1);
    whole.translate(4096 + 512, 1, iov);
    assert.equal(pool.windows[iov.win[0]!]!.u8[iov.off[0]!], 9);
    whole.close();
  });

  test('that overlap, are empty or beyond reason are refused, and leave no mapping', () => {
    const fd = file(1024 * KIB);
    add(0, 64 * KIB, fd);
    for (const [gpa, size, offset, user] of [
      [32 * KIB, 64 * KIB, 0, USER + GIB],
      [0, 4096, 0, USER + GIB],
      [GIB, 64 * KIB, 0, USER + 4096],
      [GIB, 0, 0, USER + GIB],
      [2 ** 53 - 4096, 8192, 0, USER + GIB],
      [GIB, 4096, 2 ** 53 - 1, USER + GIB],
      [-4096, 4096, 0, USER + GIB],
    ] as const)
      assert.throws(() => add(gpa, size, fd, offset, user), { code: 'EINVAL' }, `${gpa} ${size}`);
    assert.equal(memory.regionCount, 1);
  });

  test('that are removed can be reached no more; what an old address finds there is zeros, not a fault', () => {
    add(0, 64 * KIB, file(64 * KIB));
    write(0, Uint8Array.of(7));
    const iov = new Iovec(1);
    memory.translate(0, 1, iov);
    assert.ok(!memory.removeRegion(0, 4096, USER), 'only the very region is meant');
    assert.ok(memory.removeRegion(0, 64 * KIB, USER));
    assert.equal(memory.translate(0, 1, new Iovec(1)), -14);
    assert.equal(pool.windows[iov.win[0]!]!.u8[iov.off[0]!], 0);
  });

  test('of which the second piece cannot be mapped leave nothing behind', () => {
    const small = new WindowPool(16 * 2 ** 20);
    const guest = new GuestMemory(small);
    const fd = file(64 * KIB);
    assert.throws(() =>
      guest.addRegion({ gpa: 0, size: 64 * KIB, userAddr: USER, mmapOffset: 0, fd: fd + 1000, pageSize: 4096 }),
    );
    assert.ok(small.windows.every((w) => !w.inUse));
  });
});

test('copies between lists of pieces in several windows agree with a plain concatenation', () => {
  const small = new WindowPool(4 * 2 ** 20);
  const mappings = [0, 1, 2].map(() => small.mapAnonymous(3 * 2 ** 20));
  assert.equal(new Set(mappings.map((m) => m.window.index)).size, 3);
  const piece = fc.record({ where: fc.nat(2), at: fc.nat(3000), len: fc.nat(400) });
  fc.assert(
    fc.property(
      fc.array(piece, { minLength: 1, maxLength: 6 }),
      fc.array(piece, { minLength: 1, maxLength: 6 }),
      fc.nat(20),
      (from, to, skip) => {
        const src = new Iovec(6);
        const dst = new Iovec(6);
        const bytes: number[] = [];
        from.forEach((p, i) => {
          const m = mappings[p.where]!;
          const off = m.off + i * 8192 + p.at;
          const part = Uint8Array.from({ length: p.len }, (_, k) => (i * 31 + k) & 255);
          m.window.u8.set(part, off);
          bytes.push(...part);
          src.push(m.window.index, off, p.len);
        });
        to.forEach((p, i) => {
          const m = mappings[p.where]!;
          dst.push(m.window.index, m.off + 2 ** 20 + i * 8192 + p.at, p.len);
        });
        const len = Math.min(bytes.length, dst.total - skip);
        if (len <= 0) return;
        copyPieces(small, src.win, src.off, src.len, 0, len, dst, skip);
        const got: number[] = [];
        for (let i = 0; i < dst.count; i++)
          got.push(...small.windows[dst.win[i]!]!.u8.subarray(dst.off[i]!, dst.off[i]! + dst.len[i]!));
        assert.deepEqual(got.slice(skip, skip + len), bytes.slice(0, len));
      },
    ),
    { numRuns: 300 },
  );
  for (const m of mappings) m.close();
});
