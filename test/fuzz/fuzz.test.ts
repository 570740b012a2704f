/** Each fuzz target for a few seconds; for longer runs see harness.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FuzzTarget, failureText, fuzz } from './harness.js';
import { makeTarget as vhostUserMessages } from './vhost-user-messages.js';
import { makeTarget as virtqueue } from './virtqueue.js';

const targets: readonly [string, () => FuzzTarget, number][] = [
  ['vhost-user-messages', vhostUserMessages, 1500],
  ['virtqueue', virtqueue, 700],
];

for (const [name, makeTarget, iterations] of targets)
  for (const seed of [1, 2])
    test(`${name}: ${iterations} inputs of seed ${seed} break nothing`, () => {
      const failure = fuzz(makeTarget, seed, iterations);
      if (failure) assert.fail(failureText(name, failure));
    });
