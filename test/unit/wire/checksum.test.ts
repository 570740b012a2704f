import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { instantiateKernel } from '../../../src/memory/kernel.js';
import {
  completeChecksum,
  fold,
  pseudoSumV4,
  pseudoSumV6,
  storeIpv4Checksum,
  sum16,
} from '../../../src/wire/checksum.js';
import { bytesKernel } from '../../support/bytes-kernel.js';
import { buildFrame, type FrameSpec, l4Offset, naiveSum, pattern, pseudoHeader } from '../../support/frames.js';

function swap(value: number): number {
  return ((value & 255) << 8) | (value >> 8);
}

/** 0 and 0xffff are the same in ones' complement. */
function same(a: number, b: number): boolean {
  return a % 0xffff === b % 0xffff;
}

test('a sum equals the RFC 1071 sum of big-endian words, whatever the offset and length', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(3), (bytes, off) => {
      const u8 = new Uint8Array(off + bytes.length + 5).fill(0xa5);
      u8.set(bytes, off);
      assert.ok(same(swap(sum16(u8, off, bytes.length)), naiveSum([...bytes])));
    }),
  );
});

test('sums are those of the WebAssembly kernel, so that both may be added', () => {
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 2 });
  const kernel = instantiateKernel(memory);
  const u8 = new Uint8Array(memory.buffer);
  u8.set(pattern(70000), 0);
  for (const len of [0, 1, 2, 3, 15, 16, 17, 31, 33, 1513, 65536, 69999])
    assert.ok(same(sum16(u8, 1, len), kernel.sum16(1, len)), `length ${len}`);
  u8.fill(255);
  assert.ok(same(sum16(u8, 0, 65536), kernel.sum16(0, 65536)));
});

test('carries are folded until 16 bits are left', () => {
  assert.equal(fold(0), 0);
  assert.equal(fold(0xffff), 0xffff);
  assert.equal(fold(0x10000), 1);
  assert.equal(fold(0x1ffff), 1);
  assert.ok(same(fold(2 ** 40 - 1), (2 ** 40 - 1) % 0xffff));
});

test('pseudo headers of both IP versions sum as RFC 9293 and RFC 8200 lay them out', () => {
  for (const ip of [4, 6] as const) {
    const spec: FrameSpec = { ip, protocol: 'udp', payload: pattern(9) };
    const u8 = Uint8Array.from(buildFrame(spec));
    const sum = ip === 4 ? pseudoSumV4(u8, 14, 17, 17) : pseudoSumV6(u8, 14, 17, 17);
    assert.ok(same(swap(fold(sum)), naiveSum(pseudoHeader(spec, 17))), `IPv${ip}`);
  }
});

test('an IPv4 header checksum is computed over the header with its options', () => {
  const spec: FrameSpec = { ip: 4, protocol: 'udp', payload: [], options: [7, 7, 4, 0, 0, 0, 0, 0] };
  const right = Uint8Array.from(buildFrame(spec));
  const frame = right.slice();
  frame.fill(0xee, 24, 26);
  storeIpv4Checksum(frame, 14, 28);
  assert.deepEqual(frame, right);
});

const specArbitrary = fc.record({
  ip: fc.constantFrom(4 as const, 6 as const),
  protocol: fc.constantFrom('tcp' as const, 'udp' as const),
  payload: fc.array(fc.nat(255), { maxLength: 100 }),
  vlans: fc.array(fc.constant<[number, number]>([0x8100, 5]), { maxLength: 2 }),
});

test('a partial checksum is completed to what the sender would have computed', () => {
  fc.assert(
    fc.property(specArbitrary, (spec) => {
      const right = Uint8Array.from(buildFrame(spec));
      const frame = Uint8Array.from(buildFrame({ ...spec, partialChecksum: true }));
      const csumOffset = spec.protocol === 'tcp' ? 16 : 6;
      completeChecksum(frame, bytesKernel(frame), 0, frame.length, l4Offset(spec), csumOffset);
      assert.deepEqual(frame, right);
    }),
  );
});

test('a UDP checksum that comes out as zero is sent as all ones', () => {
  // the payload makes the sum 0xffff: it is the complement of the sum without it
  const spec: FrameSpec = { ip: 4, protocol: 'udp', payload: [0, 0], partialChecksum: true };
  const at = l4Offset(spec);
  const rest = naiveSum([...pseudoHeader(spec, 10), ...buildFrame(spec).slice(at, at + 6)]);
  spec.payload = [(0xffff - rest) >> 8, (0xffff - rest) & 255];
  const frame = Uint8Array.from(buildFrame(spec));
  completeChecksum(frame, bytesKernel(frame), 0, frame.length, at, 6);
  assert.deepEqual([...frame.subarray(at + 6, at + 8)], [0xff, 0xff]);
});
