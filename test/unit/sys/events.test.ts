import assert from 'node:assert/strict';
import { openSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, Epoll } from '../../../src/sys/epoll.js';
import { createEventfd, eventfdRead, eventfdWrite, isEventfd } from '../../../src/sys/eventfd.js';
import { Fd, openFdCount, writeAt } from '../../../src/sys/fd.js';
import { ioctl } from '../../../src/sys/ioctl.js';
import { E } from '../../../src/sys/libc.js';
import { addressOf } from '../../../src/sys/mman.js';
import { sendMsg, socketPair } from '../../../src/sys/socket.js';
import { createTimerfd, timerfdRead, timerfdSet } from '../../../src/sys/timerfd.js';

test('an eventfd counts, and empties when it is read', () => {
  const fd = createEventfd();
  assert.equal(eventfdRead(fd.number), 0);
  eventfdWrite(fd.number);
  eventfdWrite(fd.number);
  assert.equal(eventfdRead(fd.number), 2);
  assert.equal(eventfdRead(fd.number), 0);
  fd.close();
  assert.equal(eventfdWrite(fd.number), -E.EBADF);
});

test('a full eventfd says EAGAIN and does not block; counts beyond 32 bits are read', () => {
  const fd = createEventfd();
  const most = new Uint8Array(new BigUint64Array([2n ** 64n - 2n]).buffer);
  assert.equal(writeAt(fd.number, addressOf(most), 8), 8);
  assert.equal(eventfdWrite(fd.number), -E.EAGAIN);
  assert.equal(eventfdRead(fd.number), 2 ** 64);
  fd.close();
});

test('an eventfd is told from other descriptors', () => {
  const event = createEventfd();
  const timer = createTimerfd();
  assert.equal(isEventfd(event.number), true);
  assert.equal(isEventfd(timer.number), false);
  assert.equal(isEventfd(999_999), false);
  event.close();
  timer.close();
});

test('epoll reports the token and events of each ready descriptor', () => {
  const epoll = new Epoll(8);
  const [a, b] = socketPair();
  const event = createEventfd();
  epoll.add(a.number, EPOLLIN, 0xfffffff0);
  epoll.add(event.number, EPOLLIN, 7);
  assert.equal(epoll.wait(0), 0);
  eventfdWrite(event.number);
  sendMsg(b.number, new Uint8Array(1));
  assert.equal(epoll.wait(-1), 2);
  const seen = new Map([0, 1].map((i) => [epoll.tokenAt(i), epoll.eventsAt(i)]));
  assert.deepEqual(
    seen,
    new Map([
      [0xfffffff0, EPOLLIN],
      [7, EPOLLIN],
    ]),
  );
  epoll.modify(a.number, EPOLLOUT, 9);
  epoll.remove(event.number);
  assert.equal(epoll.wait(0), 1);
  assert.equal(epoll.tokenAt(0), 9);
  b.close();
  assert.equal(epoll.wait(0), 1);
  assert.ok((epoll.eventsAt(0) & EPOLLHUP) !== 0);
  for (const fd of [a, event, epoll]) fd.close();
});

test('an edge-triggered eventfd reports every write once, and need not be read', () => {
  const epoll = new Epoll(8);
  const event = createEventfd();
  epoll.add(event.number, EPOLLIN | EPOLLET, 1);
  for (let i = 0; i < 3; i++) {
    eventfdWrite(event.number);
    assert.equal(epoll.wait(0), 1);
    assert.equal(epoll.wait(0), 0);
  }
  event.close();
  epoll.close();
});

test('epoll reports at most as many events as it was made for, and loses none', () => {
  const epoll = new Epoll(2);
  const events = Array.from({ length: 5 }, createEventfd);
  events.forEach((fd, i) => {
    epoll.add(fd.number, EPOLLIN | EPOLLET, i);
    eventfdWrite(fd.number);
  });
  const seen: number[] = [];
  for (let n = epoll.wait(0); n > 0; n = epoll.wait(0)) {
    assert.ok(n <= 2);
    for (let i = 0; i < n; i++) seen.push(epoll.tokenAt(i));
  }
  assert.deepEqual(
    seen.sort((x, y) => x - y),
    [0, 1, 2, 3, 4],
  );
  for (const fd of [...events, epoll]) fd.close();
});

test('what cannot be waited for is refused by name of the errno', () => {
  const epoll = new Epoll(1);
  const file = new Fd(openSync(fileURLToPath(import.meta.url), 'r'));
  assert.throws(() => epoll.add(file.number, EPOLLIN, 0), { code: 'EPERM', syscall: 'epoll_ctl' });
  assert.throws(() => epoll.add(-1, EPOLLIN, 0), { code: 'EBADF' });
  assert.equal(epoll.remove(-1), false);
  file.close();
  epoll.close();
});

test('an asynchronous wait ends when a descriptor becomes ready', async () => {
  const epoll = new Epoll(4);
  const event = createEventfd();
  epoll.add(event.number, EPOLLIN, 3);
  const ended = new Promise<void>((resolve) => epoll.waitAsync(-1, resolve));
  eventfdWrite(event.number);
  await ended;
  assert.equal(epoll.wait(0), 1);
  assert.equal(epoll.tokenAt(0), 3);
  event.close();
  epoll.close();
});

test('a timer fires once, or repeatedly until it is stopped', () => {
  const epoll = new Epoll(1);
  const timer = createTimerfd();
  epoll.add(timer.number, EPOLLIN, 0);
  assert.equal(timerfdRead(timer.number), 0);
  timerfdSet(timer.number, 0.5, 0);
  assert.equal(epoll.wait(-1), 1);
  assert.equal(timerfdRead(timer.number), 1);
  assert.equal(timerfdRead(timer.number), 0);
  timerfdSet(timer.number, 1, 1);
  for (let i = 0; i < 3; i++) {
    assert.equal(epoll.wait(-1), 1);
    assert.ok(timerfdRead(timer.number) >= 1);
  }
  timerfdSet(timer.number, 0, 0);
  assert.equal(epoll.wait(0), 0);
  timerfdSet(timer.number, 3_000_000_000_000, 0);
  timer.close();
  assert.throws(() => timerfdSet(timer.number, 1, 0), { code: 'EBADF' });
  epoll.close();
});

test('ioctl takes a structure and names the request that failed', () => {
  const FIONREAD = 0x541b;
  const [a, b] = socketPair();
  sendMsg(b.number, new Uint8Array(5));
  const n = new Int32Array(1);
  assert.equal(ioctl(a.number, FIONREAD, new Uint8Array(n.buffer), 'FIONREAD'), 0);
  assert.equal(n[0], 5);
  assert.throws(() => ioctl(-1, FIONREAD, 0, 'FIONREAD', 'socket'), { code: 'EBADF', syscall: 'ioctl FIONREAD' });
  a.close();
  b.close();
});

test('1,000 of each leave no descriptor open', () => {
  const before = openFdCount();
  for (let i = 0; i < 1000; i++) {
    const epoll = new Epoll(4);
    const fds = [createEventfd(), createTimerfd(), ...socketPair()];
    fds.forEach((fd, token) => {
      epoll.add(fd.number, EPOLLIN, token);
    });
    assert.throws(() => epoll.add(fds[0]?.number as number, EPOLLIN, 0), { code: 'EEXIST' });
    for (const fd of [...fds, epoll]) fd.close();
  }
  assert.equal(openFdCount(), before);
});
