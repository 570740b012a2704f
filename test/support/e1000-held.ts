/** Drivers of memory that is not shared, whose transfers wait until the test delivers them, one by one. */
import assert from 'node:assert/strict';
import * as R from '../../src/frontends/e1000/registers.js';
import type { E1000Guest, E1000GuestOptions } from './e1000-driver.js';
import type { E1000Rig } from './e1000-rig.js';
import type { TestGuest } from './test-guest.js';

/** Such a driver, and somebody else on the switch. */
export function heldPair(
  rig: E1000Rig,
  name: string,
  options: Partial<E1000GuestOptions> = {},
): [E1000Guest, TestGuest] {
  const guest = rig.e1000(name, { shared: false, ...options });
  const other = rig.virtio(`v${name}`, { queueSize: 256 });
  guest.settle();
  guest.read(R.ICR);
  guest.held = true;
  return [guest, other];
}

/** Writes TDT, and lets the controller look. */
export function kick(guest: E1000Guest): void {
  guest.write(R.TDT, guest.txNext);
  guest.device.poll();
}

/** Carries out the oldest batch, and lets the controller look. */
export function deliver(guest: E1000Guest): void {
  assert.equal(guest.channel.deliver(), true);
  guest.device.poll();
}

/** Lengths of the frames that the other one has received. */
export function received(other: TestGuest): number[] {
  return other.receive().map((got) => got.frame.length);
}

/** What a driver sees of its transmit ring: status of the first descriptors, TDH, causes. */
export function seen(guest: E1000Guest, descriptors = 1): [number[], number, number] {
  const status = Array.from({ length: descriptors }, (_, i) => guest.word(guest.txRing + 16 * i + 12) & 0xff);
  return [status, guest.read(R.TDH), guest.read(R.ICR)];
}

export function hex(gpa: number): string {
  return `0x${gpa.toString(16)}`;
}
