/**
 * A guest in a few lines: memory in a memfd, a NIC's two virtqueues in it, and a driver that sends
 * and receives frames. It drives a VirtioNet directly, without a transport. Its memory is shared, or some of it is not.
 */
import { RX_QUEUE, TX_QUEUE, VirtioNet } from '../../src/frontends/virtio-net/device.js';
import type { GuestMemory } from '../../src/memory/guest-memory.js';
import type { Window } from '../../src/memory/window.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF } from '../../src/wire/virtio-features.js';
import type { TestRuntime } from './runtime.js';
import type { TestDmaChannel } from './test-dma-channel.js';
import { TestMemory, type TestMemoryOptions } from './test-memory.js';
import { ringBytes, VirtqueueDriver } from './virtqueue-driver.js';

/** user address of guest-physical 0, as a hypervisor would have it */
export const USER_BASE = 0x7f0000000000;

export interface TestGuestOptions extends Pick<TestMemoryOptions, 'unshared' | 'refuses'> {
  backend: string;
  name?: string;
  features?: bigint;
  queueSize?: number;
  /** bytes of each receive buffer */
  rxBufLen?: number;
  /** receive buffers posted at the start; as many as fit by default */
  rxBuffers?: number;
  mac?: Uint8Array;
  mtu?: number;
  /** bytes of each transmit buffer */
  txBufLen?: number;
}

export class TestGuest {
  readonly device: VirtioNet;
  readonly rx: VirtqueueDriver;
  readonly tx: VirtqueueDriver;
  readonly hdrLen: number;
  readonly ram: TestMemory;
  readonly memory: GuestMemory;
  readonly window: Window;
  /** offset of guest-physical 0 in the window */
  readonly base: number;
  readonly rxBufLen: number;
  readonly #txBufLen: number;
  interrupts = [0, 0];
  readonly #rxBufGpa: number;
  readonly #txBufGpa: number;
  readonly #queueSize: number;
  readonly #rxGpaOfHead = new Map<number, number>();
  #nextTxSlot = 0;

