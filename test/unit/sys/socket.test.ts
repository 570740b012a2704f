import assert from 'node:assert/strict';
import { existsSync, lstatSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { createEventfd, eventfdRead, eventfdWrite } from '../../../src/sys/eventfd.js';
import { type Fd, fcntl, fstat, openFdCount } from '../../../src/sys/fd.js';
import { E } from '../../../src/sys/libc.js';
import { ftruncate, memfdCreate } from '../../../src/sys/memfd.js';
import {
  accept,
  connectUnix,
  listenUnix,
  peerCredentials,
  type ReceivedMessage,
  recvMsg,
  SCM_MAX_FD,
  sendMsg,
  socketPair,
} from '../../../src/sys/socket.js';
import { tempDir } from '../../support/temp-dir.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const F_GETFD = 1;

function closeAll(...fds: readonly Fd[]): void {
  for (const fd of fds) fd.close();
}

test('bytes cross in both directions; an empty socket says EAGAIN, a closed one 0', () => {
  const [a, b] = socketPair();
  const buf = new Uint8Array(16);
  assert.equal(recvMsg(b.number, buf, 0).length, -E.EAGAIN);
  assert.equal(sendMsg(a.number, bytes('ping')), 4);
  assert.equal(recvMsg(b.number, buf, 0).length, 4);
  assert.deepEqual(buf.subarray(0, 4), bytes('ping'));
  assert.equal(sendMsg(b.number, bytes('pong!')), 5);
  assert.equal(recvMsg(a.number, buf.subarray(3), 0).length, 5);
  assert.deepEqual(buf.subarray(3, 8), bytes('pong!'));
  a.close();
  assert.equal(recvMsg(b.number, buf, 0).length, 0);
  b.close();
});

test('a message to a peer that has gone is EPIPE, not a signal', () => {
  const [a, b] = socketPair();
  b.close();
  assert.equal(sendMsg(a.number, bytes('x')), -E.EPIPE);
  a.close();
});

test('a full socket takes part of the bytes, then says EAGAIN', () => {
  const [a, b] = socketPair();
  const chunk = new Uint8Array(1 << 20);
  assert.ok(sendMsg(a.number, chunk) > 0);
  while (sendMsg(a.number, chunk) > 0);
  assert.equal(sendMsg(a.number, chunk), -E.EAGAIN);
  closeAll(a, b);
});

test('descriptors cross both ways, in order, close-on-exec, and refer to the same files', () => {
  const [a, b] = socketPair();
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    const event = createEventfd();
    const memory = memfdCreate('passed');
    ftruncate(memory.number, 12345);
    assert.equal(sendMsg(from.number, bytes('fds'), [event.number, memory.number]), 3);
    const got = recvMsg(to.number, new Uint8Array(8), 8);
    assert.equal(got.length, 3);
    assert.equal(got.truncated, false);
    assert.equal(got.fds.length, 2);
    const [gotEvent, gotMemory] = got.fds as [Fd, Fd];
    assert.equal(eventfdWrite(gotEvent.number), 0);
    assert.equal(eventfdRead(event.number), 1);
    assert.equal(fstat(gotMemory.number).size, 12345);
    assert.equal(fcntl(gotMemory.number, F_GETFD, 0) & 1, 1);
    closeAll(event, memory, ...got.fds);
  }
  closeAll(a, b);
});

test('as many descriptors pass as Linux allows; one more is refused before the kernel sees it', () => {
  const [a, b] = socketPair();
  const event = createEventfd();
  const many = new Array<number>(SCM_MAX_FD).fill(event.number);
  assert.equal(sendMsg(a.number, bytes('x'), many), 1);
  const got = recvMsg(b.number, new Uint8Array(1), SCM_MAX_FD);
  assert.equal(got.fds.length, SCM_MAX_FD);
  assert.equal(sendMsg(a.number, bytes('x'), [...many, event.number]), -E.EINVAL);
  closeAll(a, b, event, ...got.fds);
});

for (const [sent, allowed] of [
  [1, 0],
  [2, 1],
  [8, 7],
  [9, 8],
] as const)
  test(`more descriptors than allowed (${sent} for ${allowed}) are all closed, and it is said`, () => {
    const [a, b] = socketPair();
    const event = createEventfd();
    const before = openFdCount();
    assert.equal(sendMsg(a.number, bytes('x'), new Array(sent).fill(event.number)), 1);
    const got = recvMsg(b.number, new Uint8Array(1), allowed);
    assert.deepEqual({ ...got }, { length: 1, fds: [], truncated: true });
    assert.equal(openFdCount(), before);
    // and the connection still works
    sendMsg(a.number, bytes('y'), new Array(allowed).fill(event.number));
    const next = recvMsg(b.number, new Uint8Array(1), allowed);
    assert.equal(next.truncated, false);
    assert.equal(next.fds.length, allowed);
    closeAll(a, b, event, ...next.fds);
  });

