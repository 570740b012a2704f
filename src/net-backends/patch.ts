/**
 * A patch joins two backends: what one receives the other sends (netmap's bridge(8) between any two).
 *
 * The two ends agree on a header length and on the offloads that may cross unfinished: those that one
 * end hands over and the other takes, in each direction by itself. Frames cross in bursts through
 * memory of the patch's own. The side that cannot take a frame drops it: neither holds the other up.
 *
 *     A ── recv ─▶ buffers ─▶ send, flush ── B
 *       ◀─ flush, send ◀─ buffers ◀─ recv ──
 */
import type { Runtime } from '../engine/runtime.js';
import { Iovec } from '../memory/iovec.js';
import type { Mapping } from '../memory/window.js';
import { translateOffloads } from '../wire/vnet-header.js';
import { type BackendStatus, MAX_FRAME_LEN, type NetBackend, type ReceiveCallback } from './net-backend.js';
import { type DeviceSpec, openBackend } from './registry.js';

/** bytes of frames that cross in one burst */
const BUFFER_BYTES = 2 ** 20;
const MAX_HDR_LEN = 12;

const counterNames = [
  'a_to_b_frames',
  'a_to_b_bytes',
  'a_to_b_drop_full',
  'a_to_b_drop_refused',
  'b_to_a_frames',
  'b_to_a_bytes',
  'b_to_a_drop_full',
  'b_to_a_drop_refused',
] as const;
// of one direction
const FRAMES = 0;
const BYTES = 1;
const DROP_FULL = 2;
const DROP_REFUSED = 3;
const DIRECTION = 4;

export interface PatchOptions {
  runtime: Runtime;
  /** its counters' subject, and what messages call it */
  name: string;
  a: string | DeviceSpec;
  b: string | DeviceSpec;
}

export interface PatchStatus {
  a: string;
  b: string;
  /** header length that both ends use */
  vnetHdrLen: number;
  /** virtio-net feature bits agreed with each end */
  featuresA: bigint;
  featuresB: bigint;
  /** what each end says of itself */
  statusA: BackendStatus;
  statusB: BackendStatus;
}

export class Patch {
  readonly name: string;
  readonly #runtime: Runtime;
  readonly #ends: NetBackend[] = [];
  readonly #buffers: Mapping[] = [];
  readonly #iovs = [new Iovec(1), new Iovec(1)];
  readonly #values: Float64Array;
  #features: [bigint, bigint] = [0n, 0n];
  #closed = false;

  /** Opens both ends. Throws NetbeError, with nothing left open. */
  constructor(options: PatchOptions) {
    const { runtime, name } = options;
    this.name = name;
    this.#runtime = runtime;
    this.#values = runtime.counters.create(name, counterNames).values;
    try {
      this.#open(options.a, () => this.#cross(0));
      this.#open(options.b, () => this.#cross(1));
      this.#agree();
    } catch (error) {
      this.close();
      throw error;
    }
    for (const end of this.#ends) end.recvEnable();
  }

  status(): PatchStatus {
    const [a, b] = this.#ends as [NetBackend, NetBackend];
    const [featuresA, featuresB] = this.#features;
    const [statusA, statusB] = [a.status?.() ?? {}, b.status?.() ?? {}];
    return { a: a.name, b: b.name, vnetHdrLen: a.vnetHdrLen, featuresA, featuresB, statusA, statusB };
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const end of this.#ends) end.recvDisable();
    for (const end of this.#ends) end.close();
    for (const buffer of this.#buffers) buffer.close();
    this.#runtime.counters.release(this.name);
  }

  #open(spec: string | DeviceSpec, onReceive: ReceiveCallback): void {
    // an end may call back while it is opened: frames cross when both are there
    const ready = () => {
      if (this.#ends.length === 2 && !this.#closed) onReceive();
    };
    const end = openBackend(this.#runtime, spec, ready, this.name);
    this.#ends.push(end);
    this.#buffers.push(this.#runtime.windows.mapAnonymous(BUFFER_BYTES, this.name));
  }

  #agree(): void {
    const [a, b] = this.#ends as [NetBackend, NetBackend];
    const { featuresA, featuresB } = translateOffloads(a.getCap(), b.getCap());
    this.#features = [featuresA, featuresB];
    if (a.setCap(featuresA, MAX_HDR_LEN) && b.setCap(featuresB, MAX_HDR_LEN)) return;
    this.#features = [0n, 0n];
    a.setCap(0n, 0);
    b.setCap(0n, 0);
  }

  /** Moves what end `from` has to the other one. */
  #cross(from: 0 | 1): void {
    const source = this.#ends[from]!;
    const sink = this.#ends[1 - from]!;
    const buffer = this.#buffers[from]!;
    const iov = this.#iovs[from]!;
    const counters = from * DIRECTION;
    const hdrLen = source.vnetHdrLen;
    let frames = 0;
    let bytes = 0;
    let used = 0;
    for (;;) {
      const len = source.peekRecvLen();
      if (len <= 0) break;
      if (used + len > BUFFER_BYTES) {
        // the frames sent so far are read from the buffer by flush
        sink.flush();
        used = 0;
      }
      if (len > MAX_FRAME_LEN + MAX_HDR_LEN) {
        source.rxDiscard();
        this.#values[counters + DROP_REFUSED]!++;
        continue;
      }
      iov.clear();
      iov.push(buffer.window.index, buffer.off + used, len);
      const got = source.recv(iov);
      if (got <= 0) continue;
      const sent = sink.send(iov);
      if (sent > 0) {
        frames++;
        bytes += got - hdrLen;
        used = (used + got + 15) & ~15;
      } else this.#values[counters + (sent === 0 ? DROP_FULL : DROP_REFUSED)]!++;
    }
    sink.flush();
    this.#values[counters + FRAMES]! += frames;
    this.#values[counters + BYTES]! += bytes;
  }
}
