/** The descriptors of a hostile client: files of guest memory and eventfds, right ones and wrong ones. */
import { writeSync } from 'node:fs';
import { createEventfd, eventfdWrite } from '../../src/sys/eventfd.js';
import type { Fd } from '../../src/sys/fd.js';
import { ftruncate, MFD_ALLOW_SEALING, memfdCreate } from '../../src/sys/memfd.js';
import type { Decisions } from './harness.js';

export class HostileFds {
  readonly #in: Decisions;
  readonly #memoryBytes: number;
  readonly #maxFds: number;
  readonly #fds: Fd[] = [];
  /** handed over: signalled now and then */
  readonly #events: Fd[] = [];
  readonly #files: Fd[] = [];

  /** `maxFds`: most descriptors that a message may bring */
  constructor(input: Decisions, memoryBytes: number, maxFds: number) {
    this.#in = input;
    this.#memoryBytes = memoryBytes;
    this.#maxFds = maxFds;
  }

  /** Closed with the rest. */
  own<T extends Fd>(fd: T): T {
    this.#fds.push(fd);
    return fd;
  }

  /** Memory that can be sealed, as a rule, and holds rings of random content; often one that was handed over before. */
  file(fresh = false): Fd {
    const d = this.#in;
    if (!fresh && this.#files.length > 0 && !d.oneIn(3)) return d.pick(this.#files);
    const fd = this.own(memfdCreate('fuzz', d.oneIn(6) ? 0 : MFD_ALLOW_SEALING));
    ftruncate(fd.number, d.oneIn(8) ? d.u16() : this.#memoryBytes);
    this.#files.push(fd);
    return fd;
  }

  event(): Fd {
    const fd = this.own(createEventfd());
    this.#events.push(fd);
    return fd;
  }

  /** None, a few, as many as a message may bring, or one more. */
  any(): Fd[] {
    const d = this.#in;
    const count = d.pick([0, 0, 0, 1, 1, 2, this.#maxFds, this.#maxFds + 1]);
    return Array.from({ length: count }, () => (d.below(2) === 0 ? this.event() : this.file()));
  }

  signalOne(): void {
    if (this.#events.length > 0) eventfdWrite(this.#in.pick(this.#events).number);
  }

  /** Tries to take memory away that is in use. */
  shorten(): void {
    const d = this.#in;
    if (this.#files.length === 0) return;
    try {
      ftruncate(d.pick(this.#files).number, d.below(this.#memoryBytes));
    } catch {
      // sealed: as it should be
    }
  }

  /** Writes into a ring at 0x10000 or 0x20000: its available index, or a descriptor. */
  poke(): void {
    const d = this.#in;
    if (this.#files.length === 0) return;
    const ring = 0x10000 * (1 + d.below(2));
    const data = d.oneIn(2) ? d.take(2) : d.take(16);
    const at = data.length === 2 ? ring + 0x4002 : ring + 16 * d.below(64);
    writeSync(d.pick(this.#files).number, data, 0, data.length, at);
  }

  close(): void {
    for (const fd of this.#fds) fd.close();
  }
}
