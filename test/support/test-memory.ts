/** A guest's memory in a memfd, from guest-physical 0 on, of which its hypervisor shares all with us, some, or none. */
import { GuestMemory } from '../../src/memory/guest-memory.js';
import type { Mapping, Window, WindowPool } from '../../src/memory/window.js';
import { ftruncate, memfdCreate } from '../../src/sys/memfd.js';
import { TestDmaChannel, type TestDmaOptions } from './test-dma-channel.js';

export interface TestMemoryOptions {
  /** what is not shared, by whole pages: from the first up to the second of each pair; 'all' */
  unshared?: 'all' | readonly (readonly [number, number])[];
  /** what the hypervisor refuses to transfer */
  refuses?: TestDmaOptions['refuses'];
  /** user address of guest-physical 0, as a hypervisor would have it */
  userBase?: number;
}

export class TestMemory {
  /** what the device is given */
  readonly memory: GuestMemory;
  /** the guest's own view: where guest-physical 0 is */
  readonly window: Window;
  readonly base: number;
  /** reaches what is not shared */
  readonly channel: TestDmaChannel | undefined;
  readonly #userBase: number;
  /** of the guest, if it cannot be the device's */
  readonly #own: Mapping | undefined;

  constructor(windows: WindowPool, size: number, options: TestMemoryOptions = {}) {
    const { unshared, refuses, userBase = 0 } = options;
    this.#userBase = userBase;
    this.memory = new GuestMemory(windows);
    const fd = memfdCreate('test-memory');
    ftruncate(fd.number, size);
    const share = (gpa: number, end: number): void => {
      const region = { gpa, size: end - gpa, userAddr: userBase + gpa };
      if (end > gpa) this.memory.addRegionLater({ ...region, mmapOffset: gpa, fd: fd.number, pageSize: 4096 });
    };
    if (unshared === undefined) {
      share(0, size);
      this.memory.settle();
      const place = { win: 0, off: 0 };
      this.memory.locate(0, size, place);
      this.window = windows.windows[place.win]!;
      this.base = place.off;
    } else {
      this.#own = windows.mapFile({ fd: fd.number, fileOffset: 0, length: size, pageSize: 4096 });
      this.window = this.#own.window;
      this.base = this.#own.off;
      this.channel = new TestDmaChannel({ u8: this.window.u8, base: this.base, refuses });
      this.channel.arrived = (gpa, bytes) => this.memory.remote?.arrived(gpa, bytes);
      let at = 0;
      for (const [gpa, end] of unshared === 'all' ? [[0, size] as const] : unshared) {
        share(at, gpa);
        this.mapUnshared(gpa, end);
        at = end;
      }
      share(at, size);
      this.memory.settle();
    }
    fd.close();
  }

  /** Takes effect with memory.settle(). */
  mapUnshared(gpa: number, end: number): void {
    this.memory.addRemoteRegionLater({ gpa, size: end - gpa, userAddr: this.#userBase + gpa }, this.channel!);
  }

  unmap(gpa: number, end: number): void {
    this.memory.removeRegionLater(gpa, end - gpa, this.#userBase + gpa);
  }

  bytes(gpa: number, length: number): Uint8Array {
    return this.window.u8.subarray(this.base + gpa, this.base + gpa + length);
  }

  close(): void {
    this.memory.close();
    this.#own?.close();
  }
}
