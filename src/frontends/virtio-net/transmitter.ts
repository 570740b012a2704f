/**
 * The transmit queue of a virtio NIC (VirtIO 1.2 §5.1.6.2): chains from the guest to the backend.
 *
 * The backend reads the guest's buffers in place, so chains are returned after the burst's flush().
 */
import { Iovec, iovecSkip } from '../../memory/iovec.js';
import { MAX_FRAME_LEN, type NetBackend } from '../../net-backends/net-backend.js';
import { C, FIRST_FAULT } from './counters.js';
import { MAX_SEGMENTS } from './receiver.js';
import { POP_MALFORMED, type Virtqueue } from './virtqueue.js';

/** chains taken in one poll */
const BURST = 64;
const ETHER_HDR_LEN = 14;

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

  constructor(
    readonly vq: Virtqueue,
    readonly values: Float64Array,
    backend: NetBackend,
  ) {
    this.backend = backend;
  }

  /** Serves at most one burst, up to and including the backend's flush. Returns the chains taken. */
  serve(): number {
    return this.mute === 0 ? this.#send() : this.#drop();
  }

  #send(): number {
    const { vq, backend, values, hdrLen, convert } = this;
    const iov = this.#iov;
    let frames = 0;
    let bytes = 0;
    let taken = 0;
    for (; taken < BURST; taken++) {
      iov.clear();
      const head = vq.popReadable(iov);
      if (head < 0) {
        if (head !== POP_MALFORMED) break;
        values[C.tx_drop_malformed]!++;
        values[FIRST_FAULT + vq.fault]!++;
        vq.pushUsed(vq.malformedHead, 0);
        continue;
      }
      const len = iov.total - hdrLen;
      if (len < ETHER_HDR_LEN) values[C.tx_drop_runt]!++;
      else if (len > MAX_FRAME_LEN) values[C.tx_drop_too_long]!++;
      else {
        const sent = backend.send(convert === 0 ? iov : this.#behindHeader(iov, convert));
        if (sent === 0) {
          // the backend is full: the chain stays available, for the next poll
          vq.unpop(1);
          break;
        }
        if (sent > 0) {
          frames++;
          bytes += len;
        } else values[C.tx_drop_backend]!++;
      }
      vq.pushUsed(head, 0);
    }
    backend.flush();
    values[C.tx_frames]! += frames;
    values[C.tx_bytes]! += bytes;
    return taken;
  }

  #drop(): number {
    const { vq } = this;
    let taken = 0;
    for (; taken < BURST; taken++) {
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
