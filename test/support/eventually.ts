/** Waits for something that another process or thread does; fails the test if it never comes. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

const GIVE_UP_MS = 30_000;

export async function eventually(what: string, happened: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + GIVE_UP_MS;
  while (!happened()) {
    if (performance.now() > giveUpAt) assert.fail(`never happened: ${what}`);
    await sleep(5);
  }
}
