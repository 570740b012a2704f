import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { controlSocketPath, ensureRuntimeDir, knownFabrics, runtimeDir } from '../../../src/control/runtime-dir.js';

let dir = '';
const uid = process.getuid?.() ?? 0;
const here = () => ({ uid, env: { XDG_RUNTIME_DIR: dir } });

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'netbe-run-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('is in XDG_RUNTIME_DIR, else /run for root and the temporary folder for others', () => {
  assert.equal(runtimeDir({ uid: 7, env: { XDG_RUNTIME_DIR: '/run/user/7' } }), '/run/user/7/netbe');
  assert.equal(runtimeDir({ uid: 0, env: {} }), '/run/netbe');
  assert.equal(runtimeDir({ uid: 7, env: {} }), join(tmpdir(), 'netbe-7'));
  assert.equal(runtimeDir({ uid: 7, env: { XDG_RUNTIME_DIR: 'relative' } }), join(tmpdir(), 'netbe-7'));
  assert.throws(() => controlSocketPath('../x'), { code: 'EINVAL' });
});

test('is made for its owner alone', () => {
  assert.equal(statSync(ensureRuntimeDir(here())).mode & 0o777, 0o700);
  assert.equal(ensureRuntimeDir(here()), join(dir, 'netbe'));
});

test('is refused where somebody else could put sockets', () => {
  mkdirSync(join(dir, 'netbe'));
  chmodSync(join(dir, 'netbe'), 0o777);
  assert.throws(() => ensureRuntimeDir(here()), { code: 'EACCES', kind: 'environment' });
  chmodSync(join(dir, 'netbe'), 0o700);
  assert.throws(() => ensureRuntimeDir({ ...here(), uid: uid + 1 }), { code: 'EACCES' });
});

test('a symbolic link in its place is refused', () => {
  mkdirSync(join(dir, 'elsewhere'));
  symlinkSync(join(dir, 'elsewhere'), join(dir, 'netbe'));
  assert.throws(() => ensureRuntimeDir(here()), { code: 'EACCES' });
});

test('the fabrics known are those with a socket', () => {
  assert.deepEqual(knownFabrics(here()), []);
  ensureRuntimeDir(here());
  for (const file of ['lab.sock', 'default.sock', 'notes']) writeFileSync(join(dir, 'netbe', file), '');
  assert.deepEqual(knownFabrics(here()), ['default', 'lab']);
});
