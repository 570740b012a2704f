/** The socket of a ksocket node once it stands: descriptor, memory, and the calls that move frames. */
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Mapping } from '../../memory/window.js';
import { type Fd, readAt, writeAt } from '../../sys/fd.js';
import { DatagramBatch } from '../../sys/inet.js';
import { E } from '../../sys/libc.js';
import { MAX_FRAME_LEN } from '../../wire/ethernet.js';
import { NG_BURST_FRAMES, type NgBurst } from '../burst.js';
import type { Netgraph } from '../engine.js';
import type { NgHook } from '../hook.js';

const BATCH = NG_BURST_FRAMES;
/** batches received before other descriptors have their turn */
const BATCHES_PER_WAKE = 4;
const SLOT_BYTES = Math.ceil(MAX_FRAME_LEN / 64) * 64;
const STREAM_BYTES = 16384;

export class OpenSocket {
  readonly stream: boolean;
  readonly #fd: Fd;
  readonly #graph: Netgraph;
  readonly #memory: Mapping;
  readonly #in = new DatagramBatch(BATCH);
  readonly #out = new DatagramBatch(BATCH);
  readonly #burst: NgBurst;
  readonly #readable: MeventHandle;

  constructor(graph: Netgraph, fd: Fd, stream: boolean, onReadable: () => void) {
    this.#graph = graph;
    this.#fd = fd;
    this.stream = stream;
    this.#memory = graph.runtime.windows.mapAnonymous(BATCH * SLOT_BYTES, 'ksocket');
    for (let i = 0; i < BATCH; i++) this.#in.setBuffer(i, this.#memory.addr + i * SLOT_BYTES, SLOT_BYTES);
    this.#burst = graph.buffers.takeBurst();
    this.#readable = graph.runtime.mevent.add(fd.number, EVF_READ, onReadable);
  }

  get fd(): number {
    return this.#fd.number;
  }

  /** Hands what was received to `hook`. Returns false when the peer of a stream has hung up. */
  receive(hook: NgHook): boolean {
    for (let k = 0; k < BATCHES_PER_WAKE; k++) {
      const n = this.stream ? this.#read() : this.#in.receive(this.fd);
      if (n === -E.EAGAIN || n === -E.EINTR) return true;
      if (n < 0 && !this.stream) continue;
      if (n <= 0) return false;
      hook.send(this.#burst.count > 0 ? this.#burst : this.#collect(n));
      this.#burst.count = 0;
      if (!this.stream && n < BATCH) return true;
    }
    return true;
  }

  #collect(n: number): NgBurst {
    const { window, off } = this.#memory;
    for (let i = 0; i < n; i++) this.#burst.push(window.index, off + i * SLOT_BYTES, this.#in.length(i));
    return this.#burst;
  }

  #read(): number {
    const n = readAt(this.fd, this.#memory.addr, STREAM_BYTES);
    if (n > 0) this.#burst.push(this.#memory.window.index, this.#memory.off, n);
    return n;
  }

  /** Sends frames [from, count) of a burst. Returns how many went, or -errno for the first. */
  send(burst: NgBurst, from: number): number {
    const { windows } = this.#graph.runtime.windows;
    if (this.stream) {
      const len = burst.len[from]!;
      const n = writeAt(this.fd, windows[burst.win[from]!]!.addr + burst.off[from]!, len);
      // half a frame would put the stream out of step for ever
      return n === len ? 1 : n < 0 ? n : -E.ECONNRESET;
    }
    for (let i = from; i < burst.count; i++)
      this.#out.setBuffer(i, windows[burst.win[i]!]!.addr + burst.off[i]!, burst.len[i]!);
    return this.#out.send(this.fd, from, burst.count);
  }

  pause(): void {
    this.#readable.disable();
  }

  resume(): void {
    this.#readable.enable();
  }

  close(): void {
    this.#readable.delete();
    this.#graph.buffers.giveBurst(this.#burst);
    this.#memory.close();
    this.#fd.close();
  }
}
