import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { EVF_READ, EVF_WRITE, Mevent, type MeventHandle } from '../../../src/engine/mevent.js';
import { createEventfd, eventfdRead, eventfdWrite } from '../../../src/sys/eventfd.js';
import { Fd, openFdCount } from '../../../src/sys/fd.js';
import { recvMsg, sendMsg, socketPair } from '../../../src/sys/socket.js';

const byte = new Uint8Array(1);

test('a callback is called as long as its descriptor is ready, and only while it is enabled', () => {
  const mevent = new Mevent();
  const event = createEventfd();
  let calls = 0;
  const handle = mevent.addDisabled(event.number, EVF_READ, (fd) => {
    assert.equal(fd, event.number);
    calls++;
  });
  eventfdWrite(event.number);
  assert.equal(mevent.dispatch(0), 0);
  handle.enable();
  handle.enable();
  assert.equal(mevent.dispatch(-1), 1);
  assert.equal(mevent.dispatch(-1), 1);
  assert.equal(calls, 2);
  handle.disable();
  handle.disable();
  assert.equal(mevent.dispatch(0), 0);
  handle.enable();
  eventfdRead(event.number);
  assert.equal(mevent.dispatch(0), 0);
  mevent.close();
  event.close();
});

test('an edge-triggered callback is called once for each write', () => {
  const mevent = new Mevent();
  const event = createEventfd();
  let calls = 0;
  mevent.add(event.number, EVF_READ, () => calls++, { edge: true });
  for (let i = 1; i <= 3; i++) {
    eventfdWrite(event.number);
    mevent.dispatch(0);
    mevent.dispatch(0);
    assert.equal(calls, i);
  }
  mevent.close();
  event.close();
});

test('a descriptor may be watched for reading and for writing, each once', () => {
  const mevent = new Mevent();
  const [a, b] = socketPair();
  const seen: string[] = [];
  const read = mevent.add(a.number, EVF_READ, () => seen.push('read'));
  const write = mevent.add(a.number, EVF_WRITE, () => seen.push('write'));
  assert.throws(() => mevent.add(a.number, EVF_READ, () => {}), { code: 'EEXIST' });
  mevent.dispatch(-1);
  assert.deepEqual(seen.splice(0), ['write']);
  sendMsg(b.number, byte);
  mevent.dispatch(-1);
  assert.deepEqual(seen.splice(0), ['read', 'write']);
  write.delete();
  mevent.dispatch(-1);
  assert.deepEqual(seen.splice(0), ['read']);
  recvMsg(a.number, byte, 0);
  assert.equal(mevent.dispatch(0), 0);
  read.delete();
  mevent.add(a.number, EVF_READ, () => {}).delete();
  mevent.close();
  a.close();
  b.close();
});

test('a hang-up calls back the enabled handle, and does not spin a disabled one', () => {
  const mevent = new Mevent();
  const [a, b] = socketPair();
  let calls = 0;
  const handle = mevent.add(a.number, EVF_WRITE, () => calls++);
  handle.disable();
  b.close();
  assert.equal(mevent.dispatch(0), 0);
  handle.enable();
  assert.equal(mevent.dispatch(0), 1);
  assert.equal(calls, 1);
  mevent.close();
  a.close();
});

test('a handle deleted or disabled in a callback is not called for an event of the same batch', () => {
  for (const verb of ['delete', 'disable'] as const) {
    const mevent = new Mevent();
    const events = Array.from({ length: 10 }, createEventfd);
    const handles: MeventHandle[] = [];
    let calls = 0;
    events.forEach((event, i) => {
      const callback = (): void => {
        calls++;
        handles.forEach((handle, j) => {
          if (j !== i) handle[verb]();
        });
      };
      handles.push(mevent.add(event.number, EVF_READ, callback));
      eventfdWrite(event.number);
    });
    mevent.dispatch(0);
    assert.equal(calls, 1);
    mevent.close();
    for (const event of events) event.close();
  }
});

test('an event of a closed descriptor is not served to the one that took its number in the same batch', () => {
  const mevent = new Mevent();
  const events = [createEventfd(), createEventfd()] as const;
  const handles: MeventHandle[] = [];
  const opened: Fd[] = [];
  let wrong = 0;
  events.forEach((event, i) => {
    handles[i] = mevent.add(event.number, EVF_READ, () => {
      if (opened.length > 0) return;
      const other = 1 - i;
      handles[other]?.delete();
      (events[other] as Fd).close();
      const reused = createEventfd();
      opened.push(reused);
      mevent.add(reused.number, EVF_READ, () => wrong++);
    });
    eventfdWrite(event.number);
  });
  mevent.dispatch(0);
  mevent.dispatch(0);
  assert.equal(opened.length, 1);
  assert.equal(wrong, 0);
  mevent.close();
  for (const fd of [...events, ...opened]) fd.close();
});

