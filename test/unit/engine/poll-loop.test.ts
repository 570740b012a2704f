import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Pollable, PollLoop } from '../../../src/engine/poll-loop.js';

/** A peer that notifies only when it was asked to, as a virtqueue's driver does. */
class FakePort implements Pollable {
  queued = 0;
  served = 0;
  polls = 0;
  arms = 0;
  notify = true;
  /** called at the beginning of poll, and between asking for notifications and the second look */
  onPoll: (() => void) | undefined;
  onArm: (() => void) | undefined;

  constructor(
    readonly loop: PollLoop,
    readonly burst = 32,
  ) {
    loop.add(this);
  }

  publish(n: number): void {
    this.queued += n;
    if (this.notify) this.loop.activate(this);
  }

  poll(): number {
    this.polls++;
    this.onPoll?.();
    const n = Math.min(this.queued, this.burst);
    this.queued -= n;
    this.served += n;
    return n;
  }

  arm(): boolean {
    this.arms++;
    this.notify = true;
    this.onArm?.();
    return this.queued > 0;
  }

  disarm(): void {
    this.notify = false;
  }
}

/** An event queue that records how long it was asked to block. */
function fakeEvents(): { timeouts: number[]; dispatch(timeoutMs: number): number } {
  const timeouts: number[] = [];
  return {
    timeouts,
    dispatch(timeoutMs: number): number {
      timeouts.push(timeoutMs);
      return 0;
    },
  };
}

function newLoop(spinUs = 0): PollLoop {
  return new PollLoop(fakeEvents(), { spinUs });
}

/** Turns until nothing is active; arming takes a few turns because the clock is looked at once a turn. */
function settle(loop: PollLoop): void {
  for (let i = 0; loop.activeCount > 0; i++) {
    assert.ok(i < 100_000, 'the loop never comes to rest');
    loop.turn();
  }
}

test('a port is polled from its notification on until it has been idle, then armed', () => {
  const loop = newLoop();
  const port = new FakePort(loop);
  loop.turn();
  assert.equal(port.polls, 0);
  port.publish(100);
  assert.equal(port.notify, false);
  settle(loop);
  assert.equal(port.served, 100);
  assert.equal(port.notify, true);
  const { polls } = port;
  loop.turn();
  assert.equal(port.polls, polls);
});

test('an idle port stays active for the time it may spin', () => {
  const loop = newLoop(1e9);
  const port = new FakePort(loop);
  port.publish(1);
  for (let i = 0; i < 1000; i++) loop.turn();
  assert.equal(loop.activeCount, 1);
  assert.equal(port.arms, 0);
});

test('the loop blocks only when nothing is active', () => {
  const events = fakeEvents();
  const loop = new PollLoop(events, { spinUs: 0 });
  const port = new FakePort(loop);
  loop.step(500);
  assert.deepEqual(events.timeouts.splice(0), [500]);
  port.publish(1);
  loop.step(500);
  assert.deepEqual(events.timeouts.splice(0), [0]);
  settle(loop);
  loop.step(500);
  assert.deepEqual(events.timeouts, [500]);
});

test('work that is published while a port is being armed is not lost, and needs no notification', () => {
  const loop = newLoop();
  const port = new FakePort(loop);
  port.onArm = () => {
    if (port.served < 5) port.queued++;
  };
  port.publish(1);
  settle(loop);
  assert.equal(port.served, 5);
  assert.equal(port.queued, 0);
  assert.equal(port.notify, true);
});

test('a port that is activated while it is being armed stays active, unarmed', () => {
  const loop = newLoop();
  const port = new FakePort(loop);
  port.arm = () => {
    port.arms++;
    port.notify = true;
    if (port.arms === 1) port.publish(3);
    return false;
  };
  port.publish(1);
  while (port.arms === 0) loop.turn();
  assert.equal(loop.activeCount, 1);
  assert.equal(port.notify, false);
  settle(loop);
  assert.equal(port.served, 4);
});

test('a port removed from within its own poll is not polled again; its neighbours miss no turn', () => {
  const loop = newLoop(1e9);
  const ports = Array.from({ length: 5 }, () => new FakePort(loop));
  for (const port of ports) port.publish(1);
  const [, second] = ports as [FakePort, FakePort];
  second.onPoll = () => loop.remove(second);
  loop.turn();
  assert.equal(second.polls, 1);
  assert.equal(loop.activeCount, 4);
  for (const port of ports) if (port !== second) assert.equal(port.served, 1);
  loop.turn();
  assert.equal(second.polls, 1);
  loop.activate(second);
  assert.equal(loop.activeCount, 4);
});