  constructor(runtime: TestRuntime, options: TestGuestOptions) {
    const { backend, name = 'nic', features = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF, queueSize = 64 } = options;
    const { rxBufLen = 2048, rxBuffers = queueSize, mac = Uint8Array.of(2, 0, 0, 0, 0, 1), mtu } = options;
    this.#txBufLen = options.txBufLen ?? 66 * 1024;
    this.rxBufLen = rxBufLen;
    this.#queueSize = queueSize;
    this.device = new VirtioNet({
      runtime,
      name,
      mac,
      mtu,
      openBackend: (onReceive) => openBackend(runtime, backend, onReceive, name),
    });
    const rings = Math.ceil(ringBytes(queueSize) / 4096) * 4096;
    this.#rxBufGpa = 4096 + 2 * rings;
    this.#txBufGpa = this.#rxBufGpa + queueSize * rxBufLen;
    const size = Math.ceil((this.#txBufGpa + queueSize * this.#txBufLen) / 4096) * 4096;
    this.ram = new TestMemory(runtime.windows, size, { ...options, userBase: USER_BASE });
    this.memory = this.ram.memory;
    this.window = this.ram.window;
    this.base = this.ram.base;
    const eventIdx = (features & VIRTIO_F_EVENT_IDX) !== 0n;
    this.rx = new VirtqueueDriver(this.window, this.base, { size: queueSize, gpa: 4096, eventIdx });
    this.tx = new VirtqueueDriver(this.window, this.base, { size: queueSize, gpa: 4096 + rings, eventIdx });

    this.device.setDriverFeatures(features);
    this.hdrLen = this.device.status().vnetHdrLen;
    this.device.setMemory(this.memory);
    for (let i = 0; i < rxBuffers; i++) this.postRx(this.#rxBufGpa + i * rxBufLen);
    this.rx.publish();
    this.#start(RX_QUEUE, this.rx);
    this.#start(TX_QUEUE, this.tx);
  }

  #start(index: number, driver: VirtqueueDriver): void {
    const { device } = this;
    device.setQueueSize(index, this.#queueSize);
    device.setQueueAddresses(index, {
      descUser: USER_BASE + driver.desc,
      availUser: USER_BASE + driver.avail,
      usedUser: USER_BASE + driver.used,
    });
    device.setQueueBase(index, 0);
    device.setNotifier(index, () => {
      this.interrupts[index]!++;
    });
    device.startQueue(index);
    device.enableQueue(index, true);
  }

  postRx(gpa: number): void {
    this.#rxGpaOfHead.set(this.rx.add([{ gpa, len: this.rxBufLen, writable: true }]), gpa);
  }

  /** guest-physical address of the next transmit buffer, in turn */
  txSlot(): number {
    const gpa = this.#txBufGpa + (this.#nextTxSlot++ % this.#queueSize) * this.#txBufLen;
    return gpa;
  }

  bytes(gpa: number, len: number): Uint8Array {
    return this.ram.bytes(gpa, len);
  }

  /** Queues a frame in one buffer behind a header (zeros by default). Not published. */
  queueFrame(frame: Uint8Array, header: Uint8Array = new Uint8Array(this.hdrLen)): void {
    const gpa = this.txSlot();
    const to = this.bytes(gpa, this.hdrLen + frame.length);
    to.set(header, 0);
    to.set(frame, this.hdrLen);
    this.tx.add([{ gpa, len: to.length }]);
  }

  /** Sends frames and lets the device serve them. Returns how many chains came back. */
  send(...frames: Uint8Array[]): number {
    for (const frame of frames) this.queueFrame(frame);
    this.tx.publish();
    if (this.ram.channel !== undefined) this.device.kick(TX_QUEUE);
    this.device.poll();
    this.settle();
    return this.reclaimTx();
  }

  /** Reaches memory that is not shared. */
  get channel(): TestDmaChannel {
    return this.ram.channel!;
  }

  /** Until all has been done that was asked of memory that is not shared, and what came of it. */
  settle(): void {
    while ((this.ram.channel?.deliverAll() ?? 0) > 0) this.device.poll();
  }

  reclaimTx(): number {
    let n = 0;
    while (this.tx.reclaim() !== undefined) n++;
    return n;
  }

  /** Takes received frames (header and body), and posts their buffers again. */
  receive(repost = true): { header: Uint8Array; frame: Uint8Array }[] {
    this.settle();
    const out: { header: Uint8Array; frame: Uint8Array }[] = [];
    for (;;) {
      const first = this.#takeChain(repost);
      if (first === undefined) break;
      const count = this.hdrLen === 12 ? first[10]! | (first[11]! << 8) : 1;
      const parts = [first];
      while (parts.length < count) parts.push(this.#takeChain(repost)!);
      const all = Buffer.concat(parts);
      out.push({ header: all.subarray(0, this.hdrLen), frame: all.subarray(this.hdrLen) });
    }
    if (repost) this.rx.publish();
    return out;
  }

  #takeChain(repost: boolean): Uint8Array | undefined {
    const used = this.rx.reclaim();
    if (used === undefined) return undefined;
    const gpa = this.#rxGpaOfHead.get(used.head)!;
    const bytes = Uint8Array.from(this.bytes(gpa, used.len));
    if (repost) this.postRx(gpa);
    return bytes;
  }

  close(): void {
    this.device.close();
    this.ram.close();
  }
}

/** An Ethernet frame with the given addresses (last byte of 02:00:00:00:00:xx) and length. */
export function etherFrame(dst: number, src: number, length = 60, fill = 0): Uint8Array {
  const frame = new Uint8Array(length).fill(fill);
  frame.set([2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 0x88, 0xb5]);
  if (dst === 0xff) frame.fill(0xff, 0, 6);
  return frame;
}
