/**
 * The transmit queue of a virtio NIC (VirtIO 1.2 §5.1.6.2): chains from the guest to the backend.
 *
 * The backend reads the guest's buffers in place, so chains are returned after the burst's flush().
 */
import { BURST_ENTRIES, Burst } from '../../memory/burst.js';
import { Iovec, iovecSkip } from '../../memory/iovec.js';
import type { WindowPool } from '../../memory/window.js';
import { MAX_FRAME_LEN, type NetBackend } from '../../net-backends/net-backend.js';
import { ETH_HDR_LEN } from '../../wire/ethernet.js';
import { C, FIRST_FAULT } from './counters.js';
import { MAX_SEGMENTS } from './receiver.js';
import { POP_MALFORMED, type Virtqueue } from './virtqueue.js';

/** chains taken in one poll */
const BUDGET = BURST_ENTRIES;

export class Transmitter {
  backend: NetBackend;
  /** bytes before each frame in the guest's buffers */
  hdrLen = 10;
  /** of those, what the backend does not take */
  convert = 0;
  /** counter of frames that are dropped without a look (disabled, link down); 0: they are sent */
  mute = 0;

  readonly #iov = new Iovec(MAX_SEGMENTS);
  readonly #bodyIov = new Iovec(MAX_SEGMENTS);
  readonly #burst: Burst;
  // of the burst in hand, for the counters
  #frames = 0;
  #bytes = 0;

  constructor(
    readonly vq: Virtqueue,
    readonly values: Float64Array,
    windows: WindowPool,
    backend: NetBackend,
  ) {
    this.#burst = new Burst(windows);
    this.backend = backend;
  }

  close(): void {
    this.#burst.close();
  }

  /** Serves at most one burst, up to and including the backend's flush. Returns the chains taken. */
  serve(): number {
    return this.mute === 0 ? this.#send() : this.#drop();
  }

  #send(): number {
    const { vq, backend, values, convert } = this;
    const iov = this.#iov;
    this.#frames = 0;
    this.#bytes = 0;
    let taken = 0;
    while (taken < BUDGET) {
      if (backend.sendBurst !== undefined) {
        const popped = vq.popBurst(this.#burst, BUDGET - taken, false);
        const n = convert === 0 ? popped : this.#burst.skip(popped, convert);
        vq.unpop(popped - n);
        if (n > 0) {
          const sent = this.#sendBurst(backend, n);
          taken += sent;
          if (sent < n) break;
          continue;
        }
      }
      iov.clear();
      const head = vq.popReadable(iov);
      if (head === POP_MALFORMED) {
        values[C.tx_drop_malformed]!++;
        values[FIRST_FAULT + vq.fault]!++;
        vq.pushUsed(vq.malformedHead, 0);
      } else if (head < 0) break;
      else if (this.#sendOne(iov)) vq.pushUsed(head, 0);
      else {
        vq.unpop(1);
        break;
      }
      taken++;
    }
    backend.flush();
    values[C.tx_frames]! += this.#frames;
    values[C.tx_bytes]! += this.#bytes;
    return taken;
  }

  /** Sends the first `n` buffers of the burst, of which `convert` bytes are hidden. Returns how many were taken; the rest is available again. */
  #sendBurst(backend: NetBackend, n: number): number {
    const { vq, convert } = this;
    const burst = this.#burst;
    const headers = this.hdrLen - convert;
    let from = 0;
    for (;;) {
      const k = backend.sendBurst!(burst, from, n);
      this.#frames += k;
      this.#bytes -= k * headers;
      from += k;
      if (from === n) break;
      // one that wants more than a burst can do
      this.#iov.clear();
      this.#iov.push(burst.window.index, burst.bufferOff(from) - convert, burst.bufferLen(from) + convert);
      this.#bytes -= burst.bufferLen(from);
      if (!this.#sendOne(this.#iov)) break;
      burst.setDone(from++, 0);
      if (from === n) break;
    }
    this.#bytes += burst.totalLen(from);
    vq.pushBurst(burst, from, false);
    vq.unpop(n - from);
    return from;
  }

  /** Sends the frame in `iov`, or drops and counts it. False if the backend is full: it must be offered again. */
  #sendOne(iov: Iovec): boolean {
    const { values, convert } = this;
    const len = iov.total - this.hdrLen;
    if (len < ETH_HDR_LEN) values[C.tx_drop_runt]!++;
    else if (len > MAX_FRAME_LEN) values[C.tx_drop_too_long]!++;
    else {
      const sent = this.backend.send(convert === 0 ? iov : this.#behindHeader(iov, convert));
      if (sent === 0) return false;
      if (sent > 0) {
        this.#frames++;
        this.#bytes += len;
      } else values[C.tx_drop_backend]!++;
    }
    return true;
  }

  #drop(): number {
    const { vq } = this;
    let taken = 0;
    for (; taken < BUDGET; taken++) {
      this.#iov.clear();
      const head = vq.popReadable(this.#iov);
      if (head < 0 && head !== POP_MALFORMED) break;
      vq.pushUsed(head < 0 ? vq.malformedHead : head, 0);
    }
    this.values[this.mute]! += taken;
    return taken;
  }

  #behindHeader(iov: Iovec, skip: number): Iovec {
    iovecSkip(iov, skip, this.#bodyIov);
    return this.#bodyIov;
  }
}
