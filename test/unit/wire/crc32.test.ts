import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 as zlibCrc32 } from 'node:zlib';
import fc from 'fast-check';
import { CRC32_INIT, crc32 } from '../../../src/wire/crc32.js';

test('is zlib’s CRC-32, from any place on and in any parts', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(7), fc.nat(200), (bytes, before, cut) => {
      const memory = new Uint8Array(before + bytes.length + 4).fill(0xee);
      memory.set(bytes, before);
      const first = Math.min(cut, bytes.length);
      const half = crc32(memory, before, first, CRC32_INIT);
      const whole = crc32(memory, before + first, bytes.length - first, half);
      assert.equal(~whole >>> 0, zlibCrc32(bytes));
    }),
  );
});
