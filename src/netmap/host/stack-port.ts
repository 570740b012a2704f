/**
 * The host rings of an interface (netmap(4), `netmap:IF^`): what the host's stack sends through the interface
 * is received here instead, and what is sent here arrives at the stack as received by the interface. The
 * wire's side is not touched: it may be open as `netmap:IF`, or the host's own.
 *
 * In between is a tap of ours, which goes when its descriptor is closed, and with it the programs that
 * lead frames there and back: the host then has its interface as before. A read or write a frame.
 */
import { copyPieces } from '../../memory/copy.js';
import { Iovec, iovecSkip } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import { readAt, writeAt } from '../../sys/fd.js';
import { E } from '../../sys/libc.js';
import { getLink, setLink } from '../../sys/netlink.js';
import * as tun from '../../sys/tun.js';
import { MAX_FRAME_LEN } from '../../wire/ethernet.js';
import { OFFLOAD_ALL, OFFLOAD_UFO } from '../../wire/vnet-header.js';
import { Closer, divertHost } from './attach.js';
import type { HostPort, RxFrame } from './host-port.js';

/** Name of the tap for an interface's host rings: one user at a time, whatever the process. */
export function hostTapName(ifindex: number): string {
  return `nbhost${ifindex}`;
}

const VNET_HDR_BYTES = 12;
/** a frame that was read and one to be written, each behind its header */
const FRAME_BYTES = VNET_HDR_BYTES + MAX_FRAME_LEN + 52;

const SEGMENTATION = tun.TUN_F_CSUM | tun.TUN_F_TSO4 | tun.TUN_F_TSO6 | tun.TUN_F_TSO_ECN;
const UDP_SEGMENTATION = tun.TUN_F_USO4 | tun.TUN_F_USO6;

export class StackPort implements HostPort {
  readonly mode = 'host';
  // a tap has no UDP fragmentation any more
  readonly txOffloads = OFFLOAD_ALL & ~OFFLOAD_UFO;
  readonly hasHeader = true;
  readonly fds: readonly number[];
  readonly txSlots = 1024;
  readonly txStuck = false;
  readonly #pool: WindowPool;
  readonly #fd: number;
  readonly #tapName: string;
  readonly #closer = new Closer();
  readonly #memory: Mapping;
  readonly #body = new Iovec(1024);
  readonly #dst = new Iovec(1);

  /** Throws NetbeError, `environment` where the kernel has no tcx or no taps, or forbids them. */
  constructor(pool: WindowPool, ifindex: number) {
    this.#pool = pool;
    const closer = this.#closer;
    try {
      this.#memory = closer.add(pool.mapAnonymous(2 * FRAME_BYTES));
      const fd = closer.add(tun.openTun()).number;
      this.#fd = fd;
      this.fds = [fd];
      this.#tapName = tun.tunAttach(fd, hostTapName(ifindex), tun.IFF_TAP | tun.IFF_NO_PI | tun.IFF_VNET_HDR);
      tun.tunSetVnetHdrSize(fd, VNET_HDR_BYTES);
      if (!tun.tunSetOffload(fd, SEGMENTATION | UDP_SEGMENTATION)) tun.tunSetOffload(fd, SEGMENTATION);
      const tapIndex = getLink(this.#tapName)?.index ?? 0;
      divertHost(ifindex, tapIndex, closer);
      // last: what the tap says of its own accord is dropped from the first frame on
      setLink(tapIndex, { up: true }, this.#tapName);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  fetch(rx: RxFrame): boolean {
    const { window, off } = this.#memory;
    const got = readAt(this.#fd, window.addr + off, FRAME_BYTES);
    if (got <= VNET_HDR_BYTES) return false;
    const w = off >>> 2;
    rx.hdr0 = window.i32[w]!;
    rx.hdr1 = window.i32[w + 1]!;
    rx.hdr2 = window.i32[w + 2]! & 0xffff;
    rx.pieces.clear();
    rx.pieces.push(window.index, off + VNET_HDR_BYTES, got - VNET_HDR_BYTES);
    return true;
  }

  // one frame is in hand, in memory that nobody else writes

  release(): void {}

  releaseAll(): void {}

  txRoom(_len: number, wanted: number): number {
    return wanted;
  }

  send(iov: Iovec, skip: number, hdr0: number, hdr1: number, hdr2: number): number {
    const len = iov.total - skip;
    if (len > MAX_FRAME_LEN) return -E.EMSGSIZE;
    const body = skip === 0 ? iov : this.#body;
    if (skip > 0) iovecSkip(iov, skip, body);
    const { window } = this.#memory;
    const off = this.#memory.off + FRAME_BYTES;
    const w = off >>> 2;
    window.i32[w] = hdr0;
    window.i32[w + 1] = hdr1;
    window.i32[w + 2] = hdr2;
    this.#dst.clear();
    this.#dst.push(window.index, off + VNET_HDR_BYTES, len);
    copyPieces(this.#pool, body.win, body.off, body.len, 0, len, this.#dst, 0);
    const sent = writeAt(this.#fd, window.addr + off, VNET_HDR_BYTES + len);
    if (sent > 0) return 1;
    return sent === -E.EAGAIN ? 0 : sent;
  }

  flush(): number {
    return 0;
  }

  addKernelDrops(): void {}

  status(): Record<string, string | number | boolean> {
    return { tap: this.#tapName };
  }

  close(): void {
    this.#closer.close();
  }
}
