/**
 * AF_XDP sockets (Documentation/networking/af_xdp.rst, linux/if_xdp.h): the calls that set one up,
 * its statistics, and the call that makes the kernel look at the transmit ring.
 *
 * Rings and frame memory are mapped by the caller, at the offsets given here.
 */
import type { Fd } from './fd.js';
import { E, errno, libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { pause } from './process.js';
import {
  bindSocket,
  getSockopt,
  openSocket,
  SOCK_RAW,
  type SocketOption,
  setIntSockopt,
  setSockopt,
  tryIntSockopt,
} from './sockopt.js';

const sendtoC = libc.func(
  'int64_t sendto(int fd, uint64_t buf, size_t length, int flags, uint64_t addr, uint32_t addrlen)',
) as Kick;
const recvfromC = libc.func(
  'int64_t recvfrom(int fd, uint64_t buf, size_t length, int flags, uint64_t addr, uint64_t addrlen)',
) as Kick;
type Kick = (fd: number, buf: number, length: number, flags: number, addr: number, addrlen: number) => number;

const AF_XDP = 44;
const SOL_XDP = 283;
const MSG_DONTWAIT = 0x40;

const option = (number: number, name: string): SocketOption => ({ level: SOL_XDP, option: number, name });
const XDP_MMAP_OFFSETS = option(1, 'XDP_MMAP_OFFSETS');
const XDP_UMEM_REG = option(4, 'XDP_UMEM_REG');
const XDP_STATISTICS = option(7, 'XDP_STATISTICS');
const XDP_OPTIONS = option(8, 'XDP_OPTIONS');
const XDP_MAX_TX_SKB_BUDGET = option(9, 'XDP_MAX_TX_SKB_BUDGET');

// sxdp_flags
export const XDP_COPY = 1 << 1;
export const XDP_ZEROCOPY = 1 << 2;
export const XDP_USE_NEED_WAKEUP = 1 << 3;
/** frames of several buffers (Linux 6.6) */
export const XDP_USE_SG = 1 << 4;

/** flag in a ring: the kernel waits for a call before it goes on */
export const XDP_RING_NEED_WAKEUP = 1;
/** option of a descriptor: the frame goes on in the next one */
export const XDP_PKT_CONTD = 1;
/** bytes that the kernel keeps free before each frame received */
export const XDP_PACKET_HEADROOM = 256;

/** The four rings of a socket: option that makes it, where it is mapped, its place in xdp_mmap_offsets, bytes an entry. */
export const xskRings = {
  rx: { make: option(2, 'XDP_RX_RING'), pgoff: 0, place: 0, entryBytes: 16 },
  tx: { make: option(3, 'XDP_TX_RING'), pgoff: 0x80000000, place: 1, entryBytes: 16 },
  fill: { make: option(5, 'XDP_UMEM_FILL_RING'), pgoff: 0x100000000, place: 2, entryBytes: 8 },
  completion: { make: option(6, 'XDP_UMEM_COMPLETION_RING'), pgoff: 0x180000000, place: 3, entryBytes: 8 },
} as const;
export type XskRingName = keyof typeof xskRings;

export function openXsk(): Fd {
  return openSocket(
    AF_XDP,
    SOCK_RAW,
    0,
    'AF_XDP',
    'AF_XDP needs CAP_NET_RAW (or root) and a kernel built with CONFIG_XDP_SOCKETS.',
  );
}

// struct xdp_umem_reg { u64 addr, len; u32 chunk_size, headroom, flags, tx_metadata_len }
const umemReg = new NativeBuffer(32);

/** Makes memory the socket's frames. It stays pinned until the socket is closed. */
export function registerUmem(fd: number, addr: number, length: number, chunkSize: number): void {
  umemReg.u8.fill(0);
  umemReg.setU64(0, addr);
  umemReg.setU64(8, length);
  umemReg.u32[4] = chunkSize;
  // the length of the first version of the structure: every kernel takes it
  setSockopt(fd, XDP_UMEM_REG, umemReg, 24);
}

/** Makes a ring of `entries`, a power of two. */
export function makeXskRing(fd: number, ring: XskRingName, entries: number): void {
  setIntSockopt(fd, xskRings[ring].make, entries);
}

export interface XskRingOffsets {
  producer: number;
  consumer: number;
  desc: number;
  flags: number;
}

const offsets = new NativeBuffer(128);

/** Where the parts of a ring are in its mapping. */
export function xskRingOffsets(fd: number, ring: XskRingName): XskRingOffsets {
  getSockopt(fd, XDP_MMAP_OFFSETS, offsets, 128);
  const at = xskRings[ring].place * 32;
  return {
    producer: offsets.getU64(at),
    consumer: offsets.getU64(at + 8),
    desc: offsets.getU64(at + 16),
    flags: offsets.getU64(at + 24),
  };
}

// struct sockaddr_xdp { u16 family, flags; u32 ifindex, queue_id, shared_umem_fd }
const address = new NativeBuffer(16);

/** A queue that another socket has just left is free only when the kernel has cleaned up behind it. */
const BUSY_TRIES = 60;
const BUSY_PAUSE_MS = 2;

/** Binds to a queue of an interface. Throws NetbeError: EBUSY when another socket has it. */
export function bindXsk(fd: number, ifindex: number, queue: number, flags: number): void {
  address.u32[0] = AF_XDP | (flags << 16);
  address.u32[1] = ifindex;
  address.u32[2] = queue;
  address.u32[3] = 0;
  for (let tries = 1; bindSocket(fd, address, 16) !== 0; tries++) {
    const no = errno();
    if (no !== E.EBUSY || tries === BUSY_TRIES) throw sysError('bind', `AF_XDP queue ${queue}`, undefined, no);
    pause(BUSY_PAUSE_MS);
  }
}

/** Lets one call of kickTx send more than 32 frames, where the kernel can (Linux 6.17). */
export function raiseTxBudget(fd: number, frames: number): void {
  tryIntSockopt(fd, XDP_MAX_TX_SKB_BUDGET, frames);
}

const options = new NativeBuffer(8);

/** Whether the driver works in the frame memory itself. */
export function isZeroCopy(fd: number): boolean {
  getSockopt(fd, XDP_OPTIONS, options, 4);
  return ((options.u32[0] as number) & 1) !== 0;
}

/** The kernel's own counts, in the order of struct xdp_statistics. */
export const xskStatisticNames = [
  'rx_dropped',
  'rx_invalid_descs',
  'tx_invalid_descs',
  'rx_ring_full',
  'rx_fill_ring_empty_descs',
  'tx_ring_empty_descs',
] as const;

const statistics = new NativeBuffer(48);

/** Reads statistic `i` of the last readXskStatistics. */
export function xskStatistic(i: number): number {
  return statistics.getU64(i * 8);
}

/** False when the socket does not answer any more. */
export function readXskStatistics(fd: number): boolean {
  try {
    getSockopt(fd, XDP_STATISTICS, statistics, 48);
    return true;
  } catch {
    return false;
  }
}

/** Sends what is in the transmit ring, or some of it (-EAGAIN: call again). Returns 0 or -errno. */
export function kickTx(fd: number): number {
  return sendtoC(fd, 0, 0, MSG_DONTWAIT, 0, 0) < 0 ? -errno() : 0;
}

/** Makes the driver look at the fill ring. Returns 0 or -errno. */
export function kickRx(fd: number): number {
  return recvfromC(fd, 0, 0, MSG_DONTWAIT, 0, 0) < 0 ? -errno() : 0;
}
