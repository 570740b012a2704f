/**
 * AF_PACKET sockets (packet(7), Documentation/networking/packet_mmap.rst): every frame of an interface,
 * through rings of the third version (TPACKET_V3) or one at a time; and promiscuous mode, which is
 * the interface's for as long as a socket asks for it.
 */
import { encode, type Instruction, load, ret, whenEqual } from './bpf-assembler.js';
import type { Fd } from './fd.js';
import { errno, libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
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
) as (fd: number, buf: number, length: number, flags: number, addr: number, addrlen: number) => number;

const AF_PACKET = 17;
const SOL_PACKET = 263;
const ETH_P_ALL = 3;
const MSG_DONTWAIT = 0x40;
const PACKET_MR_MULTICAST = 0;
const PACKET_MR_PROMISC = 1;
const TPACKET_V3 = 2;

const option = (number: number, name: string): SocketOption => ({ level: SOL_PACKET, option: number, name });
const PACKET_ADD_MEMBERSHIP = option(1, 'PACKET_ADD_MEMBERSHIP');
const PACKET_DROP_MEMBERSHIP = option(2, 'PACKET_DROP_MEMBERSHIP');
const PACKET_RX_RING = option(5, 'PACKET_RX_RING');
const PACKET_STATISTICS = option(6, 'PACKET_STATISTICS');
const PACKET_VERSION = option(10, 'PACKET_VERSION');
const PACKET_TX_RING = option(13, 'PACKET_TX_RING');
const PACKET_LOSS = option(14, 'PACKET_LOSS');
const PACKET_VNET_HDR = option(15, 'PACKET_VNET_HDR');
const PACKET_QDISC_BYPASS = option(20, 'PACKET_QDISC_BYPASS');
const PACKET_IGNORE_OUTGOING = option(23, 'PACKET_IGNORE_OUTGOING');

// linux/if_packet.h
export const TP_STATUS_KERNEL = 0;
export const TP_STATUS_USER = 1;
export const TP_STATUS_VLAN_VALID = 1 << 4;
export const TP_STATUS_VLAN_TPID_VALID = 1 << 6;
export const TP_STATUS_AVAILABLE = 0;
export const TP_STATUS_SEND_REQUEST = 1;

/** Offsets in struct tpacket_block_desc: its status, how many frames, and where the first is. */
export const BLOCK_STATUS = 8;
export const BLOCK_NUM_PKTS = 12;
export const BLOCK_FIRST = 16;
/** Offsets in struct tpacket3_hdr */
export const TP3_NEXT_OFFSET = 0;
export const TP3_SNAPLEN = 12;
export const TP3_LEN = 16;
export const TP3_STATUS = 20;
/** u16 */
export const TP3_MAC = 24;
/** TPID in the upper 16 bits of the word after: tp_vlan_tci u32, tp_vlan_tpid u16 */
export const TP3_VLAN_TCI = 32;
export const TP3_VLAN_TPID = 36;
/** bytes of the header, aligned: where the data of a frame to be sent begins (TPACKET3_HDRLEN less sockaddr_ll) */
export const TP3_TX_DATA = 48;

/** A socket that receives nothing yet. */
export function openPacketSocket(): Fd {
  return openSocket(AF_PACKET, SOCK_RAW, 0, 'AF_PACKET', 'AF_PACKET needs CAP_NET_RAW (or root).');
}

// struct packet_mreq { int ifindex; u16 type, alen; u8 address[8] }
const membership = new NativeBuffer(16);

/** The interface takes every frame on its wire until the socket is closed. */
export function setPromiscuous(fd: number, ifindex: number): void {
  membership.i32[0] = ifindex;
  membership.u32[1] = PACKET_MR_PROMISC;
  setSockopt(fd, PACKET_ADD_MEMBERSHIP, membership, 16);
}

function groupMembership(fd: number, which: SocketOption, ifindex: number, mac: Uint8Array): void {
  membership.i32[0] = ifindex;
  membership.u32[1] = PACKET_MR_MULTICAST | (mac.length << 16);
  membership.u8.set(mac, 8);
  setSockopt(fd, which, membership, 16);
}

/** The interface takes frames to a group address until leaveGroup, or until the socket is closed. */
export function joinGroup(fd: number, ifindex: number, mac: Uint8Array): void {
  groupMembership(fd, PACKET_ADD_MEMBERSHIP, ifindex, mac);
}

export function leaveGroup(fd: number, ifindex: number, mac: Uint8Array): void {
  groupMembership(fd, PACKET_DROP_MEMBERSHIP, ifindex, mac);
}

export interface PacketRing {
  blockSize: number;
  blocks: number;
  frameSize: number;
  /** milliseconds after which a block that is not full is handed over all the same; receive ring only */
  retireMs?: number;
}

