import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { completeChecksum } from '../../../src/wire/checksum.js';
import { PartialChecksum } from '../../../src/wire/partial-checksum.js';
import { bytesKernel } from '../../support/bytes-kernel.js';
import { buildFrame, type FrameSpec, l4Offset, pattern } from '../../support/frames.js';

const found = new PartialChecksum();

const specs: fc.Arbitrary<FrameSpec> = fc.record({
  ip: fc.constantFrom(4 as const, 6 as const),
  protocol: fc.constantFrom('tcp' as const, 'udp' as const),
  payload: fc.array(fc.nat(255), { maxLength: 300 }),
  sourcePort: fc.integer({ min: 1, max: 65535 }),
  vlans: fc.constantFrom([], [[0x8100, 5]] as [number, number][]),
});

function look(frame: Uint8Array, at = 0, here = frame.length): boolean {
  return found.find(frame, at, here, frame.length - at);
}

describe('finding a checksum that was left open', () => {
  test('a field that holds the sum of the pseudo header is found, and completed it is the checksum', () => {
    fc.assert(
      fc.property(specs, fc.nat(20), fc.nat(9), (spec, before, padding) => {
        const open = buildFrame({ ...spec, partialChecksum: true });
        const u8 = Uint8Array.from([...new Array(before).fill(0xee), ...open, ...new Array(padding).fill(0xdd)]);
        assert.equal(found.find(u8, before, open.length + padding, open.length + padding), true);
        assert.equal(found.csumStart, l4Offset(spec));
        assert.equal(found.end, open.length);
        completeChecksum(u8, bytesKernel(u8), before, found.end, found.csumStart, found.csumOffset);
        assert.deepEqual([...u8.subarray(before, before + open.length)], buildFrame(spec));
      }),
    );
  });

  test('a frame whose checksum is there stays as it is, found or not', () => {
    fc.assert(
      fc.property(specs, (spec) => {
        const whole = Uint8Array.from(buildFrame(spec));
        if (look(whole)) completeChecksum(whole, bytesKernel(whole), 0, found.end, found.csumStart, found.csumOffset);
        assert.deepEqual([...whole], buildFrame(spec));
      }),
    );
  });

  test('tells TCP over IPv4, TCP over IPv6 and UDP apart', () => {
    for (const [ip, protocol, gsoType] of [
      [4, 'tcp', 1],
      [6, 'tcp', 4],
      [4, 'udp', 0],
      [6, 'udp', 0],
    ] as const) {
      const spec: FrameSpec = { ip, protocol, payload: pattern(100), partialChecksum: true };
      assert.equal(look(Uint8Array.from(buildFrame(spec))), true);
      assert.equal(found.gsoType, gsoType);
      assert.equal(found.payloadOff, l4Offset(spec) + (protocol === 'tcp' ? 20 : 8));
    }
  });

  test('fragments are left alone', () => {
    const spec: FrameSpec = { ip: 4, protocol: 'udp', payload: pattern(100), partialChecksum: true, frag: 0x2000 };
    assert.equal(look(Uint8Array.from(buildFrame(spec))), false);
  });

  test('never reads outside the piece that is here, and never throws, whatever the bytes are', () => {
    fc.assert(
      fc.property(
        specs,
        fc.nat(80),
        fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 6 }),
        (spec, cut, bad) => {
          const bytes = Uint8Array.from(buildFrame({ ...spec, partialChecksum: true }));
          for (const [at, value] of bad) if (at < bytes.length) bytes[at] = value;
          const here = Math.min(cut, bytes.length);
          const short = bytes.slice(0, here);
          const inPiece = found.find(short, 0, here, bytes.length);
          assert.equal(inPiece, found.find(bytes, 0, here, bytes.length));
          if (inPiece) assert.ok(found.csumStart + found.csumOffset + 2 <= here);
        },
      ),
    );
  });
});
