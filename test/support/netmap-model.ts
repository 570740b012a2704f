/**
 * What netmap ports do, in a few lines and without rings: queues of slots, a map of addresses. The model that
 * the real ones are compared with.
 */

export interface ModelSlot {
  bytes: Uint8Array;
  more: boolean;
  noLearn?: boolean;
}

export class ModelPort {
  /** slots that the user has filled and that have not been sent, oldest first */
  readonly tx: ModelSlot[] = [];
  /** slots with frames that the user has not given back, oldest first */
  readonly rx: ModelSlot[] = [];
  /** of rx, those that the user has seen, and of these those that it is done with */
  visible = 0;
  consumed = 0;
  dropped = 0;

  constructor(
    readonly txSlots: number,
    readonly rxSlots: number,
  ) {}

  get txSpace(): number {
    return this.txSlots - 1 - this.tx.length;
  }

  /** The user's next `n` slots are done with. */
  consume(n: number): ModelSlot[] {
    const slots = this.rx.slice(this.consumed, this.consumed + n);
    this.consumed += n;
    return slots;
  }

  rxsync(): void {
    this.rx.splice(0, this.consumed);
    this.consumed = 0;
    this.visible = this.rx.length;
  }

  /** Takes whole frames off the transmit queue. A frame that fills the ring and has no end is dropped. */
  takeFrames(): ModelSlot[][] {
    const frames: ModelSlot[][] = [];
    for (;;) {
      const end = this.tx.findIndex(({ more }) => !more);
      if (end < 0) break;
      frames.push(this.tx.splice(0, end + 1));
    }
    if (this.tx.length === this.txSlots - 1) this.tx.length = 0;
    return frames;
  }

  receive(frame: ModelSlot[]): void {
    if (this.rx.length + frame.length > this.rxSlots - 1) this.dropped++;
    else this.rx.push(...frame);
  }
}

/** A learning switch. */
export class ModelSwitch {
  readonly #table = new Map<string, ModelPort>();

  constructor(readonly ports: readonly ModelPort[]) {}

  txsync(port: ModelPort): void {
    for (const frame of port.takeFrames()) this.#forward(port, frame);
  }

  #forward(from: ModelPort, frame: ModelSlot[]): void {
    const first = frame[0] as ModelSlot;
    const address = (at: number): string => Buffer.from(first.bytes.subarray(at, at + 6)).toString('hex');
    if (first.noLearn !== true) this.#table.set(address(6), from);
    const to = (first.bytes[0]! & 1) !== 0 ? undefined : this.#table.get(address(0));
    for (const port of to === undefined ? this.ports : [to]) if (port !== from) port.receive(frame);
  }
}

/** Two ends: slots that the receiver has not given back are not the sender's. */
export class ModelPipeEnd extends ModelPort {
  peer!: ModelPipeEnd;
  /** sent slots of a frame that has no end yet */
  #unfinished: ModelSlot[] = [];
  /** slots that the peer gave back since our last txsync */
  #returned = 0;
  #inFlight = 0;

  override get txSpace(): number {
    return this.txSlots - 1 - this.#inFlight - this.#returned - this.tx.length;
  }

  txsync(): void {
    this.#returned = 0;
    this.#inFlight += this.tx.length;
    for (const slot of this.tx.splice(0)) {
      this.#unfinished.push(slot);
      if (!slot.more) this.peer.rx.push(...this.#unfinished.splice(0));
    }
  }

  override rxsync(): void {
    this.peer.#returned += this.consumed;
    this.peer.#inFlight -= this.consumed;
    super.rxsync();
  }
}