// struct tpacket_req3 { block_size, block_nr, frame_size, frame_nr, retire_blk_tov, sizeof_priv, feature_req_word }
const request = new NativeBuffer(32);

function makeRing(fd: number, which: SocketOption, ring: PacketRing): void {
  const { blockSize, blocks, frameSize, retireMs = 0 } = ring;
  request.u32.set([blockSize, blocks, frameSize, Math.floor(blockSize / frameSize) * blocks, retireMs, 0, 0]);
  setSockopt(fd, which, request, 28);
}

/** Turns the socket into one with rings; they are mapped as one, the receive ring first. Frames carry a 10-byte vnet header. */
export function makePacketRings(fd: number, rx: PacketRing, tx: PacketRing): void {
  setIntSockopt(fd, PACKET_VERSION, TPACKET_V3);
  setIntSockopt(fd, PACKET_VNET_HDR, 1);
  // a frame that the kernel refuses is skipped, and does not stop the ring
  setIntSockopt(fd, PACKET_LOSS, 1);
  makeRing(fd, PACKET_RX_RING, rx);
  makeRing(fd, PACKET_TX_RING, tx);
}

/** Frames carry a 10-byte vnet header, both ways. */
export function enableVnetHeader(fd: number): void {
  setIntSockopt(fd, PACKET_VNET_HDR, 1);
}

/** Does not see what this machine sends (Linux 4.20); what it sends goes straight to the driver (Linux 3.14). */
export function bypassHost(fd: number): { ignoresOutgoing: boolean } {
  tryIntSockopt(fd, PACKET_QDISC_BYPASS, 1);
  return { ignoresOutgoing: tryIntSockopt(fd, PACKET_IGNORE_OUTGOING, 1) };
}

const SO_ATTACH_FILTER: SocketOption = { level: 1, option: 26, name: 'SO_ATTACH_FILTER' };
/** Where a filter finds what the kernel knows of a frame (SKF_AD_OFF and SKF_AD_* of linux/filter.h). */
const ANCILLARY = 0xfffff000;
export const FRAME_PROTOCOL = ANCILLARY;
export const FRAME_PACKET_TYPE = ANCILLARY + 4;
export const FRAME_MARK = ANCILLARY + 20;
export const FRAME_HAS_TAG = ANCILLARY + 48;

/** Does not see frames for which the program returns 0; instead of a program that it had. */
export function filterPackets(fd: number, instructions: readonly Instruction[]): void {
  const code = encode(instructions);
  const filter = new NativeBuffer(code.length);
  filter.u8.set(code);
  // struct sock_fprog { u16 len; struct sock_filter *filter; }
  const program = new NativeBuffer(16);
  program.u32[0] = code.length / 8;
  program.setU64(8, filter.addr);
  setSockopt(fd, SO_ATTACH_FILTER, program, 16);
}

/** Does not see frames that carry this mark (SO_MARK). */
export function ignoreMarked(fd: number, mark: number): void {
  filterPackets(fd, [load(FRAME_MARK), ...whenEqual(mark, [ret(0)]), ret(0xffffffff)]);
}

// struct sockaddr_ll { u16 family, protocol (big-endian); int ifindex; u16 hatype; u8 pkttype, halen, addr[8] }
const address = new NativeBuffer(24);

/** Binds to an interface; `receive`: frames of every protocol come from now on. */
export function bindPacket(fd: number, ifindex: number, receive: boolean): void {
  address.u8.fill(0);
  address.u32[0] = AF_PACKET | ((receive ? ETH_P_ALL << 8 : 0) << 16);
  address.i32[1] = ifindex;
  if (bindSocket(fd, address, 20) !== 0) throw sysError('bind', `AF_PACKET interface ${ifindex}`);
}

// struct tpacket_stats_v3 { u32 packets, drops, freeze_q_cnt }
const statistics = new NativeBuffer(16);

/** Frames that found no room in the receive ring since the last call; 0 when the socket does not answer any more. */
export function takePacketDrops(fd: number): number {
  try {
    getSockopt(fd, PACKET_STATISTICS, statistics, 12);
    return statistics.u32[1] as number;
  } catch {
    return 0;
  }
}

/** Sends what is in the transmit ring. Returns bytes or -errno. */
export function sendRing(fd: number): number {
  const n = sendtoC(fd, 0, 0, MSG_DONTWAIT, 0, 0);
  return n < 0 ? -errno() : n;
}

/** Sends one frame behind its vnet header, through a socket without rings. Returns bytes or -errno. */
export function sendPacket(fd: number, addr: number, length: number): number {
  const n = sendtoC(fd, addr, length, MSG_DONTWAIT, 0, 0);
  return n < 0 ? -errno() : n;
}
