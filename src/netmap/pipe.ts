/**
 * Pipes (netmap_pipe.c): two ends in one memory region, each transmit ring joined to a receive ring of
 * the other end. Frames change hands by slot: their buffers stay where they are.
 *
 * Slot k of a transmit ring and slot k of its receive ring belong together. A frame that is sent is
 * described in the receive slot; when its receiver has given that slot back, the transmit slot is free
 * again, with the same buffer or with the one that the receiver put in its place (NS_BUF_CHANGED). So a
 * sender is held up by a slow receiver, and nothing is dropped. Only whole frames are shown: a chain of
 * NS_MOREFRAG slots appears when its last slot has been sent.
 *
 * Both ends are made by whoever opens the first, stay while either is open, and keep what is on its way.
 */
import type { Runtime } from '../engine/runtime.js';
import { NetbeError } from '../errors.js';
import { NR_TX } from './abi.js';
import { NetmapAdapter, type RingSizes } from './adapter.js';
import { R } from './counters.js';
import { K_DROP_BAD, type KRing } from './kring.js';
import type { NetmapMemory } from './memory.js';
import { pipeReleaseSlots, pipeSendSlots } from './pipe-slots.js';

export class PipeEnd extends NetmapAdapter {
  #peer: PipeEnd | undefined;

  private constructor(runtime: Runtime, name: string, memory: NetmapMemory, sizes: RingSizes) {
    super(runtime, name, memory, sizes, false);
  }

  /** Both ends of a pipe: `sizes` are the master's. */
  static pair(
    runtime: Runtime,
    masterName: string,
    slaveName: string,
    memory: NetmapMemory,
    sizes: RingSizes,
  ): { master: PipeEnd; slave: PipeEnd } {
    const { txRings, rxRings, txSlots, rxSlots } = sizes;
    const master = new PipeEnd(runtime, masterName, memory, sizes);
    let slave: PipeEnd | undefined;
    try {
      const swapped = { ...sizes, txRings: rxRings, rxRings: txRings, txSlots: rxSlots, rxSlots: txSlots };
      slave = new PipeEnd(runtime, slaveName, memory, swapped);
      master.#join(slave);
      slave.#join(master);
    } catch (error) {
      master.close();
      slave?.close();
      throw error;
    }
    return { master, slave };
  }

  /** Joins our transmit rings to the peer's receive rings: their slots get the same buffers. */
  #join(peer: PipeEnd): void {
    this.#peer = peer;
    for (const [i, tx] of this.txKrings.entries()) {
      const rx = peer.rxKrings[i]!;
      if (!tx.allocBufs()) throw this.noBuffers();
      for (let k = 0; k < tx.numSlots; k++) rx.ring.setBufIdx(k, tx.ring.bufIdx(k));
      tx.peer = rx;
      rx.peer = tx;
    }
  }

  /** Frames change hands as they are: nobody would convert their headers. */
  protected override headerChanged(len: number): void {
    if (len === 0) return;
    throw new NetbeError(`${this.name}: frames in a pipe have no virtio-net header`, {
      code: 'EOPNOTSUPP',
      kind: 'usage',
      subject: this.name,
    });
  }

  /** Of slot k of a transmit ring and of its receive ring one has the buffer: that of the end which has the slot. */
  override *buffers(): Iterable<number> {
    for (const tx of this.txKrings) yield* buffersOf(tx, tx.hwcur, tx.next(tx.hwtail));
    for (const rx of this.rxKrings) yield* buffersOf(rx, rx.hwcur, rx.peer?.hwcur ?? rx.hwcur);
  }

  override usersChanged(): void {
    const peer = this.#peer;
    if (peer === undefined || this.inUse || peer.inUse) return;
    peer.close();
    this.close();
  }

  protected transmit(tx: KRing, head: number): void {
    const rx = tx.peer;
    if (rx === undefined || tx.hwcur === head) return;
    const frames =
      tx.straight && rx.straight ? tx.ring.window.kernel.pipeSend(tx.off, rx.off, head) : pipeSendSlots(tx, rx, head);
    this.#countBad(tx, R.tx_drop_bad_slot);
    if (frames === 0) return;
    const peer = this.#peer as PipeEnd;
    this.counters.values[R.tx_frames]! += frames;
    peer.counters.values[R.rx_frames]! += frames;
    peer.wake();
  }

  protected release(rx: KRing, head: number): void {
    const tx = rx.peer;
    if (tx === undefined || rx.hwcur === head) return;
    if (rx.straight && tx.straight) rx.ring.window.kernel.pipeRelease(rx.off, tx.off, head);
    else pipeReleaseSlots(rx, tx, head);
    this.#countBad(rx, R.rx_drop_bad_slot);
    this.#peer?.wake();
  }

  #countBad(kring: KRing, counter: number): void {
    const bad = kring.takeCount(K_DROP_BAD);
    if (bad > 0) this.counters.values[counter]! += bad;
  }
}

/** Indexes in slots from `from` on, up to but without `to`; all slots where the two are the same in a transmit ring. */
function* buffersOf({ ring, numSlots, dir }: KRing, from: number, to: number): Iterable<number> {
  let count = to - from;
  if (count < 0 || (count === 0 && dir === NR_TX)) count += numSlots;
  for (let k = 0; k < count; k++) yield ring.bufIdx((from + k) % numSlots);
}
