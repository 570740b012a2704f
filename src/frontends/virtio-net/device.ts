/**
 * The virtio network device (VirtIO 1.2 §5.1): one receive and one transmit virtqueue, plugged into
 * a network backend. It knows no sockets: a transport drives it through VirtioDevice.
 *
 * transmitter.ts and receiver.ts are the data path; here is what a transport and the fabric control.
 */
import type { CounterSet } from '../../engine/counters.js';
import type { Pollable } from '../../engine/poll-loop.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { BackendStatus, NetBackend, ReceiveCallback, VnetHdrLen } from '../../net-backends/net-backend.js';
import { formatMac } from '../../wire/ethernet.js';
import * as F from '../../wire/virtio-features.js';
import type { NicFrontend, NicStatus } from '../nic-frontend.js';
import type { VirtioDevice, VirtqueueAddresses } from '../virtio-device.js';
import { C, counterNames, FIRST_FAULT } from './counters.js';
import { announcement, checkMac, checkMtu } from './mac.js';
import { Queue } from './queue.js';
import { Receiver } from './receiver.js';
import { Transmitter } from './transmitter.js';
import { FAULT_DMA, VIRTQ_DESC_F_WRITE, virtqueueFaults } from './virtqueue.js';

/** §5.1.2: with one pair of queues */
export const RX_QUEUE = 0;
export const TX_QUEUE = 1;
/** §2.7: largest size of a split virtqueue */
const MAX_QUEUE_SIZE = 32768;

/** §5.1.4: mac, status, max_virtqueue_pairs, mtu */
const CONFIG_LENGTH = 12;
const VIRTIO_NET_S_LINK_UP = 1;

/** Offered whatever the backend can do. */
const OWN_FEATURES =
  F.VIRTIO_NET_F_MAC |
  F.VIRTIO_NET_F_STATUS |
  F.VIRTIO_NET_F_MRG_RXBUF |
  F.VIRTIO_F_NOTIFY_ON_EMPTY |
  F.VIRTIO_F_ANY_LAYOUT |
  F.VIRTIO_F_INDIRECT_DESC |
  F.VIRTIO_F_EVENT_IDX |
  F.VIRTIO_F_VERSION_1;

export interface VirtioNetOptions {
  runtime: Runtime;
  /** name of the NIC: its counters' subject */
  name: string;
  /** 6 bytes */
  mac: Uint8Array;
  /** told to the driver (VIRTIO_NET_F_MTU) when given */
  mtu?: number;
  openBackend: (onReceive: ReceiveCallback) => NetBackend;
  /** called once when a queue is found broken: the transport signals its error descriptor */
  onBroken?: (queue: number, fault: string) => void;
}

export class VirtioNet implements VirtioDevice, NicFrontend, Pollable {
  readonly deviceId = 1;
  readonly queueCount = 2;
  readonly maxQueueSize = MAX_QUEUE_SIZE;
  readonly configLength = CONFIG_LENGTH;
  readonly name: string;
  readonly counters: CounterSet;
  onBroken: ((queue: number, fault: string) => void) | undefined;

  readonly #runtime: Runtime;
  readonly #mac: Uint8Array;
  #mtu: number | undefined;
  readonly #queues: readonly [Queue, Queue];
  readonly #receiver: Receiver;
  readonly #transmitter: Transmitter;
  /** what the NIC is plugged into, without wrappers */
  readonly #backend: NetBackend;
  #memory: GuestMemory | undefined;
  #features = 0n;
  #linkUp = true;
  #configNotify: (() => void) | null = null;
  #closed = false;

  constructor(options: VirtioNetOptions) {
    const { runtime, name, mac, mtu } = options;
    checkMac(mac);
    if (mtu !== undefined) checkMtu(mtu);
    this.#runtime = runtime;
    this.name = name;
    this.onBroken = options.onBroken;
    this.#mac = Uint8Array.from(mac);
    this.#mtu = mtu;
    this.#queues = [this.#newQueue(RX_QUEUE, VIRTQ_DESC_F_WRITE), this.#newQueue(TX_QUEUE, 0)];
    this.counters = runtime.counters.create(name, counterNames);
    try {
      this.#backend = options.openBackend(() => this.#receive());
    } catch (error) {
      runtime.counters.release(name);
      throw error;
    }
    const { values } = this.counters;
    this.#receiver = new Receiver(this.#queues[RX_QUEUE].vq, values, runtime.windows, this.#backend);
    this.#transmitter = new Transmitter(this.#queues[TX_QUEUE].vq, values, runtime.windows, this.#backend);
    this.#agree();
    runtime.loop.add(this);
    this.#backend.recvEnable();
  }

  // ---- control: what the transport calls ----

  get deviceFeatures(): bigint {
    const mtu = this.#mtu === undefined ? 0n : F.VIRTIO_NET_F_MTU;
    return OWN_FEATURES | this.#backend.getCap() | mtu;
  }

