import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setImmediate as nodeTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { createEventfd, eventfdRead, eventfdWrite } from '../../../src/sys/eventfd.js';
import { readAt, writeAt } from '../../../src/sys/fd.js';
import { E } from '../../../src/sys/libc.js';
import { ftruncate, memfdCreate } from '../../../src/sys/memfd.js';
import { addressOf, MAP_SHARED, mmap, munmap, PROT_READ, PROT_WRITE } from '../../../src/sys/mman.js';
import { NativeBuffer } from '../../../src/sys/native-buffer.js';
import { pageSize } from '../../../src/sys/process.js';

test('what is mapped is the file: written through memory, read through the descriptor', () => {
  const fd = memfdCreate('mapped');
  ftruncate(fd.number, pageSize);
  const addr = mmap(0, pageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.number, 0, 'mapped');
  assert.equal(addr % pageSize, 0);
  const source = new NativeBuffer(8);
  source.u8.set([1, 2, 3, 4, 5, 6, 7, 8]);
  assert.equal(writeAt(fd.number, source.addr, 8), 8);
  // a system call reads the mapping in place
  const copy = memfdCreate('copy');
  assert.equal(writeAt(copy.number, addr, 8), 8);
  assert.deepEqual([...readFileSync(`/proc/self/fd/${copy.number}`)], [...source.u8]);
  munmap(addr, pageSize);
  for (const f of [fd, copy]) f.close();
});

test('a mapping that is not possible is refused with its errno and subject', () => {
  assert.throws(() => mmap(0, pageSize, PROT_READ, MAP_SHARED, -1, 0, 'guest memory'), {
    code: 'EBADF',
    syscall: 'mmap',
    subject: 'guest memory',
  });
  assert.throws(() => mmap(0, 0, PROT_READ, MAP_SHARED, -1, 0));
  assert.throws(() => munmap(1, pageSize), { code: 'EINVAL', syscall: 'munmap' });
});

test('a bad address is EFAULT, not the end of the process', () => {
  const fd = memfdCreate('fault');
  assert.equal(writeAt(fd.number, 8, 8), -E.EFAULT);
  assert.equal(readAt(fd.number, 0, 0), 0);
  fd.close();
});

test('the address of a view is that of its first byte, and does not change', () => {
  const buffer = new NativeBuffer(64);
  assert.equal(buffer.addr % 8, 0);
  assert.equal(addressOf(buffer.u8.subarray(10)), buffer.addr + 10);
  buffer.setU64(8, 2 ** 40 + 5);
  assert.equal(buffer.getU64(8), 2 ** 40 + 5);
  assert.equal(new DataView(buffer.u8.buffer).getBigUint64(8, true), 2n ** 40n + 5n);
});

test('the buffers of system calls outlive the collector', async () => {
  const event = createEventfd();
  let garbage: unknown[] = [];
  for (let i = 0; i < 200; i++) {
    for (let k = 0; k < 1000; k++) garbage.push(new ArrayBuffer(8), new Uint8Array(64));
    if (i % 10 === 0) {
      garbage = [];
      await nodeTurn();
    }
    assert.equal(eventfdWrite(event.number), 0);
    assert.equal(eventfdRead(event.number), 1);
  }
  event.close();
});

test('a thread has the name that it was given', async () => {
  const url = new URL('../../../src/sys/process.js', import.meta.url).href;
  const code = `
    const { parentPort } = require('node:worker_threads');
    import(${JSON.stringify(url)}).then((m) => {
      m.setThreadName('netbe-test');
      parentPort.on('message', () => process.exit());
      parentPort.postMessage('named');
    });`;
  const worker = new Worker(code, { eval: true });
  await new Promise((resolve) => worker.on('message', resolve));
  const names = readdirSync('/proc/self/task').map((tid) => readFileSync(`/proc/self/task/${tid}/comm`, 'utf8').trim());
  const gone = new Promise((resolve) => worker.on('exit', resolve));
  worker.postMessage('end');
  await gone;
  assert.ok(names.includes('netbe-test'), names.join());
});
