/**
 * AF_PACKET on an interface, through mapped rings (TPACKET_V3; packet_mmap.rst). Every frame has a vnet
 * header of the kernel's, so that offloads pass both ways.
 *
 * Receive: the kernel fills blocks with frames and hands over a block at a time: when it is full, or
 * some milliseconds after its first frame. Ownership is in the block's status.
 *
 * Transmit: slots of a fixed size; ownership is in the slot's status. Each slot's header claims that
 * the whole frame is headers, which makes the kernel copy it: where the frame is looped to another
 * interface of this machine (a veth) the slot is ours again before its reader is done. Frames that are
 * too long for a slot go through a second socket, one by one.
 */
import { copyPieces } from '../../memory/copy.js';
import { Iovec, iovecSkip } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import type { Instruction } from '../../sys/bpf-assembler.js';
import { E } from '../../sys/libc.js';
import * as packet from '../../sys/packet-socket.js';
import { pageSize } from '../../sys/process.js';
import { raiseSendBuffer } from '../../sys/sockopt.js';
import { ETH_ADDRS_LEN, MAX_FRAME_LEN, VLAN_TAG_LEN } from '../../wire/ethernet.js';
import { OFFLOAD_ALL, OFFLOAD_UFO } from '../../wire/vnet-header.js';
import { Closer, cutHostOff, HOST_RING_MARK } from './attach.js';
import type { HostPort, RxFrame } from './host-port.js';

/** a block holds the longest frame, a 64 KiB segment with all its headers */
const BLOCK_BYTES = 128 * 1024;
/** receive memory for each slot of the ring: frames that come slowly take a block each */
const RX_BYTES_PER_SLOT = 8192;
const RETIRE_MS = 1;
const TX_SLOT_BYTES = 2048;
const TX_SLOTS_PER_BLOCK = 64;
const VNET_HDR_BYTES = 10;
const TX_FRAME_OFF = packet.TP3_TX_DATA + VNET_HDR_BYTES;
const MAX_SLOT_FRAME = TX_SLOT_BYTES - TX_FRAME_OFF;
/** room for a frame that goes through the second socket */
const SCRATCH_BYTES = VNET_HDR_BYTES + MAX_FRAME_LEN;
/** of frames on their way: more than a full ring of what Linux counts for one */
const SEND_BUFFER_BYTES = 16 * 2 ** 20;
const ETH_P_8021Q = 0x8100;

export interface PacketPortOptions {
  ifindex: number;
  /** slots of the transmit ring; the receive ring has 8 KiB for each */
  slots: number;
  /** called when the host goes on seeing the interface's frames, with the reason */
  onHostNotCut: (error: unknown) => void;
  /** which frames to see copies of: the host keeps the interface, and sees all */
  copies?: readonly Instruction[];
}

export class PacketPort implements HostPort {
  readonly mode = 'packet';
  // UDP fragmentation is what Linux does not do for packet sockets any more
  readonly txOffloads = OFFLOAD_ALL & ~OFFLOAD_UFO;
  readonly hasHeader = true;
  readonly fds: readonly number[];
  readonly txSlots: number;
  txStuck = false;
  readonly #pool: WindowPool;
  readonly #closer = new Closer();
  readonly #fd: number;
  readonly #singleFd: number;
  readonly #map: Mapping;
  readonly #scratch: Mapping;
  readonly #words: Int32Array;
  readonly #blocks: number;
  #closed = false;
  // receive: block in hand, its frames that are left, and the offset of the next in the window
  #block = 0;
  #left = 0;
  #next = 0;
  #truncated = 0;
  // transmit: offset of the first slot in the window, and the next one
  readonly #txOff: number;
  #txAt = 0;
  #txQueued = 0;
  readonly #body = new Iovec(1024);
  readonly #dst = new Iovec(1);

