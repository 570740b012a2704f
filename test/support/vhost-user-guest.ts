/**
 * A guest behind vhost-user, in TypeScript: memory in a memfd, a NIC's two rings, a driver that
 * sends and receives frames, and the handshakes of the front-ends there are.
 */
import assert from 'node:assert/strict';
import { type Mapping, WindowPool } from '../../src/memory/window.js';
import { createEventfd, eventfdRead, eventfdWrite } from '../../src/sys/eventfd.js';
import type { Fd } from '../../src/sys/fd.js';
import { ftruncate, MFD_ALLOW_SEALING, memfdCreate } from '../../src/sys/memfd.js';
import { socketPair } from '../../src/sys/socket.js';
import * as M from '../../src/transports/vhost-user/messages.js';
import { VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF } from '../../src/wire/virtio-features.js';
import {
  configMessage,
  drainSocket,
  memoryTable,
  type Region,
  type Step,
  singleRegion,
  u64,
  VhostUserClient,
  vringAddr,
  vringState,
} from './vhost-user-client.js';
import { ringBytes, VirtqueueDriver } from './virtqueue-driver.js';

export type Style = 'qemu' | 'uml' | 'uml-inband' | 'dpdk' | 'plain';

const USER_BASE = 0x7fff_1000_0000;
const RX = 0;
const TX = 1;
const SLOT = 2048;

export interface GuestOptions {
  style?: Style;
  /** accepted if offered */
  features?: bigint;
  queueSize?: number;
  /** guest-physical address where memory begins, and where the file holds it */
  gpaBase?: number;
  mmapOffset?: number;
  /** memfds of QEMU can be sealed, those of DPDK cannot */
  sealable?: boolean;
}

/** Windows of the guests' own: a guest does not see netbe's. */
const pool = new WindowPool(256 * 2 ** 20);

export class VhostUserGuest {
  client: VhostUserClient;
  readonly memfd: Fd;
  readonly mapping: Mapping;
  readonly region: Region;
  readonly rx: VirtqueueDriver;
  readonly tx: VirtqueueDriver;
  readonly kicks: readonly Fd[];
  readonly calls: readonly Fd[];
  readonly errs: readonly Fd[];
  /** our end of the back-end channel */
  channel: Fd | undefined;
  /** features accepted */
  features = 0n;
  protocolFeatures = 0;
  hdrLen = 12;
  readonly options: Required<GuestOptions>;
  /** where in the window the shared file's guest memory begins */
  readonly #off: number;
  #nextTx = 0;
  #closed = false;

  constructor(client: VhostUserClient, options: GuestOptions = {}) {
    this.client = client;
    this.options = {
      style: 'qemu',
      features: VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF,
      queueSize: 64,
      gpaBase: 0,
      mmapOffset: 0,
      sealable: true,
      ...options,
    };
    const { queueSize, gpaBase, mmapOffset, sealable } = this.options;
    const rings = Math.ceil(ringBytes(queueSize) / 4096) * 4096;
    const size = 4096 + 2 * rings + 2 * queueSize * SLOT;
    this.region = { gpa: gpaBase, size, userAddr: USER_BASE + gpaBase, mmapOffset };
    this.memfd = memfdCreate('guest', sealable ? MFD_ALLOW_SEALING : 0);
    ftruncate(this.memfd.number, mmapOffset + size);
    this.mapping = pool.mapFile({
      fd: this.memfd.number,
      fileOffset: mmapOffset,
      length: size,
      pageSize: 4096,
      subject: 'guest',
    });
    this.#off = this.mapping.off;
    // the driver adds guest-physical addresses to `base`
    const base = this.#off - gpaBase;
    const { window } = this.mapping;
    this.rx = new VirtqueueDriver(window, base, { size: queueSize, gpa: gpaBase + 4096 });
    this.tx = new VirtqueueDriver(window, base, { size: queueSize, gpa: gpaBase + 4096 + rings });
    this.kicks = [createEventfd(), createEventfd()];
    this.calls = [createEventfd(), createEventfd()];
    this.errs = [createEventfd(), createEventfd()];
  }

  static connect(path: string, step: Step, options?: GuestOptions): VhostUserGuest {
    const guest = new VhostUserGuest(VhostUserClient.connect(path, step), options);
    guest.handshake();
    return guest;
  }

  get inband(): boolean {
    return (this.protocolFeatures & (1 << M.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS)) !== 0;
  }

  driver(queue: number): VirtqueueDriver {
    return queue === RX ? this.rx : this.tx;
  }

  /** Everything up to and including the driver's start, with receive buffers posted. */
  handshake(): void {
    this.negotiate();
    this.start();
  }

  /** The back-end came back: the front-end tells it everything again, the driver notices nothing. */
  reconnect(client: VhostUserClient, beforeStart: () => void = () => {}, base = this.#usedIndices()): void {
    this.client.close();
    this.channel?.close();
    this.client = client;
    this.negotiate();
    beforeStart();
    this.start(base);
  }

