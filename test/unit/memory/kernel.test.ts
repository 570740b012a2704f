import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { compileKernel } from '../../../scripts/build-kernel.js';
import { kernelWasm } from '../../../src/memory/kernel-wasm.js';
import { WindowPool } from '../../../src/memory/window.js';
import { sum16 } from '../../../src/wire/checksum.js';

const pool = new WindowPool();
const memory = pool.mapAnonymous(1 << 20);
const { window, off } = memory;

test('kernel-wasm.ts is what kernel.ts compiles to', async () => {
  assert.ok((await compileKernel()) === kernelWasm, 'they differ: run npm run build:kernel');
});

test('sum16 agrees with the plain sum, for any bytes, offset and length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), fc.nat(17), (bytes, skew) => {
      window.u8.set(bytes, off + skew);
      assert.equal(window.kernel.sum16(off + skew, bytes.length), sum16(bytes, 0, bytes.length));
    }),
  );
});

test('copy moves exactly the bytes asked for', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 2000 }), fc.nat(15), fc.nat(15), (bytes, from, to) => {
      const src = off + from;
      const dst = off + 8192 + to;
      window.u8.fill(0xaa, dst - 16, dst + bytes.length + 16);
      window.u8.set(bytes, src);
      window.kernel.copy(dst, src, bytes.length);
      assert.deepEqual(window.u8.slice(dst, dst + bytes.length), bytes);
      assert.ok(window.u8.subarray(dst - 16, dst).every((b) => b === 0xaa));
      assert.ok(window.u8.subarray(dst + bytes.length, dst + bytes.length + 16).every((b) => b === 0xaa));
    }),
  );
});
