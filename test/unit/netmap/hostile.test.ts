/** Users that write what they like into their memory: nothing throws, and nobody else notices. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { NetmapPort } from '../../../src/netmap/port.js';
import { frame, NetmapRig, send, take } from '../../support/netmap-ports.js';

const RING_WORDS = 64 + 16 * 4;

const nonsense = fc.oneof(
  fc.nat(40),
  fc.constantFrom(0, 1, 2, 15, 16, 17, 0x7fffffff, 0x80000000, 0xffffffff, 0x00200800, 0x00300040, 0x00400040),
  fc.integer({ min: 0, max: 0xffffffff }),
);

/** Which word of which ring becomes what, and a sync now and then. */
const writes = fc.array(
  fc.record({
    ring: fc.nat(3),
    word: fc.nat(RING_WORDS - 1),
    value: nonsense,
    advance: fc.nat(15),
    sync: fc.boolean(),
  }),
  { minLength: 1, maxLength: 60 },
);

function write(
  port: NetmapPort,
  { ring, word, value, advance, sync }: typeof writes extends fc.Arbitrary<(infer T)[]> ? T : never,
): void {
  const rings = [...port.txRings, ...port.rxRings];
  const target = rings[ring % rings.length]!;
  // the lower words are the header, half of the time; the slots behind it
  const off = word < 16 ? word * 4 : 256 + (word - 16) * 4;
  target.window.u32[(target.off + off) >>> 2] = value;
  if (advance > 0 && target.head < target.numSlots) {
    const at = (target.head + advance) % target.numSlots;
    target.head = at;
    target.cur = at;
  }
  if (!sync) return;
  port.txsync();
  port.rxsync();
}

for (const kernel of [true, false])
  test(`rings full of nonsense are their user's trouble only${kernel ? '' : ', frame by frame too'}`, () => {
    const rig = new NetmapRig();
    fc.assert(
      fc.property(writes, (todo) => {
        const sizes = { txSlots: 16, rxSlots: 16 };
        const bad = rig.open('vale0:bad', sizes);
        const pipe = rig.open(`vale0:bad{1`, sizes);
        const monitor = rig.open('vale0:bad/tr', sizes);
        const zero = rig.open('vale0:bad{1/z', sizes);
        const [b, c] = [rig.open('vale0:b', sizes), rig.open('vale0:c', sizes)];
        if (!kernel)
          for (const { kernel: functions } of rig.runtime.windows.windows) functions.valeSend = (_tx, at) => at;
        send(b, frame(3, 2));
        send(c, frame(2, 3));
        for (const [i, step] of todo.entries()) write([bad, pipe, monitor, zero][i % 4] as NetmapPort, step);
        take(b);
        take(c);
        send(b, frame(3, 2, 300, 7), { flags: 0 });
        send(c, frame(2, 3, 200, 8));
        const sees = (port: NetmapPort, expected: Uint8Array) =>
          assert.ok(take(port).some((bytes) => Buffer.compare(bytes, expected) === 0));
        sees(c, frame(3, 2, 300, 7));
        sees(b, frame(2, 3, 200, 8));
        rig.closePorts();
      }),
      { numRuns: 150 },
    );
    rig.close();
  });
