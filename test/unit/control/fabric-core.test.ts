import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { FabricCore } from '../../../src/control/fabric-core.js';
import { createFrameRing, FrameRingConsumer } from '../../../src/engine/frame-ring.js';
import { NetbeError } from '../../../src/errors.js';
import { openFdCount } from '../../../src/sys/fd.js';
import { recordingLog } from '../../support/log-recorder.js';
import { tempDir } from '../../support/temp-dir.js';
import { etherFrame } from '../../support/test-guest.js';
import { stepUntil } from '../../support/vhost-user-client.js';
import { type Style, VhostUserGuest } from '../../support/vhost-user-guest.js';

const names = ['a', 'b', 'c', 'd'] as const;
const styles: readonly Style[] = ['qemu', 'uml', 'uml-inband', 'dpdk', 'plain'];
const name = fc.constantFrom(...names);

/** What a person and a guest may do to a fabric, at any time. */
const action = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('add' as const), name, vale: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), name }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('join' as const), name, style: fc.constantFrom(...styles) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('kill' as const), name }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('link' as const), name, up: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('capture' as const), name, id: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('uncapture' as const), name, id: fc.nat(2) }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('send' as const), name, count: fc.integer({ min: 1, max: 60 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('step' as const), count: fc.nat(20) }) },
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;

class Scene {
  readonly log = recordingLog();
  readonly core = new FabricCore({ log: this.log, poll: { spinUs: 0 } });
  readonly guests = new Map<string, VhostUserGuest>();

  constructor(readonly dir: string) {}

  readonly step = (): void => void this.core.step(0);

  run(a: Action): void {
    switch (a.do) {
      case 'add':
        this.#orRefused(() => this.core.addNic({ backend: `vale${a.vale}:${a.name}`, socket: this.path(a.name) }));
        break;
      case 'remove':
        this.#orRefused(() => this.core.removeNic(a.name));
        break;
      case 'join':
        this.#join(a.name, a.style);
        break;
      case 'kill':
        this.guests.get(a.name)?.close();
        this.guests.delete(a.name);
        break;
      case 'link':
        this.#orRefused(() => this.core.setLink(a.name, a.up));
        break;
      case 'capture':
        this.#orRefused(() => this.core.startCapture(a.name, a.id, createFrameRing(4096), 64));
        break;
      case 'uncapture':
        this.core.stopCapture(a.name, a.id);
        break;
      case 'send':
        this.#send(a.name, a.count);
        break;
      case 'step':
        for (let i = 0; i < a.count; i++) this.step();
        break;
    }
  }

  path(nic: string): string {
    return join(this.dir, `${nic}.sock`);
  }

  /** Refusals are part of the game; any other exception is not. */
  #orRefused(call: () => unknown): void {
    try {
      call();
    } catch (error) {
      assert.ok(error instanceof NetbeError, String(error));
    }
  }

  #join(nic: string, style: Style): void {
    this.guests.get(nic)?.close();
    this.guests.delete(nic);
    // the one that went is seen to have gone before the next one is served
    for (let i = 0; i < 5; i++) this.step();
    if (readdirSync(this.dir).includes(`${nic}.sock`))
      this.guests.set(nic, VhostUserGuest.connect(this.path(nic), this.step, { style }));
  }

  #send(nic: string, count: number): void {
    const guest = this.guests.get(nic);
    if (!guest) return;
    for (const other of this.guests.values()) other.receive();
    // a guest whose NIC was removed still has its memory, and may go on writing to it
    while (guest.tx.reclaim());
    const own = 1 + names.indexOf(nic as 'a');
    if (guest.tx.freeDescriptors >= count)
      guest.transmit(...Array.from({ length: count }, (_, i) => etherFrame(i % 3 === 0 ? 0xff : i % 5, own, 60 + i)));
  }

  close(): void {
    this.core.close();
    for (const guest of this.guests.values()) guest.close();
  }
}

test('whatever comes, goes and crosses in whatever order, nothing is left behind', (t) => {
  const dir = tempDir(t);
  const before = openFdCount();
  fc.assert(
    fc.property(fc.array(action, { minLength: 5, maxLength: 60 }), (actions) => {
      const scene = new Scene(dir);
      try {
        for (const nic of names) scene.run({ do: 'add', name: nic, vale: 0 });
        for (const [i, nic] of names.entries()) scene.run({ do: 'join', name: nic, style: styles[i] as Style });
        for (const a of actions) scene.run(a);
        for (const { name: nic } of scene.core.show().nics) scene.core.removeNic(nic);
        const { runtime } = scene.core;
        assert.deepEqual(scene.core.show(), { nics: [], patches: [], switches: [], netgraph: { nodes: [] } });
        assert.deepEqual(runtime.counters.directory(), []);
        assert.ok(runtime.windows.windows.every((window) => !window.inUse));
        assert.equal(runtime.loop.activeCount, 0);
      } finally {
        scene.close();
      }
      assert.deepEqual(
        scene.log.records.filter(({ level }) => level === 'error'),
        [],
      );
      assert.deepEqual(readdirSync(dir), []);
      assert.equal(openFdCount(), before);
    }),
    { numRuns: 60 },
  );
});

test('a guest that is killed in mid-burst costs its peers nothing, and may come back', (t) => {
  const scene = new Scene(tempDir(t));
  t.after(() => scene.close());
  for (const nic of ['a', 'b', 'c']) scene.run({ do: 'add', name: nic as 'a', vale: 0 });
  const peers = ['a', 'c'].map((nic) => VhostUserGuest.connect(scene.path(nic), scene.step));
  const [a, c] = peers as [VhostUserGuest, VhostUserGuest];
  t.after(() => {
    for (const guest of peers) guest.close();
  });
  let fds = 0;
  for (let round = 0; round < 30; round++) {
    const b = VhostUserGuest.connect(scene.path('b'), scene.step, { style: styles[round % styles.length] as Style });
    // all three have frames in flight, to each other and to everybody
    a.transmit(...Array.from({ length: 20 }, (_, i) => etherFrame(i % 2 ? 2 : 0xff, 1, 60 + i)));
    b.transmit(...Array.from({ length: 20 }, (_, i) => etherFrame(i % 2 ? 1 : 0xff, 2, 60 + i)));
    for (let i = 0; i < round % 4; i++) scene.step();
    b.close();
    const sent = etherFrame(3, 1, 70, round);
    a.transmit(sent);
    const got: Uint8Array[] = [];
    stepUntil(
      scene.step,
      () => {
        got.push(...c.receive());
        a.receive();
        return got.some((frame) => Buffer.from(frame).equals(sent));
      },
      'the frame to the third guest arrives',
    );
    stepUntil(
      scene.step,
      () => !scene.core.show().nics.some((n) => n.name === 'b' && n.transport.peerPid),
      'b is gone',
    );
    if (round === 0) fds = openFdCount();
    assert.equal(openFdCount(), fds);
  }
});

test('a capture of a NIC that is removed ends; one of a NIC of the same name is another', (t) => {
  const scene = new Scene(tempDir(t));
  t.after(() => scene.close());
  scene.run({ do: 'add', name: 'a', vale: 0 });
  const [first, second] = [createFrameRing(4096), createFrameRing(4096)];
  scene.core.startCapture('a', 1, first, 100);
  scene.core.removeNic('a');
  assert.equal(new FrameRingConsumer(first).closed, true);
  scene.run({ do: 'add', name: 'a', vale: 0 });
  scene.core.startCapture('a', 2, second, 100);
  // late, for the one that has gone
  scene.core.stopCapture('a', 1);
  assert.equal(new FrameRingConsumer(second).closed, false);
});