  readConfig(offset: number, out: Uint8Array): void {
    const config = new Uint8Array(CONFIG_LENGTH);
    const view = new DataView(config.buffer);
    config.set(this.#mac, 0);
    view.setUint16(6, this.#linkUp ? VIRTIO_NET_S_LINK_UP : 0, true);
    view.setUint16(8, 1, true);
    view.setUint16(10, this.#mtu ?? 0, true);
    out.fill(0);
    if (offset < CONFIG_LENGTH) out.set(config.subarray(offset, offset + out.length));
  }

  writeConfig(offset: number, data: Uint8Array): boolean {
    // §5.1.4: every field is read-only to the driver; a legacy driver may write its MAC, which we know
    return offset >= 0 && offset + data.length <= CONFIG_LENGTH;
  }

  setDriverFeatures(features: bigint): void {
    const unknown = features & ~this.deviceFeatures;
    if (unknown !== 0n)
      throw new NetbeError(
        `${this.name}: the driver wants features not offered: ${F.featureNames(unknown).join(' ')}`,
        {
          code: 'EINVAL',
          subject: this.name,
        },
      );
    this.#features = features;
    this.#agree();
  }

  setMemory(memory: GuestMemory): void {
    this.#memory = memory;
  }

  setQueueSize(index: number, size: number): void {
    this.#queue(index).size = size;
  }

  setQueueAddresses(index: number, addresses: VirtqueueAddresses): void {
    this.#queue(index).addresses = addresses;
  }

  setQueueBase(index: number, availIdx: number): void {
    this.#queue(index).vq.setBase(availIdx);
  }

  startQueue(index: number): void {
    const queue = this.#queue(index);
    const wrong = this.#memory === undefined ? 'no guest memory was given' : queue.start(this.#memory);
    if (wrong !== undefined) throw this.#cannotStart(index, wrong);
    this.#updateReadiness();
    this.#runtime.loop.activate(this);
  }

  stopQueue(index: number): number {
    const queue = this.#queue(index);
    queue.stop();
    this.#updateReadiness();
    return queue.vq.availIdx;
  }

  relocateQueue(index: number): void {
    const wrong = this.#queue(index).memoryChanged(this.#memory!);
    this.#updateReadiness();
    if (wrong !== undefined) throw this.#cannotStart(index, wrong);
    this.#runtime.loop.activate(this);
  }

  #cannotStart(index: number, why: string): NetbeError {
    return new NetbeError(`${this.name}: queue ${index} cannot start: ${why}`, { code: 'EINVAL', subject: this.name });
  }

  get transfersOutstanding(): boolean {
    const remote = this.#memory?.remote;
    return this.#queues.some((q) => q.remote.outstanding(remote));
  }

  enableQueue(index: number, enabled: boolean): void {
    this.#queue(index).enabled = enabled;
    this.#updateReadiness();
    if (enabled) this.#runtime.loop.activate(this);
  }

  setNotifier(index: number, notify: (() => void) | null): void {
    this.#queue(index).notify = notify;
  }

  setConfigNotifier(notify: (() => void) | null): void {
    this.#configNotify = notify;
  }

  kick(index: number): void {
    const { remote } = this.#queue(index);
    if (remote.running) {
      remote.kick();
      return;
    }
    if (index === RX_QUEUE) this.#receiver.resume();
    this.#runtime.loop.activate(this);
  }

  setMtu(mtu: number): void {
    checkMtu(mtu);
    this.#mtu = mtu;
  }

  announce(mac: Uint8Array): void {
    const backend = this.#transmitter.backend;
    const { iov, mapping } = announcement(this.#runtime.windows, mac, backend.vnetHdrLen);
    backend.send(iov);
    backend.flush();
    mapping.close();
  }

  reset(): void {
    for (const q of this.#queues) {
      q.stop();
      q.vq.setBase(0);
      q.size = 0;
      q.addresses = undefined;
      q.enabled = false;
      q.notify = null;
    }
    this.#memory = undefined;
    this.#configNotify = null;
    this.#features = 0n;
    this.#agree();
    this.#updateReadiness();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.reset();
    this.#runtime.loop.remove(this);
    this.#backend.recvDisable();
    this.#backend.close();
    this.#receiver.close();
    this.#transmitter.close();
    for (const { remote } of this.#queues) remote.close();
    this.#runtime.counters.release(this.name);
  }

  // ---- control: what the fabric calls ----

  /** Takes the link up or down; the driver is told (VIRTIO_NET_F_STATUS). Frames are dropped while it is down. */
  setLink(up: boolean): void {
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    this.#updateReadiness();
    this.#configNotify?.();
    this.#runtime.loop.activate(this);
  }

  /** Puts a wrapper around the backend (capture), or takes it away: `wrap` gets the backend itself. */
  wrapBackend(wrap: (inner: NetBackend) => NetBackend): void {
    const backend = wrap(this.#backend);
    this.#receiver.backend = backend;
    this.#transmitter.backend = backend;
  }

  /** What the backend says of its other end; empty where it says nothing. */
  backendStatus(): BackendStatus {
    return this.#backend.status?.() ?? {};
  }

  status(): NicStatus {
    return {
      mac: formatMac(this.#mac),
      mtu: this.#mtu,
      link: this.#linkUp ? 'up' : 'down',
      features: F.featureNames(this.#features),
      vnetHdrLen: this.#receiver.hdrLen as VnetHdrLen,
      starved: this.#receiver.starved,
      queues: this.#queues.map(({ vq, size, enabled }) => ({
        size,
        started: vq.started,
        enabled,
        broken: vq.broken,
        availIdx: vq.availIdx,
      })),
    };
  }

  #newQueue(index: 0 | 1, direction: number): Queue {
    const { windows, loop } = this.#runtime;
    return new Queue(windows, direction, {
      available: () => loop.activate(this),
      interrupt: () => this.#notify(index),
      broken: () => this.#reportBroken(index),
    });
  }

  #queue(index: number): Queue {
    const q = this.#queues[index];
    if (!q)
      throw new NetbeError(`${this.name}: queue ${index} does not exist: there are ${this.queueCount}`, {
        code: 'EINVAL',
        subject: this.name,
      });
    return q;
  }

  /** Settles header length and offloads with the backend, after the driver's features changed. */
  #agree(): void {
    const has = (bit: bigint): boolean => (this.#features & bit) !== 0n;
    const receiver = this.#receiver;
    const transmitter = this.#transmitter;
    receiver.mergeable = has(F.VIRTIO_NET_F_MRG_RXBUF);
    // §5.1.6.1: num_buffers is there with VERSION_1, before it only with MRG_RXBUF
    const hdrLen = receiver.mergeable || has(F.VIRTIO_F_VERSION_1) ? 12 : 10;
    this.#backend.setCap(this.#features, hdrLen);
    const convert = hdrLen - this.#backend.vnetHdrLen;
    receiver.hdrLen = hdrLen;
    receiver.convert = convert;
    transmitter.hdrLen = hdrLen;
    transmitter.convert = convert;
    for (const { vq } of this.#queues) {
      vq.eventIdx = has(F.VIRTIO_F_EVENT_IDX);
      vq.indirect = has(F.VIRTIO_F_INDIRECT_DESC);
    }
  }

  /** Queues, their enabling or the link changed: says what the data path does with frames from now on. */
  #updateReadiness(): void {
    const [rx, tx] = this.#queues;
    this.#receiver.mute = !this.#linkUp ? C.rx_drop_link_down : rx.vq.started && rx.enabled ? 0 : C.rx_drop_not_ready;
    this.#transmitter.mute = !this.#linkUp ? C.tx_drop_link_down : tx.enabled ? 0 : C.tx_drop_disabled;
    // what waits for buffers of a ring that is gone is dropped
    this.#receiver.resume();
  }

  // ---- data path ----

  /** The backend's callback: frames wait. */
  #receive(): void {
    const { vq } = this.#receiver;
    this.#receiver.receive();
    if (vq.publish()) this.#interrupt(RX_QUEUE);
    if (vq.broken) this.#reportBroken(RX_QUEUE);
  }

