/**
 * What the controller sends to itself while a loopback is on (manual §13.4.22 RCTL.LBM; IEEE 802.3 §22.2.4.1.2): the
 * driver's self-test. In the place of the network, it keeps frames in order until they are received.
 */
import { copyPieces } from '../../memory/copy.js';
import { Iovec } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import type { NetBackend, VnetHdrLen } from '../../net-backends/net-backend.js';

/** frames that it holds: a self-test sends 64 at a time */
const SLOTS = 128;
/** the longest frame that can be received */
const SLOT_BYTES = 16384;
const EMSGSIZE = 90;
const ENOSPC = 28;

export class Loopback implements NetBackend {
  readonly name = 'loopback';
  readonly vnetHdrLen: VnetHdrLen = 0;
  readonly #pool: WindowPool;
  readonly #memory: Mapping;
  readonly #lengths = new Uint32Array(SLOTS);
  readonly #slot = new Iovec(1);
  readonly #onReceive: () => void;
  #head = 0;
  #count = 0;
  #enabled = false;

  constructor(pool: WindowPool, onReceive: () => void) {
    this.#pool = pool;
    this.#memory = pool.mapAnonymous(SLOTS * SLOT_BYTES);
    this.#onReceive = onReceive;
  }

  send(iov: Iovec): number {
    if (iov.total > SLOT_BYTES) return -EMSGSIZE;
    // more than fits is lost, as on a cable: a driver that does not receive must not wedge its own ring
    if (this.#count === SLOTS) return iov.total;
    const at = (this.#head + this.#count++) % SLOTS;
    this.#lengths[at] = iov.total;
    copyPieces(this.#pool, iov.win, iov.off, iov.len, 0, iov.total, this.#place(at), 0);
    return iov.total;
  }

  flush(): void {
    if (this.#enabled && this.#count > 0) this.#onReceive();
  }

  peekRecvLen(): number {
    return this.#count > 0 ? this.#lengths[this.#head]! : 0;
  }

  recv(iov: Iovec): number {
    const slot = this.#head;
    const len = this.rxDiscard();
    if (len === 0) return 0;
    if (iov.total < len) return -ENOSPC;
    const { win, off, len: pieceLen } = this.#place(slot);
    copyPieces(this.#pool, win, off, pieceLen, 0, len, iov, 0);
    return len;
  }

  rxDiscard(): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    this.#head = (this.#head + 1) % SLOTS;
    this.#count--;
    return len;
  }

  recvEnable(): void {
    this.#enabled = true;
    this.flush();
  }

  recvDisable(): void {
    this.#enabled = false;
  }

  getCap(): bigint {
    return 0n;
  }

  setCap(): boolean {
    return false;
  }

  close(): void {
    this.#count = 0;
    this.#enabled = false;
    this.#memory.close();
  }

  #place(slot: number): Iovec {
    this.#slot.clear();
    this.#slot.push(this.#memory.window.index, this.#memory.off + slot * SLOT_BYTES, SLOT_BYTES);
    return this.#slot;
  }
}
