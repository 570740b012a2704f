import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { FabricCore } from '../../../src/control/fabric-core.js';
import { openFdCount } from '../../../src/sys/fd.js';
import { recordingLog } from '../../support/log-recorder.js';
import { tempDir } from '../../support/temp-dir.js';
import { etherFrame } from '../../support/test-guest.js';
import { stepUntil } from '../../support/vhost-user-client.js';
import { VhostUserGuest } from '../../support/vhost-user-guest.js';

/** bytes of a guest where its rings are, and where its buffers begin */
const RINGS = 4096;

/** A guest writes `value` over [at, at + length) of its memory; modulo what it has. */
const scribble = fc.record({
  at: fc.oneof({ weight: 3, arbitrary: fc.nat(8192) }, { weight: 1, arbitrary: fc.nat(2 ** 20) }),
  length: fc.integer({ min: 1, max: 64 }),
  value: fc.oneof(fc.constantFrom(0, 0xff, 1, 0x80), fc.nat(255)),
  /** random instead of `value` */
  seed: fc.option(fc.nat()),
});

test('a guest that scribbles over its rings while they are served harms no other, and may start anew', (t) => {
  const dir = tempDir(t);
  const log = recordingLog();
  const core = new FabricCore({ log, poll: { spinUs: 0 } });
  t.after(() => core.close());
  const step = (): void => void core.step(0);
  const path = (nic: string): string => join(dir, `${nic}.sock`);
  for (const nic of ['a', 'b', 'c']) core.addNic({ backend: `vale0:${nic}`, socket: path(nic) });
  const a = VhostUserGuest.connect(path('a'), step);
  const c = VhostUserGuest.connect(path('c'), step);
  t.after(() => {
    a.close();
    c.close();
  });
  // the switch knows where both are
  a.transmit(etherFrame(0xff, 1));
  c.transmit(etherFrame(0xff, 3));
  stepUntil(step, () => a.receive().length > 0, 'the first frame arrives');
  let round = 0;

  /** One frame from a to c, whatever else crosses meanwhile. */
  const checkPeers = (): void => {
    const sent = etherFrame(3, 1, 100, round++ & 0xff);
    a.transmit(sent);
    const arrived = (): boolean => c.receive().some((frame) => Buffer.from(frame).equals(sent));
    stepUntil(step, arrived, 'the frame between the others arrives');
    a.receive();
  };

  const before = { fds: 0 };
  fc.assert(
    fc.property(fc.array(scribble, { minLength: 1, maxLength: 20 }), (writes) => {
      const b = VhostUserGuest.connect(path('b'), step, { style: 'plain' });
      try {
        const { u8 } = b.mapping.window;
        for (const { at, length, value, seed } of writes) {
          // frames under way in both directions, as the driver would have it
          while (b.tx.freeDescriptors < 8 && harmless(() => b.tx.reclaim()));
          harmless(() => b.transmit(etherFrame(0xff, 2), etherFrame(1, 2, 300)));
          c.transmit(etherFrame(2, 3, 200));
          while (c.tx.reclaim());
          const from = b.mapping.off + ((RINGS + at) % (b.mapping.length - length));
          for (let i = 0; i < length; i++) u8[from + i] = seed === null ? value : (seed * (i + 7) * 2654435761) >>> 24;
          b.kick(0);
          b.kick(1);
          step();
        }
        checkPeers();
      } finally {
        b.close();
      }
      stepUntil(step, () => core.show().nics[1]?.transport.state === 'listening', 'the guest is seen to have gone');
      before.fds ||= openFdCount();
      assert.equal(openFdCount(), before.fds);
    }),
    { numRuns: 300 },
  );
  assert.deepEqual(
    log.records.filter(({ level }) => level === 'error'),
    [],
  );
  assert.ok(
    log.records.some(({ message }) => /broke its ring/.test(message)),
    'some of it was noticed',
  );
});

/** What the mock driver makes of the rings that were destroyed under it is its own affair. */
function harmless(call: () => unknown): unknown {
  try {
    return call();
  } catch {
    return undefined;
  }
}
