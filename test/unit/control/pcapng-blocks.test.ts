import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PcapngBlocks } from '../../../src/control/pcapng-blocks.js';

function block(type: number, bodyWords: number): Buffer {
  const bytes = Buffer.alloc(12 + bodyWords * 4);
  bytes.writeUInt32LE(type, 0);
  bytes.writeUInt32LE(bytes.length, 4);
  bytes.writeUInt32LE(bytes.length, bytes.length - 4);
  return bytes;
}

test('gives whole blocks only, however the stream is cut, and loses none', () => {
  const blocks = fc.array(fc.tuple(fc.constantFrom(0x0a0d0d0a, 1, 5, 6), fc.nat(40)), { maxLength: 12 });
  fc.assert(
    fc.property(blocks, fc.array(fc.nat(100)), fc.option(fc.integer({ min: 1, max: 5 })), (list, cuts, count) => {
      const parts = list.map(([type, words]) => block(type, words));
      const stream = Buffer.concat(parts);
      const wanted = count ?? Number.POSITIVE_INFINITY;
      const reader = new PcapngBlocks();
      const out: Uint8Array[] = [];
      let packets = 0;
      for (let at = 0, i = 0; at < stream.length; i++) {
        const next = Math.min(stream.length, at + 1 + (cuts[i] ?? 7));
        const got = reader.push(stream.subarray(at, next), wanted - packets);
        packets += got.packets;
        out.push(Buffer.from(got.bytes));
        at = next;
        if (packets >= wanted) break;
      }
      // the naive oracle: blocks up to and with the last packet that is wanted
      let left = wanted;
      const expected = parts.filter((_, i) => {
        if (left <= 0) return false;
        if (list[i]?.[0] === 6) left--;
        return true;
      });
      const all = Buffer.concat(out);
      assert.equal(packets, Math.min(wanted, list.filter(([type]) => type === 6).length));
      assert.deepEqual(all, Buffer.concat(expected).subarray(0, all.length));
      if (packets < wanted) assert.equal(all.length, stream.length);
      else assert.equal(all.length, Buffer.concat(expected).length);
    }),
  );
});

test('refuses what is not pcapng', () => {
  for (const length of [0, 8, 13, 2 ** 24]) {
    const bytes = block(6, 1);
    bytes.writeUInt32LE(length, 4);
    assert.throws(() => new PcapngBlocks().push(bytes), { code: 'EPROTO' });
  }
});
