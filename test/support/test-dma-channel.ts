/**
 * A hypervisor that shares no memory, as a device model meets it: transfers wait here until the test lets them through,
 * oldest first, and then go to or come from the memory that the test's driver works on.
 */
import type { DmaChannel, DmaTransfer } from '../../src/memory/remote-memory.js';

/** A transfer as tests compare it: "read 0x1000 16". */
export function transferText(transfer: DmaTransfer): string {
  const { kind, gpa } = transfer;
  return `${kind} 0x${gpa.toString(16)} ${kind === 'read' ? transfer.length : transfer.bytes.length}`;
}

interface Batch {
  readonly transfers: readonly DmaTransfer[];
  readonly done: (ok: boolean) => void;
  /** what was read early */
  readonly bytes: readonly Uint8Array[];
}

export interface TestDmaOptions {
  /** the guest's own memory: where guest-physical 0 is */
  u8: Uint8Array;
  base: number;
  /** what the hypervisor refuses */
  refuses?: (transfer: DmaTransfer) => boolean;
}

export class TestDmaChannel implements DmaChannel {
  /** set before the first transfer: where bytes go that are read into the copy (RemoteMemory.arrived) */
  arrived: (gpa: number, bytes: Uint8Array) => void = () => {};
  /** bytes are read when they are asked for, and answered later: the oldest that they may be */
  readsEarly = false;
  /** every transfer that was carried out, in order */
  readonly log: DmaTransfer[] = [];
  readonly #options: TestDmaOptions;
  #waiting: Batch[] = [];

  constructor(options: TestDmaOptions) {
    this.#options = options;
  }

  /** Batches that wait. */
  get pending(): number {
    return this.#waiting.length;
  }

  submit(transfers: readonly DmaTransfer[], done: (ok: boolean) => void): void {
    if (transfers.length === 0) throw new Error('an empty batch was submitted');
    const bytes = this.readsEarly ? transfers.map((transfer) => this.#read(transfer)) : [];
    this.#waiting.push({ transfers: [...transfers], done, bytes });
  }

  /** Carries out the oldest batch, or the one at `at`. False: there is none. */
  deliver(at = 0): boolean {
    const [batch] = this.#waiting.splice(at, 1);
    if (batch === undefined) return false;
    const { u8, base, refuses = () => false } = this.#options;
    let ok = true;
    for (const [i, transfer] of batch.transfers.entries()) {
      this.log.push(transfer);
      if (refuses(transfer)) ok = false;
      else if (transfer.kind === 'write') u8.set(transfer.bytes, base + transfer.gpa);
      else {
        const bytes = batch.bytes[i] ?? this.#read(transfer);
        if (transfer.bytes === undefined) this.arrived(transfer.gpa, bytes);
        else transfer.bytes.set(bytes);
      }
    }
    batch.done(ok);
    return true;
  }

  /** Until nothing waits. Returns how many batches there were. */
  deliverAll(): number {
    let count = 0;
    while (this.deliver()) count++;
    return count;
  }

  #read(transfer: DmaTransfer): Uint8Array {
    const from = this.#options.base + transfer.gpa;
    return this.#options.u8.slice(from, from + (transfer.kind === 'read' ? transfer.length : 0));
  }

  /** The connection ends: nothing is called any more. */
  close(): void {
    this.#waiting = [];
  }
}
