/**
 * Interrupts: causes, mask, and the timers that hold them back (manual §3.2.7, §3.4.4, §13.4.17 to §13.4.21).
 *
 * A cause that is not masked asserts the pin, or sends the message, and the driver clears causes by reading ICR. Two
 * things delay that: receive and transmit wait for RDTR, RADV, TIDV, TADV before they set their cause, and ITR is the
 * least time from one interrupt to the next.
 *
 * Each delay is a point in time. While the NIC is polled somebody looks at the clock anyway and calls `expire`;
 * only while it is not, a deadline of the event queue is set.
 */
import type { Deadline } from '../../engine/timers.js';
import * as R from './registers.js';

/** of RDTR, RADV, TIDV and TADV, in microseconds (§13.4.30) */
const DELAY_UNIT_US = 1.024;
/** of ITR (§13.4.18) */
const ITR_UNIT_US = 0.256;

const NEVER = Number.POSITIVE_INFINITY;

/**
 * Bounds on how often the driver is interrupted, whatever it sets: an interrupt costs its guest a round trip to
 * another process, for the driver must read ICR.
 */
export interface InterruptLimits {
  /** least time from one interrupt to the next, in microseconds */
  gapUs: number;
  /** least time that descriptors with IDE wait before they interrupt for themselves, in microseconds */
  transmitUs: number;
}

/** The first is 500 units of ITR: 7813 interrupts a second (§13.4.18), as QEMU's e1000 has it. */
export const DEFAULT_LIMITS: InterruptLimits = { gapUs: 128, transmitUs: 256 };

/** Where an interrupt goes. */
export interface InterruptOutput {
  /** the pin */
  level(asserted: boolean): void;
  /** whether interrupts are messages now */
  readonly messages: boolean;
  message(): void;
}

export class Interrupts {
  /** the NIC is in the poll loop: nobody else need watch the clock */
  polled = false;
  /** earliest time at which expire() has something to do, in microseconds */
  dueUs = NEVER;
  readonly #words: Uint32Array;
  readonly #output: InterruptOutput;
  readonly #limits: InterruptLimits;
  readonly #deadline: Deadline;
  #asserted = false;
  #lastUs = Number.NEGATIVE_INFINITY;
  // when each delay ends
  #throttleUs = NEVER;
  #rxPacketUs = NEVER;
  #rxAbsoluteUs = NEVER;
  #txPacketUs = NEVER;
  #txAbsoluteUs = NEVER;
  #deadlineUs = NEVER;