test('a reused result forgets what the last message brought', () => {
  const [a, b] = socketPair();
  const event = createEventfd();
  const result: ReceivedMessage = { length: 0, fds: [], truncated: false };
  sendMsg(a.number, bytes('x'), [event.number]);
  assert.equal(recvMsg(b.number, new Uint8Array(1), 1, result), result);
  const [got] = result.fds;
  sendMsg(a.number, bytes('xy'));
  recvMsg(b.number, new Uint8Array(4), 1, result);
  assert.deepEqual(result, { length: 2, fds: [], truncated: false });
  closeAll(a, b, event, got as Fd);
});

test('a listener accepts, knows its peer, and removes its path when it closes', (t) => {
  const path = join(tempDir(t), 's.sock');
  const listener = listenUnix(path);
  assert.equal(lstatSync(path).mode & 0o777, 0o600);
  assert.equal(accept(listener.number), null);
  const client = connectUnix(path);
  const server = accept(listener.number) as Fd;
  assert.deepEqual(peerCredentials(server.number), {
    pid: process.pid,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
  });
  assert.equal(sendMsg(client.number, bytes('hi')), 2);
  assert.equal(recvMsg(server.number, new Uint8Array(4), 0).length, 2);
  listener.close();
  assert.equal(existsSync(path), false);
  closeAll(client, server);
});

test('the mode asked for is the mode of the path, whatever the umask', (t) => {
  const path = join(tempDir(t), 's.sock');
  const umask = process.umask(0o077);
  t.after(() => process.umask(umask));
  const listener = listenUnix(path, { mode: 0o666 });
  assert.equal(lstatSync(path).mode & 0o777, 0o666);
  listener.close();
});

test('a socket that a dead process left is replaced; a live one and other files are not', (t) => {
  const dir = tempDir(t);
  const path = join(dir, 's.sock');
  const left = listenUnix(path);
  assert.throws(() => listenUnix(path), { code: 'EADDRINUSE', kind: 'usage', message: /another process listens/ });
  assert.equal(accept(left.number), null, 'who listens there is not disturbed');
  // what remains when a process is killed: the path, and nobody listening
  new (Object.getPrototypeOf(left.constructor))(left.release()).close();
  assert.equal(existsSync(path), true);
  const listener = listenUnix(path);
  connectUnix(path).close();
  listener.close();
  const file = join(dir, 'file');
  writeFileSync(file, 'precious');
  assert.throws(() => listenUnix(file), { code: 'EADDRINUSE', message: /not a socket/ });
  mkdirSync(join(dir, 'folder'));
  assert.throws(() => listenUnix(join(dir, 'folder')), { code: 'EADDRINUSE', message: /not a socket/ });
  assert.equal(lstatSync(file).size, 8);
});

test('a listener does not remove a path that is no longer its own', (t) => {
  const dir = tempDir(t);
  const path = join(dir, 's.sock');
  const first = listenUnix(path);
  const other = listenUnix(join(dir, 'other.sock'));
  first.close();
  const second = listenUnix(path);
  first.close();
  assert.equal(existsSync(path), true);
  closeAll(second, other);
});

test('refusals name the path and the rule', (t) => {
  const dir = tempDir(t);
  assert.throws(() => listenUnix(join(dir, 'x'.repeat(120))), { kind: 'usage', message: /1 to 107/ });
  assert.throws(() => connectUnix(''), { kind: 'usage' });
  assert.throws(() => connectUnix('a\0b'), { kind: 'usage' });
  assert.throws(() => listenUnix(join(dir, 'no/such/dir')), { code: 'ENOENT', syscall: 'bind' });
  assert.throws(() => connectUnix(join(dir, 'nobody')), { code: 'ENOENT', syscall: 'connect' });
});

test('1,000 connections with descriptors passed leave none open', (t) => {
  const path = join(tempDir(t), 's.sock');
  const event = createEventfd();
  const buf = new Uint8Array(16);
  const before = openFdCount();
  for (let i = 0; i < 1000; i++) {
    const listener = listenUnix(path);
    const client = connectUnix(path);
    const server = accept(listener.number) as Fd;
    sendMsg(client.number, bytes('x'), [event.number, event.number]);
    closeAll(...recvMsg(server.number, buf, 8).fds);
    sendMsg(client.number, bytes('x'), [event.number, event.number]);
    recvMsg(server.number, buf, 1);
    sendMsg(client.number, bytes('never read'), [event.number]);
    closeAll(listener, client, server);
    assert.throws(() => connectUnix(path));
    assert.throws(() => listenUnix(join(path, 'below')));
  }
  assert.equal(openFdCount(), before);
  event.close();
});