test('a callback that throws is reported and removed; the loop goes on', () => {
  const mevent = new Mevent();
  const bad = createEventfd();
  const good = createEventfd();
  const errors: unknown[] = [];
  mevent.onError = (error, fd) => errors.push([(error as Error).message, fd]);
  let calls = 0;
  mevent.add(bad.number, EVF_READ, () => {
    throw new Error('oops');
  });
  mevent.add(good.number, EVF_READ, () => calls++);
  eventfdWrite(bad.number);
  eventfdWrite(good.number);
  mevent.dispatch(0);
  mevent.dispatch(0);
  assert.deepEqual(errors, [['oops', bad.number]]);
  assert.equal(calls, 2);
  mevent.close();
  bad.close();
  good.close();
});

test('what cannot be watched is refused and leaves nothing behind', () => {
  const mevent = new Mevent();
  const file = new Fd(openSync(fileURLToPath(import.meta.url), 'r'));
  assert.throws(() => mevent.add(file.number, EVF_READ, () => {}), { code: 'EPERM' });
  assert.throws(() => mevent.add(file.number, EVF_READ, () => {}), { code: 'EPERM' });
  assert.throws(() => mevent.add(999_999, EVF_READ, () => {}), { code: 'EBADF' });
  assert.throws(() => mevent.add(file.number, 2, () => {}), TypeError);
  mevent.close();
  assert.throws(() => mevent.add(0, EVF_READ, () => {}), { code: 'EBADF' });
  file.close();
});

test('deleting a handle after its descriptor was closed is harmless', () => {
  const mevent = new Mevent();
  const [a, b] = socketPair();
  const read = mevent.add(a.number, EVF_READ, () => {});
  const write = mevent.add(a.number, EVF_WRITE, () => {});
  a.close();
  read.delete();
  write.delete();
  assert.equal(mevent.dispatch(0), 0);
  mevent.close();
  b.close();
});

test('a timer calls back again and again until it is disabled or deleted', () => {
  const mevent = new Mevent();
  let calls = 0;
  const timer = mevent.addTimer(1, () => {
    calls++;
    if (calls === 3) timer.disable();
    if (calls === 5) timer.delete();
  });
  while (calls < 3) mevent.dispatch(-1);
  assert.equal(mevent.dispatch(5), 0);
  timer.enable();
  while (calls < 5) mevent.dispatch(-1);
  assert.equal(mevent.dispatch(5), 0);
  timer.enable();
  timer.delete();
  mevent.close();
});

test('a deadline goes off once each time that it is set, at the time that it was last set to', () => {
  const mevent = new Mevent();
  let calls = 0;
  const deadline = mevent.addDeadline(() => {
    calls++;
    if (calls === 1) deadline.set(performance.now() - 1);
  });
  assert.equal(mevent.dispatch(1), 0);
  deadline.set(performance.now() + 3_600_000);
  deadline.set(performance.now() + 1);
  while (calls < 2) mevent.dispatch(-1);
  mevent.dispatch(2);
  assert.equal(calls, 2);
  deadline.set(performance.now() + 1);
  deadline.clear();
  while (mevent.dispatch(5) > 0);
  assert.equal(calls, 2);
  deadline.set(0);
  while (calls < 3) mevent.dispatch(-1);
  mevent.close();
});

test('many timers share one descriptor, and each keeps its own time', () => {
  const mevent = new Mevent();
  const before = openFdCount();
  const order: number[] = [];
  const timers = [7, 1, 4].map((ms) => mevent.addTimer(ms, () => order.push(ms)));
  const never = mevent.addTimer(0, () => order.push(0));
  never.disable();
  assert.equal(openFdCount(), before);
  const calls = (ms: number): number => order.filter((o) => o === ms).length;
  // on a busy machine several intervals may pass at once, and count as one: the shorter is never behind
  while (calls(7) < 3) mevent.dispatch(-1);
  assert.ok(calls(1) >= calls(4) && calls(4) >= calls(7) - 1, String(order));
  assert.equal(calls(0), 0);
  for (const timer of timers) timer.delete();
  order.length = 0;
  // the descriptor may expire once more, for nothing
  mevent.dispatch(10);
  mevent.dispatch(10);
  assert.deepEqual(order, []);
  mevent.close();
});

