/** The kernel's way from ring to ring against the plain one, which takes whatever the kernel leaves. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { readCounters } from '../../../src/engine/counters.js';
import type { NetmapPort } from '../../../src/netmap/port.js';
import { NetmapRig, put, take } from '../../support/netmap-ports.js';

const PORTS = 4;

interface Step {
  port: number;
  ring: number;
  to: number;
  from: number;
  len: number;
  piece: number;
  /** syncs after it, and takes what has come everywhere */
  sync: boolean;
}

const ports = fc.array(
  fc.record({
    rings: fc.integer({ min: 1, max: 3 }),
    slots: fc.constantFrom(16, 64),
    hdrLen: fc.constantFrom(0, 0, 10, 12),
  }),
  { minLength: PORTS, maxLength: PORTS },
);
const steps = fc.array(
  fc.record<Step>({
    port: fc.nat(PORTS - 1),
    ring: fc.nat(2),
    // addresses of the ports, an unknown one, broadcast
    to: fc.constantFrom(1, 2, 3, 4, 9, 0xff),
    // mostly its own, at times that of another: it moves
    from: fc.constantFrom(0, 0, 0, 0, 0, 2, 0xff),
    len: fc.oneof(fc.integer({ min: 12, max: 200 }), fc.constantFrom(1514, 2040, 2048, 2049, 4096, 5000)),
    piece: fc.constantFrom(2048, 2048, 2048, 700, 64),
    sync: fc.boolean(),
  }),
  { maxLength: 60 },
);

class Run {
  readonly rig = new NetmapRig();
  readonly ports: NetmapPort[];
  readonly seen: string[] = [];

  constructor(
    setup: readonly { rings: number; slots: number; hdrLen: number }[],
    readonly withKernel: boolean,
  ) {
    this.ports = setup.map(({ rings, slots, hdrLen }, i) => {
      const sizes = { txRings: rings, rxRings: rings, txSlots: slots, rxSlots: slots };
      const port = this.rig.open(`vale0:p${i}`, sizes);
      port.vnetHdrLen = hdrLen;
      return port;
    });
    if (!withKernel)
      for (const window of this.rig.runtime.windows.windows) window.kernel.valeSend = (_tx, at): number => at;
  }

  step({ port: index, ring, to, from, len, piece, sync }: Step): void {
    const port = this.ports[index]!;
    const tx = port.txRings[ring % port.txRings.length]!;
    const { vnetHdrLen } = port;
    const bytes = new Uint8Array(vnetHdrLen + len).map((_, i) => i * 7);
    bytes.fill(0, 0, vnetHdrLen);
    const address = (n: number) => (n === 0xff ? [255, 255, 255, 255, 255, 255] : [2, 0, 0, 0, 0, n]);
    bytes.set([...address(to), ...address(from === 0 ? index + 1 : from)].slice(0, len), vnetHdrLen);
    const slots = Math.ceil(bytes.length / piece);
    if (slots <= 64 && slots <= tx.space()) put(tx, bytes, { piece });
    if (sync) this.sync();
  }

  sync(): void {
    for (const [i, port] of this.ports.entries()) {
      port.txsync();
      for (const [to, other] of this.ports.entries())
        for (const ring of other.rxRings.keys())
          for (const bytes of take(other, ring))
            this.seen.push(`${i}: ${to}.${ring} ${bytes.length} ${createHash('md5').update(bytes).digest('hex')}`);
    }
  }

  counters(): unknown {
    const { counters } = this.rig.runtime;
    return readCounters(counters.buffer, counters.directory());
  }
}

test('from ring to ring the kernel does what the plain way does, frame by frame and counter by counter', () => {
  let arrived = 0;
  fc.assert(
    fc.property(ports, steps, (setup, list) => {
      const runs = [new Run(setup, true), new Run(setup, false)] as const;
      try {
        for (const run of runs) {
          for (const step of list) run.step(step);
          run.sync();
        }
        assert.deepEqual(runs[0].seen, runs[1].seen);
        assert.deepEqual(runs[0].counters(), runs[1].counters());
        arrived += runs[0].seen.length;
      } finally {
        for (const run of runs) run.rig.close();
      }
    }),
    { numRuns: 60 },
  );
  assert.ok(arrived > 0, 'frames arrived');
});
