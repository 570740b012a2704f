/**
 * A backend around another that copies every frame which crosses it into the rings of its captures.
 *
 * It is inserted when the first capture of a NIC begins and removed when the last one ends: without
 * a capture the data path does not know that it exists. Frames are copied as they are, without the
 * virtio-net header: with offloads a checksum may be partial, and a segment up to 64 KiB long.
 * A capture that does not keep up loses frames (capture_dropped); the NIC never waits for it.
 */
import { type CounterSet, counterIndices } from '../engine/counters.js';
import { FrameRingProducer } from '../engine/frame-ring.js';
import type { Runtime } from '../engine/runtime.js';
import type { Iovec } from '../memory/iovec.js';
import { DIRECTION_INBOUND, DIRECTION_OUTBOUND } from '../wire/pcapng.js';
import type { NetBackend, VnetHdrLen } from './net-backend.js';

interface Sink {
  readonly ring: FrameRingProducer;
  readonly snapLen: number;
}

const counterNames = ['captured', 'capture_dropped'] as const;
const C = counterIndices(counterNames);

/** Directions are the guest's: outbound is what it sends. */
export class CaptureBackend implements NetBackend {
  readonly name: string;
  readonly #runtime: Runtime;
  readonly #counters: CounterSet;
  readonly #sinks = new Map<number, Sink>();

  constructor(
    /** what it is inserted before */
    readonly inner: NetBackend,
    runtime: Runtime,
    subject: string,
  ) {
    this.name = inner.name;
    this.#runtime = runtime;
    this.#counters = runtime.counters.create(`${subject}/capture`, counterNames);
  }

  /** Copies frames into `ring` from now on, `snapLen` bytes of each at most. */
  addSink(id: number, ring: SharedArrayBuffer, snapLen: number): void {
    this.#sinks.set(id, { ring: new FrameRingProducer(ring), snapLen });
  }

  /** The ring's reader ends after what is in it. Returns the number of captures left. */
  removeSink(id: number): number {
    this.#sinks.get(id)?.ring.close();
    this.#sinks.delete(id);
    return this.#sinks.size;
  }

  /** Ends all captures without closing the backend behind. Idempotent. */
  detach(): void {
    for (const id of [...this.#sinks.keys()]) this.removeSink(id);
    this.#runtime.counters.release(this.#counters.subject);
  }

  get vnetHdrLen(): VnetHdrLen {
    return this.inner.vnetHdrLen;
  }

  send(iov: Iovec): number {
    const n = this.inner.send(iov);
    // what a full backend did not take is sent again
    if (n > 0) this.#capture(iov, iov.total, DIRECTION_OUTBOUND);
    return n;
  }

  recv(iov: Iovec): number {
    const n = this.inner.recv(iov);
    if (n > 0) this.#capture(iov, n, DIRECTION_INBOUND);
    return n;
  }

  #capture(iov: Iovec, length: number, direction: number): void {
    const { values } = this.#counters;
    const { windows } = this.#runtime.windows;
    const timeMs = performance.timeOrigin + performance.now();
    for (const { ring, snapLen } of this.#sinks.values()) {
      const taken = ring.push(windows, iov, this.inner.vnetHdrLen, length, snapLen, direction, timeMs);
      const counter = taken ? C.captured : C.capture_dropped;
      values[counter] = (values[counter] as number) + 1;
    }
  }

  flush(): void {
    this.inner.flush();
  }

  peekRecvLen(): number {
    return this.inner.peekRecvLen();
  }

  rxDiscard(): number {
    return this.inner.rxDiscard();
  }

  recvEnable(): void {
    this.inner.recvEnable();
  }

  recvDisable(): void {
    this.inner.recvDisable();
  }

  getCap(): bigint {
    return this.inner.getCap();
  }

  setCap(features: bigint, vnetHdrLen: number): boolean {
    return this.inner.setCap(features, vnetHdrLen);
  }

  close(): void {
    this.detach();
    this.inner.close();
  }
}
