import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { landlockAbi } from '../../../src/sys/landlock.js';
import { seccompMissing } from '../../../src/sys/seccomp.js';
import { listenUnix } from '../../../src/sys/socket.js';
import { syscallNumber } from '../../../src/sys/syscall.js';
import { refusedCalls } from '../../support/forbidden.js';
import type { ChildReport } from '../../support/sandbox-child.js';

const child = fileURLToPath(new URL('../../support/sandbox-child.js', import.meta.url));

const lacks = typeof landlockAbi() === 'string' || seccompMissing() !== undefined;
const skip = lacks && 'this kernel lacks Landlock or seccomp';

/** What the files of another process, and places of no business, answer with: Landlock. All else: seccomp. */
const byLandlock = /outside|\/etc\/passwd|root folder|among the sockets/;

describe('a process in the sandbox', { skip }, () => {
  let report: ChildReport;

  before(() => {
    const folder = mkdtempSync(join(tmpdir(), 'netbe-'));
    after(() => rmSync(folder, { recursive: true, force: true }));
    const [allowed, outside] = [join(folder, 'allowed'), join(folder, 'outside')];
    for (const dir of [allowed, outside]) mkdirSync(dir);
    writeFileSync(join(outside, 'secret'), 'secret');
    const other = listenUnix(join(outside, 'other.sock'));
    try {
      mkdirSync(join(allowed, 'run'));
      const request = { allowed: join(allowed, 'run'), outside, control: join(allowed, 'run', 'control.sock') };
      const out = execFileSync(process.execPath, [child, JSON.stringify(request)], { encoding: 'utf8' });
      report = JSON.parse(out) as ChildReport;
      assert.deepEqual(readdirSync(request.allowed), []);
    } finally {
      other.close();
    }
  });

  for (const where of ['inMain', 'inWorker'] as const)
    test(`is refused everything forbidden, ${where === 'inMain' ? 'on its main thread' : 'on a thread from before'}`, () => {
      const { forbidden } = report[where];
      for (const [what, outcome] of Object.entries(forbidden))
        assert.equal(outcome, byLandlock.test(what) ? 'EACCES' : 'EPERM', what);
      for (const [name] of refusedCalls) if (syscallNumber(name) >= 0) assert(name in forbidden);
    });

  for (const where of ['inMain', 'inWorker'] as const)
    test(`goes on working, ${where === 'inMain' ? 'on its main thread' : 'on a thread from before'}`, () => {
      for (const [what, outcome] of Object.entries(report[where].needed))
        assert.equal(outcome, /newer|clone3/.test(what) ? 'ENOSYS' : 'allowed', what);
    });

  test('has no new privileges, a filter and no capabilities on every thread', () => {
    const { state, missing, threads, landlock } = report.info;
    assert.equal(state, 'on');
    assert.deepEqual(missing, []);
    assert(threads.length > 5, 'main, V8, libuv, workers');
    for (const thread of threads) {
      assert(thread.noNewPrivs && thread.seccomp, thread.name);
      assert.deepEqual(thread.capabilities, []);
      if (process.getuid?.() === 0) assert.equal(thread.boundingSet, 0);
    }
    assert(landlock !== null);
    if (landlock.abi >= 4) assert.equal(landlock.tcp, 'refused');
  });
});
