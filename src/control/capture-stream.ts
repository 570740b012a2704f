/**
 * A capture as its consumer sees it: pcapng bytes, whole blocks at a time.
 *
 * The fabric fills a ring (FrameRing); this end empties it, looking again every few milliseconds
 * while it is empty. A consumer that is slower than the traffic loses frames, which are counted
 * (capture_dropped, and in the statistics block at the end), and holds up nobody.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createFrameRing, FrameRingConsumer } from '../engine/frame-ring.js';
import { usageError } from '../errors.js';
import {
  beginPacket,
  endPacket,
  PACKET_DATA_OFFSET,
  PACKET_OVERHEAD,
  writeInterfaceDescription,
  writeInterfaceStatistics,
  writeSectionHeader,
} from '../wire/pcapng.js';
import type { FabricHost } from './fabric-host.js';
import { netbeVersion } from './version.js';

const CHUNK_BYTES = 256 * 1024;
const EMPTY_WAIT_MS = 10;

export interface CaptureOptions {
  /** bytes of each frame that are kept at most, 1 to 131072 (default: all) */
  snapLen?: number;
  /** memory for frames that wait to be read, a power of two from 4 KiB to 1 GiB (default: 8 MiB) */
  ringBytes?: number;
}

/** more than any frame has */
const MAX_SNAP_LEN = 2 ** 17;
const DEFAULT_RING_BYTES = 8 * 2 ** 20;

let nextId = 1;

export class CaptureStream implements AsyncIterableIterator<Uint8Array> {
  readonly #host: FabricHost;
  readonly #port: string;
  readonly #snapLen: number;
  readonly #ringBytes: number;
  readonly #id = nextId++;
  #ring: FrameRingConsumer | undefined;
  #received = 0;
  /** the record that `#ring` stands at did not fit the last chunk */
  #held = false;
  #done = false;
  readonly #stop = new AbortController();

  constructor(host: FabricHost, port: string, options: CaptureOptions = {}) {
    this.#host = host;
    this.#port = port;
    const { snapLen = MAX_SNAP_LEN, ringBytes = DEFAULT_RING_BYTES } = options;
    if (!Number.isInteger(snapLen) || snapLen < 1 || snapLen > MAX_SNAP_LEN)
      throw usageError(`snapLen ${snapLen} is not a number from 1 to ${MAX_SNAP_LEN}`, String(snapLen));
    this.#snapLen = snapLen;
    this.#ringBytes = ringBytes;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The first call begins the capture and gives the header, the others frames, the last one statistics. */
  async next(): Promise<IteratorResult<Uint8Array>> {
    if (this.#done) return { done: true, value: undefined };
    if (this.#ring === undefined) return { done: false, value: await this.#begin() };
    for (;;) {
      const ending = this.#stop.signal.aborted || this.#ring.closed || this.#host.failure !== undefined;
      const chunk = this.#drain(this.#ring);
      if (chunk.length > 0) return { done: false, value: chunk };
      if (ending) return this.#end(this.#ring);
      // ended early by return()
      await sleep(EMPTY_WAIT_MS, undefined, { signal: this.#stop.signal }).catch(() => {});
    }
  }

  /** Ends the capture, and a next() that waits. */
  async return(): Promise<IteratorResult<Uint8Array>> {
    this.#done = true;
    this.#stop.abort();
    if (this.#ring) await this.#host.call('stopCapture', this.#port, this.#id).catch(() => {});
    return { done: true, value: undefined };
  }

  async #begin(): Promise<Uint8Array> {
    const buffer = createFrameRing(this.#ringBytes);
    await this.#host.call('startCapture', this.#port, this.#id, buffer, this.#snapLen);
    this.#ring = new FrameRingConsumer(buffer);
    if (this.#stop.signal.aborted) await this.return();
    const out = new Uint8Array(1024);
    let at = writeSectionHeader(out, 0, `netbe ${netbeVersion}`);
    at += writeInterfaceDescription(out, at, { name: this.#port, snapLen: this.#snapLen });
    return out.subarray(0, at);
  }

  /** The packet blocks of what is in the ring, as far as they fit one chunk. */
  #drain(ring: FrameRingConsumer): Uint8Array {
    let out = new Uint8Array(0);
    let at = 0;
    while (this.#held || ring.next()) {
      const { capturedLen, originalLen, direction, timeMs, dataOff } = ring;
      this.#held = at + capturedLen + PACKET_OVERHEAD > out.length;
      if (this.#held && at > 0) break;
      // a chunk is made when there is something for it, and holds any frame
      if (this.#held) out = new Uint8Array(Math.max(CHUNK_BYTES, capturedLen + PACKET_OVERHEAD));
      this.#held = false;
      const seconds = Math.floor(timeMs / 1000);
      beginPacket(out, at, 0, seconds, Math.round((timeMs - seconds * 1000) * 1e6), capturedLen, originalLen);
      out.set(ring.u8.subarray(dataOff, dataOff + capturedLen), at + PACKET_DATA_OFFSET);
      at += endPacket(out, at, capturedLen, direction);
      this.#received++;
    }
    return out.subarray(0, at);
  }

  async #end(ring: FrameRingConsumer): Promise<IteratorResult<Uint8Array>> {
    this.#done = true;
    // a fabric that fails ends its captures, too: an answer, or none, tells the two apart
    await this.#host.call('stopCapture', this.#port, this.#id).catch(() => {});
    if (this.#host.failure) throw this.#host.failure;
    const out = new Uint8Array(256);
    const nowMs = Date.now();
    const { dropped } = ring;
    const seconds = Math.floor(nowMs / 1000);
    const nanoseconds = (nowMs % 1000) * 1e6;
    const length = writeInterfaceStatistics(out, 0, 0, seconds, nanoseconds, this.#received + dropped, dropped);
    return { done: false, value: out.subarray(0, length) };
  }
}
