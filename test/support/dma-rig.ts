/** A stub function behind a vfio-user socket, and a client whose memory is reached by messages. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { DmaBatch, type RemoteMemory } from '../../src/memory/remote-memory.js';
import { counterNames } from '../../src/transports/vfio-user/counters.js';
import type { VfioUserOptions } from '../../src/transports/vfio-user/server.js';
import { CMD, dmaMap, type VfioUserClient } from './vfio-user-client.js';
import { ClientMemory } from './vfio-user-memory.js';
import { VfioRig } from './vfio-user-rig.js';

export const DMA_RIG_BYTES = 1 << 20;

export interface DmaRigOptions extends Partial<VfioUserOptions> {
  /** what the client says of itself; QEMU's unless given */
  capabilities?: object;
  /** the server has read nothing yet, and does not know how the client lays out its replies */
  fresh?: boolean;
}

export class DmaRig extends VfioRig {
  readonly ram = new ClientMemory(DMA_RIG_BYTES);
  readonly #countedBefore = new Map<string, number>();

  constructor(t: TestContext, { capabilities, fresh = false, ...options }: DmaRigOptions = {}) {
    super(t, { ...options, negotiated: false });
    this.vm.version(capabilities === undefined ? undefined : { capabilities });
    this.vm.memory = this.ram;
    this.vm.get(CMD.DMA_MAP, dmaMap(0, DMA_RIG_BYTES));
    this.vm.sync();
    if (!fresh) this.#show();
  }

  /** Four bytes that are not zero, at the end of the memory. */
  #show(): void {
    const at = DMA_RIG_BYTES - 4;
    this.ram.u8.fill(0x5a, at);
    const over = this.fetchInto(at, Buffer.alloc(4));
    this.vm.serveUntil(() => over.length === 1, 'the first read is answered');
    this.ram.requests.length = 0;
    for (const name of counterNames) this.#countedBefore.set(name, this.count(name));
  }

  /** On whose socket DMA requests come, and replies to them go. */
  get dma(): VfioUserClient {
    return this.vm.twin ?? this.vm;
  }

  get remote(): RemoteMemory {
    const remote = this.fn.memory?.remote;
    assert.ok(remote, 'the function has memory that is reached by messages');
    return remote;
  }

  /** Fetches into the copy. What is returned gets the outcome, once. */
  fetch(gpa: number, length: number): boolean[] {
    return this.submit((batch) => this.remote.fetch(batch, gpa, length));
  }

  fetchInto(gpa: number, into: Uint8Array): boolean[] {
    return this.submit((batch) => this.remote.fetchInto(batch, gpa, into));
  }

  /** Writes into the copy, and stores that. */
  store(gpa: number, data: Uint8Array): boolean[] {
    this.copy(gpa, data.length).set(data);
    return this.submit((batch) => this.remote.store(batch, gpa, data.length));
  }

  /** Carries out a batch of anything. */
  submit(...adds: readonly ((batch: DmaBatch) => boolean)[]): boolean[] {
    const outcome: boolean[] = [];
    this.remote.submit(this.batch(...adds), (ok) => outcome.push(ok));
    return outcome;
  }

  batch(...adds: readonly ((batch: DmaBatch) => boolean)[]): DmaBatch {
    const batch = new DmaBatch();
    for (const add of adds) assert.ok(add(batch), 'it is all guest memory');
    return batch;
  }

  /** Ranges of memory windows that are in use. */
  mappings(): number {
    return this.runtime.windows.windows.reduce((sum, window) => sum + window.rangeCount, 0);
  }

  /** The copy of [gpa, gpa + length), which is contiguous. */
  copy(gpa: number, length: number): Buffer {
    const place = { win: 0, off: 0 };
    assert.ok(this.remote.map.locate(gpa, length, place));
    const { buffer, byteOffset } = this.runtime.windows.windows[place.win]!.u8;
    return Buffer.from(buffer, byteOffset + place.off, length);
  }

  /** The server sends and the client answers, until nothing more happens. */
  run(turns = 50): void {
    for (let i = 0; i < turns; i++) {
      this.step();
      this.vm.serve();
    }
  }

  count(name: string): number {
    return this.runtime.count('nic/vfio-user', name) - (this.#countedBefore.get(name) ?? 0);
  }
}

/** Fills with bytes that differ from their neighbours, and from those 256 further on. */
export function pattern<T extends Uint8Array>(into: T): T {
  for (let i = 0; i < into.length; i++) into[i] = (i * 7 + (i >> 8) * 3 + 1) & 0xff;
  return into;
}