test('a timer that throws is reported and stops; the others go on; one callback may stop another', () => {
  const mevent = new Mevent();
  const errors: unknown[] = [];
  mevent.onError = (error) => errors.push((error as Error).message);
  let calls = 0;
  mevent.addTimer(1, () => {
    throw new Error('oops');
  });
  const both = [0, 1].map((i) =>
    mevent.addTimer(2, () => {
      calls++;
      both[1 - i]?.delete();
      if (calls === 3) mevent.close();
    }),
  );
  while (calls < 3) mevent.dispatch(-1);
  assert.deepEqual(errors, ['oops']);
});

test('wake ends a dispatch that would block, also from another thread', async () => {
  const mevent = new Mevent();
  let wakes = 0;
  mevent.onWake = () => wakes++;
  mevent.wake();
  mevent.wake();
  mevent.dispatch(-1);
  assert.equal(wakes, 1);
  const url = new URL('../../../src/sys/eventfd.js', import.meta.url).href;
  const code = `import(${JSON.stringify(url)}).then((m) => m.eventfdWrite(${mevent.wakeFd}))`;
  const worker = new Worker(code, { eval: true });
  const gone = new Promise((resolve) => worker.on('exit', resolve));
  while (wakes < 2) mevent.dispatch(-1);
  await gone;
  assert.equal(mevent.dispatch(0), 0);
  mevent.close();
});

test('dispatch from a callback is a programming error', () => {
  const mevent = new Mevent();
  const event = createEventfd();
  let message = '';
  mevent.onError = (error) => {
    message = (error as Error).message;
  };
  mevent.add(event.number, EVF_READ, () => mevent.dispatch(0));
  eventfdWrite(event.number);
  mevent.dispatch(0);
  assert.match(message, /dispatch called from a callback/);
  mevent.close();
  event.close();
});

test('closing from a callback ends the batch and frees everything', () => {
  const before = openFdCount();
  const mevent = new Mevent();
  const events = Array.from({ length: 5 }, createEventfd);
  let calls = 0;
  for (const event of events) {
    mevent.add(event.number, EVF_READ, () => {
      calls++;
      mevent.close();
    });
    eventfdWrite(event.number);
  }
  mevent.addTimer(1000, () => {});
  mevent.dispatch(-1);
  assert.equal(calls, 1);
  for (const event of events) event.close();
  assert.equal(openFdCount(), before);
});

test('whenReady lets the thread do other things and resolves when something is ready', async () => {
  const before = openFdCount();
  const mevent = new Mevent();
  const event = createEventfd();
  let calls = 0;
  mevent.add(event.number, EVF_READ, () => {
    calls++;
    eventfdRead(event.number);
  });
  const ready = mevent.whenReady();
  await assert.rejects(mevent.whenReady(), /already waiting/);
  await new Promise((resolve) => setImmediate(resolve));
  eventfdWrite(event.number);
  await ready;
  mevent.dispatch(0);
  assert.equal(calls, 1);
  const last = mevent.whenReady();
  mevent.close();
  await last;
  event.close();
  assert.equal(openFdCount(), before);
  await assert.rejects(mevent.whenReady(), /closed/);
});

test('many loops wait at once, and leave the threads of the pool to others', async () => {
  const before = openFdCount();
  const loops = Array.from({ length: 20 }, () => {
    const mevent = new Mevent();
    const event = createEventfd();
    mevent.add(event.number, EVF_READ, (fd) => void eventfdRead(fd));
    return { mevent, event, ready: mevent.whenReady() };
  });
  assert.match(await readFile(fileURLToPath(import.meta.url), 'utf8'), /leave the threads/);
  for (const { mevent, event, ready } of loops.slice().reverse()) {
    eventfdWrite(event.number);
    await ready;
    assert.equal(mevent.dispatch(0), 1);
  }
  const again = loops.map(({ mevent }) => mevent.whenReady());
  for (const { mevent } of loops) mevent.wake();
  await Promise.all(again);
  for (const { mevent, event } of loops) {
    mevent.close();
    event.close();
  }
  assert.equal(openFdCount(), before);
});

test('a process that exits while a loop waits does exit', () => {
  const url = new URL('../../../src/engine/mevent.js', import.meta.url).href;
  const code = `import { Mevent } from ${JSON.stringify(url)};
    new Mevent().whenReady();
    new Mevent().whenReady();
    setImmediate(() => process.exit(7));`;
  const { status } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { timeout: 30_000 });
  assert.equal(status, 7);
});

test('1,000 loops with handles and timers leave no descriptor open', () => {
  const [a, b] = socketPair();
  const before = openFdCount();
  for (let i = 0; i < 1000; i++) {
    const mevent = new Mevent();
    mevent.add(a.number, EVF_READ, () => {});
    mevent.addTimer(10, () => {}).delete();
    mevent.addTimer(10, () => {});
    mevent.close();
    mevent.close();
  }
  assert.equal(openFdCount(), before);
  a.close();
  b.close();
});
