/** Tests of what holds wherever a guest's memory is. */
import { before, describe } from 'node:test';
import type { TestMemoryOptions } from './test-memory.js';

/** Runs `tests` with shared memory and with memory that is not; `choose` is told before the tests of each. */
export function inBothMemories(
  title: string,
  choose: (unshared: TestMemoryOptions['unshared']) => void,
  tests: () => void,
): void {
  for (const [memory, unshared] of [
    ['shared memory', undefined],
    ['memory that is not shared', 'all'],
  ] as const)
    describe(`${title} (${memory})`, () => {
      before(() => choose(unshared));
      tests();
    });
}