  /** `makeDeadline` is given expire() */
  constructor(
    words: Uint32Array,
    output: InterruptOutput,
    limits: InterruptLimits,
    makeDeadline: (expire: () => void) => Deadline,
  ) {
    this.#words = words;
    this.#output = output;
    this.#limits = limits;
    this.#deadline = makeDeadline(() => {
      this.#deadlineUs = NEVER;
      this.expire();
      this.watch();
    });
  }

  /** Forgets causes, mask and delays. */
  reset(): void {
    this.#words[R.ICR >> 2] = 0;
    this.#words[R.IMS >> 2] = 0;
    this.#throttleUs = NEVER;
    this.#lastUs = Number.NEGATIVE_INFINITY;
    this.#endReceiveDelay();
    this.#endTransmitDelay();
    this.#settle();
    this.#deassert();
  }

  close(): void {
    this.#deadline.clear();
  }

  /** Sets causes. */
  raise(causes: number): void {
    this.#words[R.ICR >> 2]! |= causes;
    this.update();
  }

  /** ICR was read: it clears all causes. */
  read(): number {
    const causes = this.#words[R.ICR >> 2]!;
    this.clear(0xffffffff);
    return causes;
  }

  clear(causes: number): void {
    this.#words[R.ICR >> 2]! &= ~causes;
    this.update();
  }

  mask(causes: number): void {
    this.#words[R.IMS >> 2]! &= ~causes;
    this.update();
  }

  unmask(causes: number): void {
    this.#words[R.IMS >> 2]! |= causes & R.INTERRUPT_CAUSES;
    this.update();
  }

  /** Causes, mask, ITR or the kind of interrupt changed. */
  update(): void {
    if ((this.#words[R.ICR >> 2]! & this.#words[R.IMS >> 2]!) === 0) {
      if (this.#throttleUs !== NEVER) {
        this.#throttleUs = NEVER;
        this.#settle();
      }
      if (this.#asserted) this.#deassert();
      return;
    }
    if (this.#asserted) return;
    const gapUs = Math.max(this.#words[R.ITR >> 2]! * ITR_UNIT_US, this.#limits.gapUs);
    if (gapUs > 0) {
      const nowUs = performance.now() * 1000;
      const freeUs = this.#lastUs + gapUs;
      if (nowUs < freeUs) {
        this.#throttleUs = freeUs;
        this.#settle();
        this.watch();
        return;
      }
      this.#lastUs = nowUs;
    }
    this.#throttleUs = NEVER;
    this.#assert();
  }

  /** Frames were written to the ring; `causes` come at once. */
  received(causes: number): void {
    const words = this.#words;
    const delay = words[R.RDTR >> 2]!;
    if (delay === 0) {
      this.raise(causes | R.ICR_RXT0);
      return;
    }
    if (causes !== 0) this.raise(causes);
    const nowUs = performance.now() * 1000;
    const absolute = words[R.RADV >> 2]!;
    this.#rxPacketUs = nowUs + delay * DELAY_UNIT_US;
    if (absolute !== 0 && this.#rxAbsoluteUs === NEVER) this.#rxAbsoluteUs = nowUs + absolute * DELAY_UNIT_US;
    this.#settle();
    this.watch();
  }

  /** RDTR.FPD: what waits is told now (§13.4.30). */
  flushReceive(): void {
    if (this.#rxPacketUs === NEVER) return;
    this.#endReceiveDelay();
    this.#settle();
    this.raise(R.ICR_RXT0);
  }

  /** Descriptors were written back; `delayed`: all of those had IDE set (§3.3.3.1). */
  transmitted(delayed: boolean, causes: number): void {
    const words = this.#words;
    const delay = words[R.TIDV >> 2]!;
    if (!delayed || delay === 0) {
      if (this.#txPacketUs !== NEVER) {
        this.#endTransmitDelay();
        this.#settle();
      }
      this.raise(causes | R.ICR_TXDW);
      return;
    }
    if (causes !== 0) this.raise(causes);
    const nowUs = performance.now() * 1000;
    const absolute = words[R.TADV >> 2]!;
    const { transmitUs } = this.#limits;
    this.#txPacketUs = nowUs + Math.max(delay * DELAY_UNIT_US, transmitUs);
    if (absolute !== 0 && this.#txAbsoluteUs === NEVER)
      this.#txAbsoluteUs = nowUs + Math.max(absolute * DELAY_UNIT_US, transmitUs);
    this.#settle();
    this.watch();
  }

  /** Does what has become due. */
  expire(): void {
    const nowUs = performance.now() * 1000;
    if (nowUs < this.dueUs) return;
    let causes = 0;
    if (this.#rxPacketUs <= nowUs || this.#rxAbsoluteUs <= nowUs) {
      this.#endReceiveDelay();
      causes |= R.ICR_RXT0;
    }
    if (this.#txPacketUs <= nowUs || this.#txAbsoluteUs <= nowUs) {
      this.#endTransmitDelay();
      causes |= R.ICR_TXDW;
    }
    if (this.#throttleUs <= nowUs) this.#throttleUs = NEVER;
    this.#settle();
    this.raise(causes);
  }

  /** Sees to it that expire() is called in time though the NIC may not be polled. */
  watch(): void {
    if (this.polled || this.dueUs === NEVER || this.#deadlineUs <= this.dueUs) return;
    this.#deadlineUs = this.dueUs;
    this.#deadline.set(this.dueUs / 1000);
  }

  #assert(): void {
    this.#asserted = true;
    this.#takeDelayed();
    if (this.#output.messages) this.#output.message();
    else this.#output.level(true);
  }

  /** What waits to be told is told along with what is told now. */
  #takeDelayed(): void {
    let causes = 0;
    if (this.#rxPacketUs !== NEVER) {
      this.#endReceiveDelay();
      causes |= R.ICR_RXT0;
    }
    if (this.#txPacketUs !== NEVER) {
      this.#endTransmitDelay();
      causes |= R.ICR_TXDW;
    }
    if (causes === 0) return;
    this.#words[R.ICR >> 2]! |= causes;
    this.#settle();
  }

  #deassert(): void {
    this.#asserted = false;
    this.#output.level(false);
  }

  #endReceiveDelay(): void {
    this.#rxPacketUs = NEVER;
    this.#rxAbsoluteUs = NEVER;
  }

  #endTransmitDelay(): void {
    this.#txPacketUs = NEVER;
    this.#txAbsoluteUs = NEVER;
  }

  #settle(): void {
    const receive = Math.min(this.#rxPacketUs, this.#rxAbsoluteUs);
    const transmit = Math.min(this.#txPacketUs, this.#txAbsoluteUs);
    this.dueUs = Math.min(this.#throttleUs, receive, transmit);
  }
}
