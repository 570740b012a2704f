/**
 * A port that a client has open, in the fabric's thread: its rings are synced here, on behalf of another process.
 *
 * What NETMAP_REQ_SYNC_KLOOP_START does in netmap: while the port is active the poll loop looks at head of each
 * ring, and the client need not kick; when it has been idle it is armed, and an eventfd wakes it. The client is
 * told through another eventfd, when it sleeps, that tail has moved.
 *
 * Both descriptors are shared with the client, who can do to them what it likes: the one that wakes us is never
 * read, only waited for by edge, and the other is signalled in a way that cannot wait.
 */
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Pollable } from '../../engine/poll-loop.js';
import type { Runtime } from '../../engine/runtime.js';
import { EventfdSignal } from '../../sys/aio.js';
import { createEventfd } from '../../sys/eventfd.js';
import type { Fd } from '../../sys/fd.js';
import type { KRing } from '../kring.js';
import type { NetmapPort } from '../port.js';
import { atokWord, ktoaWord, W_APPL_NEED_KICK, W_HEAD, W_KERN_NEED_KICK } from './csb.js';

export class RemotePort implements Pollable {
  readonly port: NetmapPort;
  /** offset of the CSB entries in the region */
  readonly csbOff: number;
  readonly kick: Fd;
  readonly notify: Fd;
  readonly #runtime: Runtime;
  readonly #signal: EventfdSignal;
  readonly #kicked: MeventHandle;
  readonly #krings: readonly KRing[];
  readonly #txCount: number;
  readonly #u32: Uint32Array;
  /** first word of each ring's entry */
  readonly #atok: Int32Array;
  readonly #ktoa: Int32Array;
  /** tail as the client was told last */
  readonly #tails: Int32Array;
  #closed = false;

  /** The port is ours from here on; it is closed when this throws. */
  constructor(runtime: Runtime, port: NetmapPort) {
    this.#runtime = runtime;
    this.port = port;
    const { memory } = port;
    this.#krings = [...port.txKrings, ...port.rxKrings];
    this.#txCount = port.txKrings.length;
    const undo: (() => void)[] = [() => port.close()];
    try {
      this.csbOff = memory.allocCsb();
      undo.push(() => memory.freeCsb(this.csbOff));
      this.kick = createEventfd();
      undo.push(() => this.kick.close());
      this.notify = createEventfd();
      undo.push(() => this.notify.close());
      const onKick = () => runtime.loop.activate(this);
      this.#kicked = runtime.mevent.add(this.kick.number, EVF_READ, onKick, { edge: true });
    } catch (error) {
      for (const step of undo.reverse()) step();
      throw error;
    }
    this.#signal = new EventfdSignal(this.notify.number);
    this.#u32 = memory.window.u32;
    const off = memory.off + this.csbOff;
    this.#atok = Int32Array.from(this.#krings, (_, i) => atokWord(off, i));
    this.#ktoa = Int32Array.from(this.#krings, (_, i) => ktoaWord(off, i));
    this.#tails = Int32Array.from(this.#krings, (kring) => kring.ring.tail);
    this.#krings.forEach((kring, i) => {
      this.#u32[this.#atok[i]! + W_HEAD] = kring.ring.head;
      this.#u32[this.#atok[i]! + W_HEAD + 1] = kring.ring.cur;
      kring.csb = { u32: this.#u32, atok: this.#atok[i]!, ktoa: this.#ktoa[i]! };
      kring.publish();
    });
    port.onReady = () => this.#sync();
    runtime.loop.add(this);
    runtime.loop.activate(this);
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#runtime.loop.remove(this);
    this.#kicked.delete();
    for (const kring of this.#krings) kring.csb = undefined;
    const { memory } = this.port;
    // before the port: with its last user the memory goes
    memory.freeCsb(this.csbOff);
    this.port.close();
    this.kick.close();
    this.notify.close();
  }

  // ---- in the poll loop ----

  poll(): number {
    const krings = this.#krings;
    const u32 = this.#u32;
    let slots = 0;
    for (let i = 0; i < krings.length; i++) {
      const kring = krings[i]!;
      const head = Atomics.load(u32, this.#atok[i]! + W_HEAD);
      const before = kring.rhead;
      if (head === before) continue;
      if (i < this.#txCount) this.port.txsync(i);
      else this.port.rxsync(i - this.#txCount);
      // what it made no sense of counts for one
      slots += Math.max(1, kring.distance(before, kring.rhead));
    }
    if (slots > 0) this.#tell();
    return slots;
  }

  arm(): boolean {
    this.#wantKicks(1);
    for (let i = 0; i < this.#krings.length; i++)
      if (Atomics.load(this.#u32, this.#atok[i]! + W_HEAD) !== this.#krings[i]!.rhead) return true;
    return false;
  }

  disarm(): void {
    this.#wantKicks(0);
  }

  #wantKicks(value: number): void {
    for (let i = 0; i < this.#krings.length; i++) Atomics.store(this.#u32, this.#ktoa[i]! + W_KERN_NEED_KICK, value);
  }

  /** Frames have come, or room for some. */
  #sync(): void {
    this.port.txsync();
    this.port.rxsync();
    this.#tell();
  }

  /** Wakes the client if tail of a ring that it waits for has moved. */
  #tell(): void {
    const krings = this.#krings;
    let wake = false;
    for (let i = 0; i < krings.length; i++) {
      const tail = krings[i]!.rtail;
      if (tail === this.#tails[i]) continue;
      this.#tails[i] = tail;
      wake ||= Atomics.load(this.#u32, this.#atok[i]! + W_APPL_NEED_KICK) !== 0;
    }
    if (wake) this.#signal.signal();
  }
}
