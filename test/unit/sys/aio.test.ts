import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventfdSignal } from '../../../src/sys/aio.js';
import { createEventfd, eventfdRead } from '../../../src/sys/eventfd.js';
import { setNonblock, writeAt } from '../../../src/sys/fd.js';
import { NativeBuffer } from '../../../src/sys/native-buffer.js';

test('each signal adds 1, many times over', () => {
  const fd = createEventfd();
  const signal = new EventfdSignal(fd.number);
  for (let i = 0; i < 1000; i++) assert.equal(signal.signal(), 0);
  assert.equal(eventfdRead(fd.number), 1000);
  fd.close();
});

test('an eventfd that is full and blocks does not make the caller wait', () => {
  const fd = createEventfd();
  const most = new NativeBuffer(8);
  most.u32.fill(0xffffffff);
  most.u32[0] = 0xfffffffe;
  assert.equal(writeAt(fd.number, most.addr, 8), 8);
  setNonblock(fd.number, false);
  const signal = new EventfdSignal(fd.number);
  for (let i = 0; i < 1000; i++) signal.signal();
  fd.close();
});

test('a descriptor that is closed is an error, not an exception', () => {
  const fd = createEventfd();
  const signal = new EventfdSignal(fd.number);
  fd.close();
  assert.ok(signal.signal() < 0);
});
