/** One virtqueue of the device as its transport sets it up, in memory that is shared or not. */
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { WindowPool } from '../../memory/window.js';
import type { VirtqueueAddresses } from '../virtio-device.js';
import { type RemoteEvents, RemoteVirtqueue } from './remote-virtqueue.js';
import { type RingAddresses, Virtqueue } from './virtqueue.js';

export class Queue {
  readonly vq: Virtqueue;
  /** running: the ring is not shared, and `vq` serves what stands for it */
  readonly remote: RemoteVirtqueue;
  size = 0;
  addresses: VirtqueueAddresses | undefined;
  enabled = false;
  notify: (() => void) | null = null;

  /** `direction`: VIRTQ_DESC_F_WRITE for a receive queue. */
  constructor(windows: WindowPool, direction: number, events: RemoteEvents) {
    this.vq = new Virtqueue(windows);
    this.remote = new RemoteVirtqueue(this.vq, direction, windows, events);
  }

  /** Begins to serve the ring where it was stopped. Returns what is wrong, for people, or undefined. */
  start(memory: GuestMemory): string | undefined {
    const ring = this.#find(memory);
    if (typeof ring === 'string') return ring;
    const wrong = this.vq.start(memory, this.size, ring);
    const { remote } = memory;
    // a ring that is shared is served in place, whatever else there is
    return wrong === undefined || remote === undefined ? wrong : this.remote.start(remote, this.size, ring);
  }

  /** `vq` says where the ring goes on. */
  stop(): void {
    this.remote.stop();
    this.vq.stop();
  }

  /** Finds a started ring in the memory as it is now. Returns what is wrong, and is stopped; or undefined. */
  memoryChanged(memory: GuestMemory): string | undefined {
    const ring = this.#find(memory);
    const shared = typeof ring === 'string' || this.vq.check(memory, this.size, ring) === undefined;
    if (this.remote.running && !shared && this.remote.memoryChanged() === undefined) return undefined;
    this.stop();
    return this.start(memory);
  }

  #find(memory: GuestMemory): RingAddresses | string {
    const { addresses } = this;
    if (!addresses) return 'no ring addresses were given';
    const { descUser, availUser, usedUser } = addresses;
    const ring = {
      desc: memory.userToGpa(descUser),
      avail: memory.userToGpa(availUser),
      used: memory.userToGpa(usedUser),
    };
    const lost = (part: string, user: number): string =>
      `${part} at user address 0x${user.toString(16)} is in no memory region`;
    if (ring.desc < 0) return lost('descriptor table', descUser);
    if (ring.avail < 0) return lost('available ring', availUser);
    return ring.used < 0 ? lost('used ring', usedUser) : ring;
  }
}