  /** Where QEMU goes on when nobody answers GET_VRING_BASE any more. */
  #usedIndices(): readonly [number, number] {
    return [this.rx.read16(this.rx.used + 2), this.tx.read16(this.tx.used + 2)];
  }

  /** What the front-end does before there is a driver. */
  negotiate(): void {
    const { client } = this;
    const { style } = this.options;
    const offered = client.askU64(M.VHOST_USER_GET_FEATURES);
    this.features = this.options.features & offered;
    if (style !== 'plain') {
      this.features |= M.VHOST_USER_F_PROTOCOL_FEATURES;
      const protocol = Number(client.askU64(M.VHOST_USER_GET_PROTOCOL_FEATURES));
      this.protocolFeatures = protocol & wantedProtocolFeatures(style);
      client.send(M.VHOST_USER_SET_PROTOCOL_FEATURES, u64(this.protocolFeatures));
    }
    if (style === 'qemu') assert.ok(client.askU64(M.VHOST_USER_GET_MAX_MEM_SLOTS) > 0n);
    if (style === 'qemu' || style.startsWith('uml')) this.#offerChannel();
    client.send(M.VHOST_USER_SET_OWNER);
    if (style === 'qemu') this.#qemuBeforeDriver();
    if (style.startsWith('uml'))
      for (let size = 1; size <= 12; size++) client.ask(M.VHOST_USER_GET_CONFIG, configMessage(0, size));
  }

  /** What happens when the driver starts: memory, rings, receive buffers. */
  start(base: readonly [number, number] = [0, 0]): void {
    const { client } = this;
    const { style } = this.options;
    this.#send(M.VHOST_USER_SET_FEATURES, u64(this.features));
    this.hdrLen = (this.features & (VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF)) !== 0n ? 12 : 10;
    if (style === 'qemu' || style === 'dpdk') {
      client.askU64(M.VHOST_USER_GET_STATUS);
      this.#send(M.VHOST_USER_SET_STATUS, u64(7));
    }
    this.shareMemory();
    this.postAll();
    for (const queue of [RX, TX]) this.startRing(queue, base[queue as 0 | 1]);
    if (style !== 'plain' && style !== 'qemu') for (const queue of [RX, TX]) this.enable(queue, true);
    if (style === 'uml-inband') for (const queue of [RX, TX]) this.kick(queue);
    client.sync();
  }

  shareMemory(): void {
    const { style } = this.options;
    if (style === 'qemu') this.#send(M.VHOST_USER_ADD_MEM_REG, singleRegion(this.region), [this.memfd]);
    else {
      const table = memoryTable([this.region], style.startsWith('uml') ? 2 : 1);
      this.#send(M.VHOST_USER_SET_MEM_TABLE, table, [this.memfd]);
    }
  }

  startRing(queue: number, base = 0): void {
    const { style } = this.options;
    if (style !== 'uml-inband' && style !== 'qemu')
      this.#send(M.VHOST_USER_SET_VRING_CALL, u64(queue), [this.calls[queue]!]);
    this.#send(M.VHOST_USER_SET_VRING_NUM, vringState(queue, this.options.queueSize));
    this.#send(M.VHOST_USER_SET_VRING_BASE, vringState(queue, base));
    this.#send(M.VHOST_USER_SET_VRING_ADDR, this.addresses(queue));
    if (style === 'uml-inband') return;
    this.#send(M.VHOST_USER_SET_VRING_KICK, u64(queue), [this.kicks[queue]!]);
    if (style !== 'qemu') return;
    eventfdWrite(this.kicks[queue]!.number);
    this.#send(M.VHOST_USER_SET_VRING_CALL, u64(queue), [this.calls[queue]!]);
  }

  addresses(queue: number): Uint8Array {
    const { desc, used, avail } = this.driver(queue);
    const user = Number(this.region.userAddr) - Number(this.region.gpa);
    return vringAddr(queue, { desc: user + desc, used: user + used, avail: user + avail });
  }

  enable(queue: number, on: boolean): void {
    this.#send(M.VHOST_USER_SET_VRING_ENABLE, vringState(queue, on ? 1 : 0));
  }

  stopRing(queue: number): number {
    return this.client.ask(M.VHOST_USER_GET_VRING_BASE, vringState(queue, 0)).u32(4);
  }

  kick(queue: number): void {
    if (this.inband && this.options.style === 'uml-inband')
      this.client.acked(M.VHOST_USER_VRING_KICK, vringState(queue, 0));
    else eventfdWrite(this.kicks[queue]!.number);
  }

  /** Interrupts since the last look, by eventfd or in-band. */
  interrupts(queue: number): number {
    if (this.options.style !== 'uml-inband') return eventfdRead(this.calls[queue]!.number);
    const bytes = drainSocket(this.channel!);
    let calls = 0;
    for (let at = 0; at + 20 <= bytes.length; at += 20)
      if (bytes[at] === M.VHOST_USER_BACKEND_VRING_CALL && bytes[at + 12] === queue) calls++;
    return calls;
  }

  bytes(gpa: number, length: number): Uint8Array {
    const at = this.#off + gpa - this.options.gpaBase;
    return this.mapping.window.u8.subarray(at, at + length);
  }

  rxGpa(slot: number): number {
    return Number(this.region.gpa) + Number(this.region.size) - (slot + 1) * SLOT;
  }

  txGpa(slot: number): number {
    return this.rxGpa(this.options.queueSize + slot);
  }

  readonly #slotOfHead = new Map<number, number>();

  #post(slot: number): void {
    this.#slotOfHead.set(this.rx.add([{ gpa: this.rxGpa(slot), len: SLOT, writable: true }]), slot);
  }

  /** All receive buffers that are free. */
  postAll(): void {
    const taken = new Set(this.#slotOfHead.values());
    for (let slot = 0; slot < this.options.queueSize; slot++) if (!taken.has(slot)) this.#post(slot);
    this.rx.publish();
  }

  /** Queues, publishes and kicks if the device wants that. */
  transmit(...frames: Uint8Array[]): void {
    while (this.tx.reclaim());
    for (const frame of frames) {
      const gpa = this.txGpa(this.#nextTx++ % this.options.queueSize);
      const buffer = this.bytes(gpa, this.hdrLen + frame.length);
      buffer.fill(0, 0, this.hdrLen);
      buffer.set(frame, this.hdrLen);
      this.tx.add([{ gpa, len: buffer.length }]);
    }
    if (this.tx.publish()) this.kick(TX);
  }

  /** The frames that have come, in one buffer each; the buffers are posted again. */
  receive(): Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (let used = this.rx.reclaim(); used; used = this.rx.reclaim()) {
      const slot = this.#slotOfHead.get(used.head)!;
      this.#slotOfHead.delete(used.head);
      frames.push(this.bytes(this.rxGpa(slot), used.len).slice(this.hdrLen));
      this.#post(slot);
    }
    if (this.rx.publish()) this.kick(RX);
    return frames;
  }

  /** Ends as a killed hypervisor does: everything at once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.client.close();
    this.channel?.close();
    for (const fd of [...this.kicks, ...this.calls, ...this.errs, this.memfd]) fd.close();
    this.mapping.close();
  }

  /** With an acknowledgement wherever the style's front-end asks for one. */
  #send(request: number, payload: Uint8Array, fds: readonly Fd[] = []): void {
    const acks = (this.protocolFeatures & (1 << M.VHOST_USER_PROTOCOL_F_REPLY_ACK)) !== 0;
    if (!acks) this.client.send(request, payload, { fds });
    else assert.ok(this.client.acked(request, payload, fds), `${M.requestName(request)} is accepted`);
  }

  #offerChannel(): void {
    const [ours, theirs] = socketPair();
    this.channel = ours;
    this.#send(M.VHOST_USER_SET_BACKEND_REQ_FD, new Uint8Array(0), [theirs]);
    theirs.close();
  }

  #qemuBeforeDriver(): void {
    this.client.askU64(M.VHOST_USER_GET_FEATURES);
    for (const queue of [RX, TX]) {
      this.#send(M.VHOST_USER_SET_VRING_CALL, u64(queue), [this.calls[queue]!]);
      this.#send(M.VHOST_USER_SET_VRING_ERR, u64(queue), [this.errs[queue]!]);
    }
    for (const queue of [RX, TX]) this.enable(queue, true);
  }
}

function wantedProtocolFeatures(style: Style): number {
  const bits = (...list: number[]) => list.reduce((all, bit) => all | (1 << bit), 0);
  const { VHOST_USER_PROTOCOL_F_BACKEND_REQ, VHOST_USER_PROTOCOL_F_CONFIG, VHOST_USER_PROTOCOL_F_REPLY_ACK } = M;
  switch (style) {
    case 'qemu':
      return 0x1ffff & ~bits(VHOST_USER_PROTOCOL_F_CONFIG);
    case 'uml':
      return bits(VHOST_USER_PROTOCOL_F_REPLY_ACK, VHOST_USER_PROTOCOL_F_BACKEND_REQ, VHOST_USER_PROTOCOL_F_CONFIG);
    case 'uml-inband':
      return bits(
        VHOST_USER_PROTOCOL_F_REPLY_ACK,
        VHOST_USER_PROTOCOL_F_BACKEND_REQ,
        VHOST_USER_PROTOCOL_F_CONFIG,
        M.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
      );
    case 'dpdk':
      return bits(VHOST_USER_PROTOCOL_F_REPLY_ACK, M.VHOST_USER_PROTOCOL_F_STATUS);
    case 'plain':
      return 0;
  }
}