  constructor(pool: WindowPool, { ifindex, slots, onHostNotCut, copies }: PacketPortOptions) {
    this.#pool = pool;
    this.#blocks = Math.max(4, Math.ceil((slots * RX_BYTES_PER_SLOT) / BLOCK_BYTES));
    const txBlocks = Math.ceil(slots / TX_SLOTS_PER_BLOCK);
    const txBlockBytes = TX_SLOTS_PER_BLOCK * TX_SLOT_BYTES;
    this.txSlots = txBlocks * TX_SLOTS_PER_BLOCK;
    const closer = this.#closer;
    try {
      this.#scratch = closer.add(pool.mapAnonymous(SCRATCH_BYTES));
      const fd = closer.add(packet.openPacketSocket()).number;
      const rxBytes = this.#blocks * BLOCK_BYTES;
      packet.makePacketRings(
        fd,
        { blockSize: BLOCK_BYTES, blocks: this.#blocks, frameSize: TX_SLOT_BYTES, retireMs: RETIRE_MS },
        { blockSize: txBlockBytes, blocks: txBlocks, frameSize: TX_SLOT_BYTES },
      );
      const length = rxBytes + txBlocks * txBlockBytes;
      this.#map = closer.add(pool.mapFile({ fd, fileOffset: 0, length, pageSize, subject: 'AF_PACKET rings' }));
      this.#fd = fd;
      this.fds = [fd];
      this.#words = this.#map.window.i32;
      this.#txOff = this.#map.off + rxBytes;
      packet.bypassHost(fd);
      // what the host gets of its rings comes past here as if from the wire
      if (copies === undefined) packet.ignoreMarked(fd, HOST_RING_MARK);
      else packet.filterPackets(fd, copies);
      raiseSendBuffer(fd, SEND_BUFFER_BYTES);
      const single = closer.add(packet.openPacketSocket());
      this.#singleFd = single.number;
      packet.enableVnetHeader(single.number);
      packet.bypassHost(single.number);
      raiseSendBuffer(single.number, SEND_BUFFER_BYTES);
      packet.bindPacket(single.number, ifindex, false);
      if (copies === undefined) {
        try {
          cutHostOff(ifindex, true, closer);
        } catch (error) {
          onHostNotCut(error);
        }
      }
      packet.bindPacket(fd, ifindex, true);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** From now on copies of other frames. */
  setCopies(copies: readonly Instruction[]): void {
    packet.filterPackets(this.#fd, copies);
  }

  fetch(rx: RxFrame): boolean {
    for (;;) {
      if (this.#left === 0 && !this.#takeBlock()) return false;
      const at = this.#next;
      const w = at >>> 2;
      const words = this.#words;
      const snapLen = words[w + packet.TP3_SNAPLEN / 4]!;
      if (snapLen === words[w + packet.TP3_LEN / 4]! && snapLen > 0) {
        this.#describe(rx, at, snapLen);
        return true;
      }
      this.#truncated++;
      this.release();
    }
  }

  #takeBlock(): boolean {
    const at = this.#map.off + this.#block * BLOCK_BYTES;
    const words = this.#words;
    const status = (at + packet.BLOCK_STATUS) >>> 2;
    if ((Atomics.load(words, status) & packet.TP_STATUS_USER) === 0) return false;
    this.#left = words[(at + packet.BLOCK_NUM_PKTS) >>> 2]!;
    this.#next = at + words[(at + packet.BLOCK_FIRST) >>> 2]!;
    // a block is handed over only with frames in it, but for one that was frozen
    if (this.#left === 0) this.#giveBlockBack();
    return this.#left > 0;
  }

  #giveBlockBack(): void {
    const status = (this.#map.off + this.#block * BLOCK_BYTES + packet.BLOCK_STATUS) >>> 2;
    Atomics.store(this.#words, status, packet.TP_STATUS_KERNEL);
    this.#block = this.#block + 1 === this.#blocks ? 0 : this.#block + 1;
  }

  #describe(rx: RxFrame, at: number, len: number): void {
    const { window } = this.#map;
    const { u16, u8 } = window;
    const words = this.#words;
    const w = at >>> 2;
    const frame = at + (words[w + packet.TP3_MAC / 4]! & 0xffff);
    // the header lies before the frame, at an even address
    const h = (frame - VNET_HDR_BYTES) >>> 1;
    let start = u16[h + 3]!;
    const status = words[w + packet.TP3_STATUS / 4]!;
    rx.hdr0 = u16[h]! | (u16[h + 1]! << 16);
    const gsoSize = u16[h + 2]!;
    rx.hdr2 = u16[h + 4]!;
    let first = frame;
    let total = len;
    if ((status & packet.TP_STATUS_VLAN_VALID) !== 0) {
      // the kernel has taken the tag out: put it back, over the header just read
      first = frame - VLAN_TAG_LEN;
      total = len + VLAN_TAG_LEN;
      u8.copyWithin(first, frame, frame + ETH_ADDRS_LEN);
      const tci = words[w + packet.TP3_VLAN_TCI / 4]! & 0xffff;
      const tpid =
        (status & packet.TP_STATUS_VLAN_TPID_VALID) !== 0 ? words[w + packet.TP3_VLAN_TPID / 4]! & 0xffff : ETH_P_8021Q;
      const tag = first + ETH_ADDRS_LEN;
      u8[tag] = tpid >>> 8;
      u8[tag + 1] = tpid & 0xff;
      u8[tag + 2] = tci >>> 8;
      u8[tag + 3] = tci & 0xff;
      if (start !== 0) start += VLAN_TAG_LEN;
      if (rx.hdr0 >>> 16 !== 0) rx.hdr0 += VLAN_TAG_LEN << 16;
    }
    rx.hdr1 = gsoSize | (start << 16);
    rx.pieces.clear();
    rx.pieces.push(window.index, first, total);
  }

  release(): void {
    if (this.#left === 0) return;
    this.#next += this.#words[(this.#next + packet.TP3_NEXT_OFFSET) >>> 2]!;
    if (--this.#left === 0) this.#giveBlockBack();
  }

  releaseAll(): void {}

  txRoom(len: number, wanted: number): number {
    if (len > MAX_SLOT_FRAME) return wanted;
    return this.#slotFree() ? 1 : 0;
  }

  #slotFree(): boolean {
    const status = (this.#txOff + this.#txAt * TX_SLOT_BYTES + packet.TP3_STATUS) >>> 2;
    if (Atomics.load(this.#words, status) === packet.TP_STATUS_AVAILABLE) return true;
    this.flush();
    return Atomics.load(this.#words, status) === packet.TP_STATUS_AVAILABLE;
  }

  send(iov: Iovec, skip: number, hdr0: number, hdr1: number, hdr2: number): number {
    const len = iov.total - skip;
    const body = skip === 0 ? iov : this.#body;
    if (skip > 0) iovecSkip(iov, skip, body);
    if (len > MAX_SLOT_FRAME) return this.#sendSingle(body, len, hdr0, hdr1, hdr2);
    if (!this.#slotFree()) return 0;
    const slot = this.#txOff + this.#txAt * TX_SLOT_BYTES;
    const { window } = this.#map;
    const words = this.#words;
    const w = slot >>> 2;
    words[w + packet.TP3_NEXT_OFFSET / 4] = 0;
    words[w + packet.TP3_LEN / 4] = len + VNET_HDR_BYTES;
    // all of it headers: copied by the kernel, see above
    this.#writeHeader(window.u16, slot + packet.TP3_TX_DATA, (hdr0 & 0xffff) | (len << 16), hdr1, hdr2);
    this.#dst.clear();
    this.#dst.push(window.index, slot + TX_FRAME_OFF, len);
    copyPieces(this.#pool, body.win, body.off, body.len, 0, len, this.#dst, 0);
    Atomics.store(words, w + packet.TP3_STATUS / 4, packet.TP_STATUS_SEND_REQUEST);
    this.#txAt = this.#txAt + 1 === this.txSlots ? 0 : this.#txAt + 1;
    this.#txQueued++;
    return 1;
  }

  #writeHeader(u16: Uint16Array, at: number, hdr0: number, hdr1: number, hdr2: number): void {
    const h = at >>> 1;
    u16[h] = hdr0;
    u16[h + 1] = hdr0 >>> 16;
    u16[h + 2] = hdr1;
    u16[h + 3] = hdr1 >>> 16;
    u16[h + 4] = hdr2;
  }

  #sendSingle(body: Iovec, len: number, hdr0: number, hdr1: number, hdr2: number): number {
    // what was sent before goes before
    this.flush();
    if (this.txStuck) return 0;
    const { window, off, addr } = this.#scratch;
    // hdr_len means nothing unless the frame is to be segmented: the guest's number is not passed on
    this.#writeHeader(window.u16, off, (hdr0 & 0xff00) === 0 ? hdr0 & 0xff : hdr0, hdr1, hdr2);
    this.#dst.clear();
    this.#dst.push(window.index, off + VNET_HDR_BYTES, len);
    copyPieces(this.#pool, body.win, body.off, body.len, 0, len, this.#dst, 0);
    const sent = packet.sendPacket(this.#singleFd, addr, len + VNET_HDR_BYTES);
    if (sent >= 0) return 1;
    return sent === -E.EAGAIN || sent === -E.ENOBUFS ? 0 : sent;
  }

  flush(): number {
    if (this.#txQueued === 0 && !this.txStuck) return 0;
    this.#txQueued = 0;
    this.txStuck = false;
    const sent = packet.sendRing(this.#fd);
    if (sent >= 0) return 0;
    if (sent === -E.EAGAIN || sent === -E.ENOBUFS) {
      this.txStuck = true;
      return 0;
    }
    return sent;
  }

  addKernelDrops(values: Float64Array, ringFull: number, noBuffer: number): void {
    values[ringFull]! += packet.takePacketDrops(this.#fd);
    values[noBuffer]! += this.#truncated;
    this.#truncated = 0;
  }

  status(): Record<string, string | number | boolean> {
    return { queues: 1, slots: this.txSlots, rxBytes: this.#blocks * BLOCK_BYTES };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closer.close();
  }
}
