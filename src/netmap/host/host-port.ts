/**
 * One way into an interface of the host: AF_XDP or AF_PACKET, or its host rings. Frames come and go as pieces of window
 * memory, with the three words of vnet header that netmap/vale/batch.ts describes; what a port cannot
 * do of the offloads they ask for is done before and behind it.
 */
import { Iovec } from '../../memory/iovec.js';

export const hostModes = ['xdp-native', 'xdp-generic', 'packet'] as const;
export type HostMode = (typeof hostModes)[number];

/** pieces of one received frame at most: 64 KiB in chunks of 1792 bytes, and some to spare */
export const MAX_RX_PIECES = 64;

/** The received frame in hand. */
export class RxFrame {
  readonly pieces = new Iovec(MAX_RX_PIECES);
  hdr0 = 0;
  hdr1 = 0;
  hdr2 = 0;
}

export interface HostPort {
  /** "host": not the wire's side of the interface but that of the host's stack, its host rings */
  readonly mode: HostMode | 'host';
  /** OFFLOAD_* that the port does when a sent frame asks for them */
  readonly txOffloads: number;
  /** received frames come with a header of the kernel's; else what they ask for must be found out */
  readonly hasHeader: boolean;
  /** readable when frames wait */
  readonly fds: readonly number[];
  /** frames may be left that the kernel would not take at flush(): call it again */
  readonly txStuck: boolean;

  /** Makes the next frame `rx`; false when there is none. The one before must have been released. */
  fetch(rx: RxFrame): boolean;
  /** Gives the memory of the frame that was fetched back. */
  release(): void;
  /** All that was released is the kernel's again. */
  releaseAll(): void;

  /** frames that the transmit ring holds */
  readonly txSlots: number;
  /** Frames of `len` bytes that can be sent now, up to `wanted`. */
  txRoom(len: number, wanted: number): number;
  /**
   * Copies the bytes of `iov` behind its first `skip` into the transmit ring. Returns 1, 0 when there is
   * no room, or -errno when the kernel refused the frame.
   */
  send(iov: Iovec, skip: number, hdr0: number, hdr1: number, hdr2: number): number;
  /** Hands what was sent to the kernel. Returns 0 or -errno. */
  flush(): number;

  /** Adds what the kernel has dropped since the last call to `values`, at these places. */
  addKernelDrops(values: Float64Array, ringFull: number, noBuffer: number, txInvalid: number): void;
  /** What it works with, for people. */
  status(): Record<string, string | number | boolean>;
  /** Idempotent. The interface has its traffic back. */
  close(): void;
}
