import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { dup, Fd, filePageSize, fstat, openFdCount, readAt, setNonblock } from '../../../src/sys/fd.js';
import { E, errnoName, sysError } from '../../../src/sys/libc.js';
import { memfdCreate } from '../../../src/sys/memfd.js';
import { addressOf } from '../../../src/sys/mman.js';
import { pageSize } from '../../../src/sys/process.js';
import { socketPair } from '../../../src/sys/socket.js';

test('closing twice closes once: the number may belong to another file by then', () => {
  const first = memfdCreate('first');
  const { number } = first;
  first.close();
  const second = memfdCreate('second');
  assert.equal(second.number, number);
  first.close();
  assert.equal(fstat(second.number).size, 0);
  assert.equal(first.number, -1);
  second.close();
});

test('a released descriptor stays open', () => {
  const owner = memfdCreate('released');
  const number = owner.release();
  owner.close();
  assert.equal(owner.closed, true);
  assert.ok(fstat(number).isFile);
  closeSync(number);
});

test('a duplicate outlives its original', () => {
  const before = openFdCount();
  const original = memfdCreate('original');
  const copy = dup(original.number);
  original.close();
  assert.ok(fstat(copy.number).isFile);
  copy.close();
  assert.equal(openFdCount(), before);
});

test('a bad descriptor is an error with errno, system call and number', () => {
  assert.throws(() => dup(-1), { code: 'EBADF', syscall: 'fcntl', message: /descriptor -1.*EBADF/ });
  assert.throws(() => fstat(999_999), { code: 'EBADF', syscall: 'fstat' });
  assert.throws(() => filePageSize(999_999), { code: 'EBADF', syscall: 'fstatfs' });
  assert.throws(() => setNonblock(999_999), { code: 'EBADF', syscall: 'fcntl' });
});

test('O_NONBLOCK can be set and cleared', () => {
  const [a, b] = socketPair();
  const buf = new Uint8Array(8);
  setNonblock(a.number, false);
  setNonblock(a.number, true);
  assert.equal(readAt(a.number, addressOf(buf), buf.length), -E.EAGAIN);
  a.close();
  b.close();
});

test('the page size of an ordinary file is the base page size', () => {
  const memfd = memfdCreate('pages');
  assert.equal(filePageSize(memfd.number), pageSize);
  const dir = new Fd(openSync(tmpdir(), 'r'));
  assert.equal(filePageSize(dir.number), pageSize);
  memfd.close();
  dir.close();
});

test('errno names are those that Linux prints, also where a number has two', () => {
  assert.equal(errnoName(E.EAGAIN), 'EAGAIN');
  assert.equal(errnoName(E.EOPNOTSUPP), 'EOPNOTSUPP');
  assert.equal(errnoName(4095), 'errno 4095');
});

test('running out of descriptors says what to do', () => {
  const error = sysError('accept4', undefined, undefined, E.EMFILE);
  assert.equal(error.kind, 'environment');
  assert.match(error.remedy ?? '', /ulimit -n/);
});
