/** A guest whose memory is not shared, transfer by transfer, and a peer on its switch whose memory is. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach } from 'node:test';
import { TX_QUEUE } from '../../src/frontends/virtio-net/device.js';
import type { DmaTransfer } from '../../src/memory/remote-memory.js';
import { type TestRuntime, testRuntime } from './runtime.js';
import { TestGuest, type TestGuestOptions } from './test-guest.js';

export class RemoteRig {
  runtime!: TestRuntime;
  guest!: TestGuest;
  peer!: TestGuest;
  /** what the hypervisor refuses */
  refuses!: (transfer: DmaTransfer) => boolean;
  /** faults of queues that were found broken */
  broken!: string[];

  constructor() {
    beforeEach(() => {
      this.runtime = testRuntime();
      this.refuses = () => false;
      this.broken = [];
      this.peer = new TestGuest(this.runtime, { backend: 'vale0:peer', name: 'peer' });
    });
    afterEach(() => {
      this.guest.close();
      this.peer.close();
      for (const window of this.runtime.windows.windows) assert.equal(window.rangeCount, 0, 'every mapping is closed');
      assert.deepEqual(this.runtime.counters.directory(), []);
      this.runtime.close();
    });
  }

  /** A guest whose queues are running and idle. Another one must have been closed. */
  start(options: Partial<TestGuestOptions> = {}): TestGuest {
    const guest = new TestGuest(this.runtime, {
      ...{ backend: 'vale0:nic', name: 'nic', unshared: 'all', refuses: (t) => this.refuses(t) },
      ...options,
    });
    guest.device.onBroken = (_, fault) => this.broken.push(fault);
    guest.settle();
    this.runtime.loop.step(0);
    guest.interrupts = [0, 0];
    this.guest = guest;
    return guest;
  }

  count(name: string): number {
    return this.runtime.count('nic', name);
  }

  /** Carries out the oldest batch, and says what it was: "read 4096+4" for each transfer. */
  step(): string[] {
    const { channel } = this.guest;
    const before = channel.log.length;
    assert.equal(channel.pending, 1, 'one batch is under way');
    channel.deliver();
    return channel.log.slice(before).map((t) => `${t.kind} ${t.gpa}+${t.kind === 'read' ? t.length : t.bytes.length}`);
  }

  /** Carries out up to `count` batches, with the device polled behind each. */
  advance(count: number): void {
    const { channel, device } = this.guest;
    for (let i = 0; i < count && channel.deliver(); i++) device.poll();
  }

  /** The driver makes frames available and notifies. Returns where the first one lies. */
  offer(...frames: readonly Uint8Array[]): number {
    const { guest } = this;
    let first = -1;
    for (const frame of frames) {
      const gpa = guest.txSlot();
      const to = guest.bytes(gpa, guest.hdrLen + frame.length).fill(0);
      to.set(frame, guest.hdrLen);
      guest.tx.add([{ gpa, len: to.length }]);
      if (first < 0) first = gpa;
    }
    guest.tx.publish();
    guest.device.kick(TX_QUEUE);
    return first;
  }

  /** What the network sends to the guest. */
  arrive(frame: Uint8Array): void {
    assert.equal(this.peer.send(frame), 1);
  }

  /** Lengths of the frames that the peer has got. */
  sent(): number[] {
    return this.peer.receive().map((r) => r.frame.length);
  }
}