  /** Serves one burst of the transmit queue, and lets receive go on if buffers came. */
  poll(): number {
    if (this.#receiver.starved && this.#receiver.refilled) this.#receiver.resume();
    const { vq } = this.#transmitter;
    if (!vq.hasAvail()) {
      if (vq.broken) this.#reportBroken(TX_QUEUE);
      return 0;
    }
    const taken = this.#transmitter.serve();
    if (vq.publish()) this.#interrupt(TX_QUEUE);
    if (vq.broken) this.#reportBroken(TX_QUEUE);
    return taken;
  }

  arm(): boolean {
    // of the receive queue only a refill matters, and whoever ran dry has asked for that kick
    const { vq } = this.#transmitter;
    return vq.started && (vq.enableKicks() || vq.hasAvail());
  }

  disarm(): void {
    this.#transmitter.vq.suppressKicks();
    if (!this.#receiver.starved) this.#receiver.vq.suppressKicks();
  }

  /** Used chains were published, and the driver wants an interrupt; of a ring that is not shared it has yet to get them. */
  #interrupt(index: 0 | 1): void {
    const { remote } = this.#queues[index];
    if (remote.running) remote.published();
    else this.#notify(index);
  }

  #notify(index: 0 | 1): void {
    const { notify } = this.#queues[index];
    if (notify === null) return;
    this.counters.values[C.interrupts]!++;
    notify();
  }

  /** The driver broke a ring, or it cannot be reached: it is not touched again until it is set up anew. */
  #reportBroken(index: 0 | 1): void {
    const queue = this.#queues[index];
    const { vq } = queue;
    // once: it stays broken until it is started again
    if (!vq.started) return;
    const fault = virtqueueFaults[vq.fault]!;
    this.counters.values[FIRST_FAULT + vq.fault]!++;
    queue.stop();
    this.#updateReadiness();
    const who = vq.fault === FAULT_DMA ? 'the hypervisor refused to transfer what is in' : 'the driver broke';
    this.#runtime.log.warn({ nic: this.name, queue: index, fault }, `${who} its ring: not served until reset`);
    this.onBroken?.(index, fault);
  }
}