test('a port may remove another, before or after it in the round', () => {
  for (const [remover, removed] of [
    [0, 2],
    [2, 0],
  ] as const) {
    const loop = newLoop(1e9);
    const ports = Array.from({ length: 3 }, () => new FakePort(loop)) as [FakePort, FakePort, FakePort];
    for (const port of ports) port.publish(1);
    ports[remover].onPoll = () => loop.remove(ports[removed]);
    loop.turn();
    const { polls } = ports[removed];
    assert.ok(polls <= 1);
    loop.turn();
    assert.equal(ports[removed].polls, polls);
    assert.equal(ports[1].served, 1);
    assert.equal(loop.activeCount, 2);
  }
});

test('a port removed and added again while it is being armed begins anew', () => {
  const loop = newLoop();
  const port = new FakePort(loop);
  port.onArm = () => {
    port.onArm = undefined;
    loop.remove(port);
    loop.add(port);
    port.publish(2);
  };
  port.publish(1);
  settle(loop);
  assert.equal(port.served, 3);
  assert.equal(loop.activeCount, 0);
});

test('a port that throws is removed and reported; the others go on', () => {
  for (const verb of ['poll', 'arm'] as const) {
    const loop = newLoop();
    const failed: unknown[] = [];
    loop.onError = (error, pollable) => failed.push([(error as Error).message, pollable]);
    const ports = Array.from({ length: 3 }, () => new FakePort(loop));
    const bad = ports[1] as FakePort;
    bad[verb] = () => {
      throw new Error('oops');
    };
    for (const port of ports) port.publish(40);
    settle(loop);
    assert.deepEqual(failed, [['oops', bad]]);
    assert.equal(ports[0]?.served, 40);
    assert.equal(ports[2]?.served, 40);
  }
});

test('250 armed ports cost no poll', () => {
  const loop = newLoop();
  const ports = Array.from({ length: 250 }, () => new FakePort(loop));
  for (const port of ports) port.publish(1);
  settle(loop);
  const before = ports.reduce((sum, port) => sum + port.polls, 0);
  (ports[17] as FakePort).publish(1000);
  settle(loop);
  const idle = ports.filter((_, i) => i !== 17).reduce((sum, port) => sum + port.polls, 0);
  assert.ok(idle < before);
  for (const port of ports) port.polls = 0;
  for (let i = 0; i < 100; i++) loop.turn();
  assert.ok(ports.every((port) => port.polls === 0));
});

test('ports that always have work get the same number of bursts', () => {
  const loop = newLoop();
  const ports = Array.from({ length: 7 }, () => new FakePort(loop));
  for (const port of ports) port.publish(1e9);
  for (let i = 0; i < 100; i++) loop.turn();
  const served = ports.map((port) => port.served);
  assert.equal(new Set(served).size, 1);
});

test('one turn is bounded, however many frames wait', () => {
  const loop = newLoop();
  const port = new FakePort(loop);
  port.publish(1e9);
  const frames = loop.turn();
  assert.ok(frames >= port.burst && frames <= 1024);
});

test('whatever ports and peers do, every frame is served and the loop comes to rest', () => {
  const action = fc.record({ port: fc.nat(3), n: fc.integer({ min: 1, max: 100 }), when: fc.nat(2) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const loop = newLoop();
      const ports = Array.from({ length: 4 }, () => new FakePort(loop));
      const later = actions.slice();
      // `when` says where the next action happens: between turns, during a poll, or during arming
      const next = (when: number): void => {
        if (later[0]?.when !== when) return;
        const { port, n } = later.shift() as (typeof actions)[0];
        (ports[port] as FakePort).publish(n);
      };
      for (const port of ports) {
        port.onPoll = () => next(1);
        port.onArm = () => next(2);
      }
      while (later.length > 0) {
        next(0);
        loop.turn();
        if (loop.activeCount === 0 && later.length > 0) (later[0] as { when: number }).when = 0;
      }
      settle(loop);
      const sent = actions.reduce((sum, a) => sum + a.n, 0);
      assert.equal(
        ports.reduce((sum, port) => sum + port.served, 0),
        sent,
      );
    }),
  );
});
