/** Memory of a fuzz target that its hypervisor does not share: transfers wait, and are carried out when the input says. */
import type { GuestMemory } from '../../src/memory/guest-memory.js';
import type { Mapping, WindowPool } from '../../src/memory/window.js';
import { TestDmaChannel } from '../support/test-dma-channel.js';
import type { Decisions } from './harness.js';

/** where the region lies, and in the hypervisor */
interface RegionPlace {
  gpa: number;
  size: number;
  userAddr: number;
}

export class UnsharedRegion {
  /** the guest's own view of it */
  readonly bytes: Uint8Array;
  readonly #memory: GuestMemory;
  readonly #place: RegionPlace;
  readonly #own: Mapping;
  readonly #channel: TestDmaChannel;
  #refuses = false;

  /** Begins at the first byte of the file. */
  constructor(windows: WindowPool, memory: GuestMemory, fd: number, place: RegionPlace) {
    this.#memory = memory;
    this.#place = place;
    const { size } = place;
    this.#own = windows.mapFile({ fd, fileOffset: 0, length: size, pageSize: 4096 });
    const { window, off } = this.#own;
    this.bytes = window.u8.subarray(off, off + size);
    this.#channel = new TestDmaChannel({ u8: window.u8, base: off - place.gpa, refuses: () => this.#refuses });
    this.#channel.arrived = (gpa, bytes) => memory.remote?.arrived(gpa, bytes);
    this.map();
  }

  map(): void {
    this.#memory.addRemoteRegionLater(this.#place, this.#channel);
    this.#memory.settle();
  }

  /** Some of what waits is carried out, in any order. */
  deliver(d: Decisions): void {
    const channel = this.#channel;
    this.#refuses = d.oneIn(32);
    for (let n = d.below(8); n > 0 && channel.pending > 0; n--) channel.deliver(d.below(channel.pending));
    this.#refuses = false;
    channel.log.length = 0;
  }

  deliverAll(): void {
    this.#channel.deliverAll();
    this.#channel.log.length = 0;
  }

  /** The connection ends: what waits is never over. */
  disconnect(): void {
    this.#channel.close();
  }

  close(): void {
    this.#own.close();
  }
}
