/**
 * For each test of e1000: a runtime, guests on a switch by name, and a look for what they leave behind. `test` makes two
 * of each: one with guests that share their memory, and one with guests that do not.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import type { NetBackend } from '../../src/net-backends/net-backend.js';
import { E1000Guest, type E1000GuestOptions } from './e1000-driver.js';
import { type TestRuntime, testRuntime } from './runtime.js';
import { TestGuest, type TestGuestOptions } from './test-guest.js';

export interface E1000Rig {
  readonly runtime: TestRuntime;
  /** a guest on vale0, with the address 02:00:00:00:00:NN of its letter */
  e1000(name: string, options?: Partial<E1000GuestOptions>): E1000Guest;
  virtio(name: string, options?: Partial<TestGuestOptions>): TestGuest;
  count(subject: string, name: string): number;
  /** a test in shared memory, and once more in memory that is not */
  test(title: string, body: () => void): void;
}

/** A backend that takes no header: what it is given must be complete. */
export function withoutHeader(backend: NetBackend): NetBackend {
  backend.getCap = () => 0n;
  return backend;
}

export function e1000Rig(): E1000Rig {
  let runtime: TestRuntime;
  let guests: { close(): void; settle?(): void }[] = [];
  let shared = true;
  beforeEach(() => {
    runtime = testRuntime();
    guests = [];
    shared = true;
  });
  afterEach(() => {
    for (const guest of guests) guest.close();
    assert.deepEqual(runtime.counters.directory(), [], 'counters were left behind');
    runtime.close();
  });
  return {
    get runtime() {
      return runtime;
    },
    e1000(name, options = {}) {
      const mac = Uint8Array.of(2, 0, 0, 0, 0, name.charCodeAt(0) - 96);
      const guest = new E1000Guest(runtime, { backend: `vale0:${name}`, name, mac, shared, ...options });
      guests.push(guest);
      return guest;
    },
    virtio(name, options = {}) {
      const guest = new TestGuest(runtime, { backend: `vale0:${name}`, name, ...options });
      guests.push(guest);
      return guest;
    },
    count(subject, name) {
      for (const guest of guests) guest.settle?.();
      return runtime.count(subject, name);
    },
    test(title, body) {
      test(title, () => {
        shared = true;
        body();
      });
      test(`${title} (memory that is not shared)`, () => {
        shared = false;
        body();
      });
    },
  };
}
