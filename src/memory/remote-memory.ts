/**
 * Guest memory that is not shared, and is reached by messages: vfio-user's DMA_READ and DMA_WRITE.
 *
 * It has a copy here, of which nothing is ever true by itself. What a device model wants to read is fetched before, and
 * what it wrote is stored afterwards; in between it works on the copy as it does on shared memory. Transfers are asked for
 * in batches, and a batch is over when all of it has been answered. Two batches may be carried out in either order: what
 * has to be in the guest's memory first belongs into a batch of its own, and what follows into one that is
 * submitted when it is over.
 *
 * A device may be given both kinds of memory, so all of this takes any address: what is shared needs no transfer.
 */
import { AddressMap, type Place } from './address-map.js';
import type { WindowPool } from './window.js';

/** Bytes that come from the guest: into the copy, or, where they are given, into `bytes`. */
export interface DmaRead {
  readonly kind: 'read';
  readonly gpa: number;
  readonly length: number;
  readonly bytes: Uint8Array | undefined;
}

/** Bytes that go to the guest. */
export interface DmaWrite {
  readonly kind: 'write';
  readonly gpa: number;
  readonly bytes: Uint8Array;
}

export type DmaTransfer = DmaRead | DmaWrite;

/** What carries transfers to the hypervisor and back. */
export interface DmaChannel {
  /**
   * Carries out a batch that is not empty. `done` is called once, later, with false if the hypervisor refused any of
   * it; never after the connection has ended.
   */
  submit(transfers: readonly DmaTransfer[], done: (ok: boolean) => void): void;
}

/** Transfers that are collected to be submitted together. */
export class DmaBatch {
  readonly transfers: DmaTransfer[] = [];
  /** of all transfers */
  bytes = 0;

  get empty(): boolean {
    return this.transfers.length === 0;
  }
}

export class RemoteMemory {
  /** shared memory as it is, and the copies */
  readonly map = new AddressMap();
  readonly #channel: DmaChannel;
  readonly #windows: WindowPool;
  readonly #place: Place = { win: 0, off: 0 };

  constructor(channel: DmaChannel, windows: WindowPool) {
    this.#channel = channel;
    this.#windows = windows;
  }

  /** Adds to `batch` what brings [gpa, gpa + len) into the copy. False, and nothing is added, if it is not all guest memory. */
  fetch(batch: DmaBatch, gpa: number, len: number): boolean {
    return this.#each(gpa, len, (at, length) => {
      batch.transfers.push({ kind: 'read', gpa: at, length, bytes: undefined });
      batch.bytes += length;
    });
  }

  /** Likewise into `into`; the copy stays as it is. What is shared is read at once. */
  fetchInto(batch: DmaBatch, gpa: number, into: Uint8Array): boolean {
    const add = (at: number, length: number): void => {
      const bytes = into.subarray(at - gpa, at - gpa + length);
      batch.transfers.push({ kind: 'read', gpa: at, length, bytes });
      batch.bytes += length;
    };
    const copy = (at: number, length: number): void => into.set(this.#bytesAt(length), at - gpa);
    return this.#each(gpa, into.length, add, copy);
  }

  /** Adds to `batch` what brings [gpa, gpa + len), as it is now, from the copy to the guest. What is for a ROM stays here. */
  store(batch: DmaBatch, gpa: number, len: number): boolean {
    return this.#each(gpa, len, (at, length) => {
      if (this.map.isReadOnly(at)) return;
      batch.transfers.push({ kind: 'write', gpa: at, bytes: this.#bytesAt(length).slice() });
      batch.bytes += length;
    });
  }

  /** Likewise from `from`; the copy stays as it is. What is shared is written at once. */
  storeFrom(batch: DmaBatch, gpa: number, from: Uint8Array): boolean {
    const add = (at: number, length: number): void => {
      if (this.map.isReadOnly(at)) return;
      batch.transfers.push({ kind: 'write', gpa: at, bytes: from.slice(at - gpa, at - gpa + length) });
      batch.bytes += length;
    };
    const copy = (at: number, length: number): void =>
      this.#bytesAt(length).set(from.subarray(at - gpa, at - gpa + length));
    return this.#each(gpa, from.length, add, copy);
  }

  /** Carries out a batch; `done` is called once it is over, at once if it is empty. */
  submit(batch: DmaBatch, done: (ok: boolean) => void): void {
    if (batch.empty) done(true);
    else this.#channel.submit(batch.transfers, done);
  }

  /** The channel has `bytes` for a read without a place of its own. Memory that is gone meanwhile is left alone. */
  arrived(gpa: number, bytes: Uint8Array): void {
    const place = this.#place;
    let done = 0;
    while (done < bytes.length) {
      const n = this.map.run(gpa + done, bytes.length - done, place);
      if (n === 0 || !this.map.isRemote(gpa + done)) return;
      this.#windows.windows[place.win]!.u8.set(bytes.subarray(done, done + n), place.off);
      done += n;
    }
  }

  /** Goes through [gpa, gpa + len) by pieces. False, and nothing is called, if it is not all guest memory. */
  #each(
    gpa: number,
    len: number,
    remote: (gpa: number, len: number) => void,
    shared?: (gpa: number, len: number) => void,
  ): boolean {
    // beyond it an address and the next one are the same number
    if (gpa + len > Number.MAX_SAFE_INTEGER) return false;
    for (let at = gpa; at < gpa + len; ) {
      const n = this.map.run(at, gpa + len - at, this.#place);
      if (n === 0) return false;
      at += n;
    }
    for (let at = gpa; at < gpa + len; ) {
      const n = this.map.run(at, gpa + len - at, this.#place);
      if (this.map.isRemote(at)) remote(at, n);
      else shared?.(at, n);
      at += n;
    }
    return true;
  }

  /** `length` bytes where #each stands. */
  #bytesAt(length: number): Uint8Array {
    const { win, off } = this.#place;
    return this.#windows.windows[win]!.u8.subarray(off, off + length);
  }
}
