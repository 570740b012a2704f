import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Deadline } from '../../../src/engine/timers.js';
import { Wakeup } from '../../../src/netgraph/pipe/wakeup.js';

/** A pipe with frames due at times, and a machine whose timer comes `lateUs` late. */
class Machine {
  nowUs = 1_000_000;
  readonly due: number[] = [];
  readonly sent: { dueUs: number; atUs: number }[] = [];
  active = false;
  added = false;
  timerUs = Number.POSITIVE_INFINITY;
  #goOff: () => void = () => {};
  readonly wakeup: Wakeup;

  constructor() {
    this.wakeup = new Wakeup({
      runtime: {
        mevent: {
          addDeadline: (callback: () => void): Deadline => {
            this.#goOff = callback;
            return {
              set: (dueMs) => {
                this.timerUs = Math.ceil(Math.round(dueMs * 1e6) / 1000);
              },
              clear: () => {
                this.timerUs = Number.POSITIVE_INFINITY;
              },
            };
          },
        },
        loop: {
          add: () => {
            this.added = true;
          },
          remove: () => {
            this.added = false;
            this.active = false;
          },
          activate: (pollable) => {
            if (this.active) return;
            this.active = true;
            pollable.disarm();
          },
        },
      },
      nextUs: () => this.due[0] ?? Number.POSITIVE_INFINITY,
      advance: () => {
        while (this.due.length > 0 && this.due[0]! <= this.nowUs)
          this.sent.push({ dueUs: this.due.shift()!, atUs: this.nowUs });
      },
      nowUs: () => this.nowUs,
    });
  }

  enqueue(inUs: number): void {
    this.due.push(this.nowUs + inUs);
    this.wakeup.schedule();
  }

  /** The timer goes off. */
  wake(lateUs: number): void {
    assert.notEqual(this.timerUs, Number.POSITIVE_INFINITY, 'no timer is set');
    this.nowUs = this.timerUs + lateUs;
    this.timerUs = Number.POSITIVE_INFINITY;
    this.#goOff();
  }

  /** Turns of a microsecond each, the idle one being armed now and then, as long as the pipe is polled. */
  poll(): number {
    let turns = 0;
    for (; this.active; turns++) {
      this.nowUs++;
      if (this.wakeup.poll() > 0 || turns % 50 !== 49) continue;
      if (this.wakeup.arm()) this.wakeup.disarm();
      else this.active = false;
    }
    return turns;
  }

  /** One frame, from when it was given to the pipe until the pipe sleeps again; by how much it was late. */
  pass(delayUs: number, timerLateUs: number): number {
    this.enqueue(delayUs);
    this.wake(timerLateUs);
    this.poll();
    const { dueUs, atUs } = this.sent.at(-1)!;
    return atUs - dueUs;
  }
}

describe('wake-ups of a pipe', () => {
  test('no timer and no polling while nothing waits', () => {
    const machine = new Machine();
    machine.wakeup.schedule();
    assert.equal(machine.added, true);
    assert.equal(machine.active, false);
    assert.equal(machine.timerUs, Number.POSITIVE_INFINITY);
  });

  test('sleeps until shortly before a frame is due, polls until then, sends it no sooner, and sleeps again', () => {
    const machine = new Machine();
    const startUs = machine.nowUs;
    machine.enqueue(20_000);
    assert.equal(machine.active, false);
    assert.equal(machine.timerUs, startUs + 20_000 - machine.wakeup.leadUs);
    machine.wake(30);
    assert.equal(machine.active, true);
    assert.deepEqual(machine.sent, []);
    machine.poll();
    assert.deepEqual(machine.sent, [{ dueUs: startUs + 20_000, atUs: startUs + 20_000 }]);
    assert.equal(machine.active, false);
    assert.equal(machine.timerUs, Number.POSITIVE_INFINITY);
  });

  test('a frame that is due before a timer could go off is polled for at once', () => {
    const machine = new Machine();
    machine.enqueue(40);
    assert.equal(machine.active, true);
    assert.equal(machine.timerUs, Number.POSITIVE_INFINITY);
    machine.poll();
    assert.equal(machine.sent.length, 1);
    assert.equal(machine.sent[0]!.atUs, machine.sent[0]!.dueUs);
  });

  test('a frame that is due sooner than another moves the timer', () => {
    const machine = new Machine();
    machine.enqueue(20_000);
    const first = machine.timerUs;
    machine.due.unshift(machine.nowUs + 5000);
    machine.wakeup.schedule();
    assert.equal(machine.timerUs, first - 15_000);
    machine.wake(0);
    machine.poll();
    assert.equal(machine.timerUs > machine.nowUs, true);
    machine.wake(0);
    machine.poll();
    assert.deepEqual(
      machine.sent.map(({ dueUs, atUs }) => atUs - dueUs),
      [0, 0],
    );
  });

  test('a timer that comes later than expected makes it earlier the next time, and the next frame is in time', () => {
    const machine = new Machine();
    const before = machine.wakeup.leadUs;
    assert.equal(machine.pass(20_000, before + 100), 100);
    assert.equal(machine.wakeup.leadUs, before + 100);
    assert.equal(machine.pass(20_000, before + 100), 0);
  });

  test('a timer that is exact makes it later again, down to 50 microseconds', () => {
    const machine = new Machine();
    for (let i = 0; i < 100; i++) assert.equal(machine.pass(20_000, 5), 0);
    assert.equal(machine.wakeup.leadUs, 50);
  });

  test('a moment in which the machine did something else does not cost more than 400 microseconds of polling', () => {
    const machine = new Machine();
    assert.equal(machine.pass(20_000, 50_000) > 0, true);
    assert.equal(machine.wakeup.leadUs, 400);
    machine.enqueue(20_000);
    machine.wake(0);
    assert.equal(machine.poll() <= 500, true);
  });

  test('a timer that goes off for nothing polls nothing', () => {
    const machine = new Machine();
    machine.enqueue(20_000);
    machine.due.length = 0;
    machine.wake(0);
    assert.equal(machine.active, false);
    assert.deepEqual(machine.sent, []);
  });

  test('closed: neither a timer nor polling is left', () => {
    const machine = new Machine();
    machine.enqueue(20_000);
    machine.wakeup.close();
    assert.equal(machine.timerUs, Number.POSITIVE_INFINITY);
    assert.equal(machine.added, false);
  });
});
