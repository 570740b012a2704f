/** A stub function behind a vfio-user socket, and a client whose memory is reached by messages. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { DmaBatch, type RemoteMemory } from '../../src/memory/remote-memory.js';
import type { VfioUserOptions } from '../../src/transports/vfio-user/server.js';
import { CMD, dmaMap } from './vfio-user-client.js';
import { ClientMemory } from './vfio-user-memory.js';
import { VfioRig } from './vfio-user-rig.js';

const MEMORY = 1 << 20;

export class DmaRig extends VfioRig {
  readonly ram = new ClientMemory(MEMORY);

  /** `capabilities`: what the client says of itself; QEMU's unless given */
  constructor(t: TestContext, { capabilities, ...options }: Partial<VfioUserOptions> & { capabilities?: object } = {}) {
    super(t, { ...options, negotiated: false });
    this.vm.version(capabilities === undefined ? undefined : { capabilities });
    this.vm.memory = this.ram;
    this.vm.get(CMD.DMA_MAP, dmaMap(0, MEMORY));
    this.vm.sync();
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

  /** A batch of anything. */
  submit(...adds: readonly ((batch: DmaBatch) => boolean)[]): boolean[] {
    const batch = new DmaBatch();
    for (const add of adds) assert.ok(add(batch), 'it is all guest memory');
    const outcome: boolean[] = [];
    this.remote.submit(batch, (ok) => outcome.push(ok));
    return outcome;
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
    return this.runtime.count('nic/vfio-user', name);
  }
}

/** Fills with bytes that differ from their neighbours, and from those 256 further on. */
export function pattern<T extends Uint8Array>(into: T): T {
  for (let i = 0; i < into.length; i++) into[i] = (i * 7 + (i >> 8) * 3 + 1) & 0xff;
  return into;
}
