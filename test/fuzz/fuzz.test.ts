/** Each fuzz target for a few seconds; for longer runs see harness.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeTarget as e1000 } from './e1000.js';
import { makeTarget as e1000Unshared } from './e1000-unshared.js';
import { type FuzzTarget, failureText, fuzz } from './harness.js';
import { makeTarget as portSocket } from './port-socket.js';
import { makeTarget as vfioUserMessages } from './vfio-user-messages.js';
import { makeTarget as vhostUserMessages } from './vhost-user-messages.js';
import { makeTarget as virtqueue } from './virtqueue.js';
import { race } from './virtqueue-race.js';
import { makeTarget as virtqueueUnshared } from './virtqueue-unshared.js';

const targets: readonly [string, () => FuzzTarget, number][] = [
  ['port-socket', portSocket, 700],
  ['vfio-user-messages', vfioUserMessages, 1000],
  ['vhost-user-messages', vhostUserMessages, 1500],
  ['virtqueue', virtqueue, 700],
  ['virtqueue-unshared', virtqueueUnshared, 700],
  ['e1000', e1000, 500],
  ['e1000-unshared', e1000Unshared, 500],
];

for (const [name, makeTarget, iterations] of targets)
  for (const seed of [1, 2])
    test(`${name}: ${iterations} inputs of seed ${seed} break nothing`, () => {
      const failure = fuzz(makeTarget, seed, iterations);
      if (failure) assert.fail(failureText(name, failure));
    });

test('virtqueue-race: a driver that scribbles over its rings for two seconds breaks nothing', async () => {
  const { turns, frames } = await race(2, 1);
  assert.ok(turns > 0 && frames > 0);
});
