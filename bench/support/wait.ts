/** Waiting for what another process makes. */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { NetbeError } from '../../src/errors.js';
import type { Worker } from './worker.js';

/** Resolves when `path` is there. Throws when `maker` has ended or 20 seconds have passed. */
export async function waitForFile(path: string, maker: Worker): Promise<void> {
  for (let tries = 0; !existsSync(path); tries++) {
    if (maker.ended) throw maker.failure();
    if (tries === 400) throw new NetbeError(`${path} did not appear in 20 seconds`, { code: 'ETIMEDOUT' });
    await sleep(50);
  }
}
