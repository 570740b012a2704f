import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createEventfd } from '../../../src/sys/eventfd.js';
import { Fd, fstat, openFdCount } from '../../../src/sys/fd.js';
import {
  addSeals,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  ftruncate,
  getSeals,
  MFD_ALLOW_SEALING,
  memfdCreate,
} from '../../../src/sys/memfd.js';
import { tempDir } from '../../support/temp-dir.js';

test('a file sealed against shrinking grows but does not shrink', () => {
  const fd = memfdCreate('sealed', MFD_ALLOW_SEALING);
  ftruncate(fd.number, 8192);
  assert.equal(getSeals(fd.number), 0);
  assert.equal(addSeals(fd.number, F_SEAL_SHRINK), true);
  assert.equal(getSeals(fd.number), F_SEAL_SHRINK);
  assert.throws(() => ftruncate(fd.number, 4096), { code: 'EPERM', syscall: 'ftruncate' });
  ftruncate(fd.number, 16384);
  assert.equal(fstat(fd.number).size, 16384);
  assert.equal(addSeals(fd.number, F_SEAL_GROW), true);
  assert.equal(getSeals(fd.number), F_SEAL_SHRINK | F_SEAL_GROW);
  fd.close();
});

test('a file that takes no seals says so', (t) => {
  const sealedAgainstSeals = memfdCreate('no seals');
  assert.equal(getSeals(sealedAgainstSeals.number), F_SEAL_SEAL);
  assert.equal(addSeals(sealedAgainstSeals.number, F_SEAL_SHRINK), false);
  const event = createEventfd();
  assert.equal(getSeals(event.number), null);
  assert.equal(addSeals(event.number, F_SEAL_SHRINK), false);
  const file = new Fd(openSync(join(tempDir(t), 'plain'), 'w+'));
  assert.equal(addSeals(file.number, F_SEAL_SHRINK), false);
  for (const fd of [sealedAgainstSeals, event, file]) fd.close();
});

test('a closed descriptor is EBADF, not "no seals"', () => {
  assert.throws(() => getSeals(-1), { code: 'EBADF' });
  assert.throws(() => addSeals(-1, F_SEAL_SHRINK), { code: 'EBADF' });
});

test('1,000 files leave no descriptor open', () => {
  const before = openFdCount();
  for (let i = 0; i < 1000; i++) {
    const fd = memfdCreate('cycle', MFD_ALLOW_SEALING);
    ftruncate(fd.number, 4096);
    addSeals(fd.number, F_SEAL_SHRINK);
    fd.close();
  }
  assert.equal(openFdCount(), before);
});
