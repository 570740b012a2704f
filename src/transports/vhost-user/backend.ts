/**
 * The back-end's state for one connection, and what each request does to it. No socket here: the
 * session reads messages and sends what these methods return.
 *
 * Requests may come at any time and in any order; QEMU enables rings long before SET_FEATURES. What
 * is told about a ring is kept until it starts (see Vring).
 */
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { VirtioDevice } from '../../frontends/virtio-device.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { Fd } from '../../sys/fd.js';
import { protocolError } from '../frame-reader.js';
import { checkFile, UNSEALED_NOTE } from '../memory-file.js';
import { BackendChannel } from './backend-channel.js';
import { createInflight, Inflight, type InflightDescription } from './inflight.js';
import { MemoryTable, type RegionAddresses } from './memory-table.js';
import {
  offeredProtocolFeatures,
  protocolFeatureNames,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  VHOST_USER_PROTOCOL_F_CONFIG,
  VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
  VHOST_USER_PROTOCOL_F_REPLY_ACK,
} from './messages.js';
import { Vring, type VringOwner } from './vring.js';

export interface BackendOptions {
  runtime: Runtime;
  device: VirtioDevice;
  /** refuse guest memory that its owner could take away, and descriptors that it could make us wait for */
  strictMemory: boolean;
  /** offer INBAND_NOTIFICATIONS */
  inbandNotifications: boolean;
  /** something went wrong that no request can be blamed for */
  warn: (message: string) => void;
  /** nothing went wrong, but somebody should know */
  note: (message: string) => void;
}

export class Backend implements VringOwner {
  readonly runtime: Runtime;
  readonly device: VirtioDevice;
  readonly rings: readonly Vring[];
  /** protocol features offered */
  readonly offered: number;
  readonly table: MemoryTable;
  readonly strict: boolean;
  readonly warn: (message: string) => void;
  #features = 0n;
  #protocolFeatures = 0;
  #status = 0;
  #inflight: Inflight | undefined;
  #channel: BackendChannel | undefined;

  constructor(options: BackendOptions) {
    const { runtime, device, strictMemory, inbandNotifications, warn, note } = options;
    this.runtime = runtime;
    this.device = device;
    this.warn = warn;
    this.strict = strictMemory;
    this.offered =
      offeredProtocolFeatures | (inbandNotifications ? 1 << VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS : 0);
    this.table = new MemoryTable({
      windows: runtime.windows,
      strict: strictMemory,
      onUnsealed: () => note(UNSEALED_NOTE),
    });
    this.rings = Array.from({ length: device.queueCount }, (_, i) => new Vring(this, i));
    device.onBroken = (index, fault) => {
      warn(`queue ${index} is broken (${fault}) and not served until it is set up again`);
      this.rings[index]?.signalBroken();
    };
    device.setMemory(this.memory);
  }

  get memory(): GuestMemory {
    return this.table.memory;
  }

  get inflight(): Inflight | undefined {
    return this.#inflight;
  }

  get inbandChannel(): BackendChannel | undefined {
    return this.has(VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS) ? this.#channel : undefined;
  }

  get startsEnabled(): boolean {
    return (this.#features & VHOST_USER_F_PROTOCOL_FEATURES) === 0n;
  }

  get protocolFeatures(): number {
    return this.#protocolFeatures;
  }

  /** Whether a protocol feature (bit number) was negotiated. */
  has(feature: number): boolean {
    return (this.#protocolFeatures & (1 << feature)) !== 0;
  }

  ring(index: number): Vring {
    const ring = this.rings[index];
    if (ring) return ring;
    throw new NetbeError(`this device has queues 0 to ${this.rings.length - 1}`, { code: 'EINVAL' });
  }

  // ---- features and status ----

  getFeatures(): bigint {
    return this.device.deviceFeatures | VHOST_USER_F_PROTOCOL_FEATURES;
  }

  setFeatures(features: bigint): void {
    if (features === this.#features) return;
    this.#withRingsStopped(() => {
      this.device.setDriverFeatures(features & ~VHOST_USER_F_PROTOCOL_FEATURES);
      this.#features = features;
    });
    for (const ring of this.rings) ring.applyEnabled();
  }

  setProtocolFeatures(features: bigint): void {
    const unknown = features & ~BigInt(this.offered);
    if (unknown !== 0n) throw new NetbeError(`bits 0x${unknown.toString(16)} were not offered`, { code: 'EINVAL' });
    const accepted = Number(features);
    const has = (bit: number) => (accepted & (1 << bit)) !== 0;
    // "the back-end should close the connection"
    if (
      has(VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS) &&
      !(has(VHOST_USER_PROTOCOL_F_BACKEND_REQ) && has(VHOST_USER_PROTOCOL_F_REPLY_ACK))
    )
      throw protocolError(
        `INBAND_NOTIFICATIONS needs BACKEND_REQ and REPLY_ACK; accepted were ${protocolFeatureNames(accepted).join(', ')}`,
      );
    this.#protocolFeatures = accepted;
    this.#applyChannel();
  }

  get status(): number {
    return this.#status;
  }

  setStatus(status: bigint): void {
    if (status > 0xffn)
      throw new NetbeError(`0x${status.toString(16)}: a device status has 8 bits`, { code: 'EINVAL' });
    this.#status = Number(status);
    // VirtIO 1.2 §2.1: 0 resets the device. What the front-end has set up beside it stays.
    if (this.#status === 0) for (const ring of this.rings) ring.deactivate();
  }

  /** "disable all rings and reset all internal device state"; the connection and its memory stay. */
  resetDevice(): void {
    for (const ring of this.rings) ring.reset(false);
    this.#features = 0n;
    this.#status = 0;
    this.device.reset();
    this.device.setMemory(this.memory);
    this.#applyChannel();
  }

  // ---- memory ----

  setMemoryTable(regions: readonly RegionAddresses[], fds: readonly Fd[]): void {
    if (fds.length !== regions.length)
      throw new NetbeError(`${fds.length} descriptors for ${regions.length} regions`, { code: 'EINVAL' });
    this.table.replace(regions, fds, () => this.#withRingsStopped(() => this.device.setMemory(this.memory)));
  }

  addRegion(region: RegionAddresses, fd: Fd): void {
    this.table.add(region, fd);
    for (const ring of this.rings) ring.resume();
  }

  removeRegion(region: RegionAddresses): void {
    this.#withRingsStopped(() => this.table.remove(region));
  }

  // ---- the rest of the device ----

  writeConfig(offset: number, bytes: Uint8Array): void {
    if (this.device.writeConfig(offset, bytes)) return;
    throw new NetbeError(
      `offset ${offset}, ${bytes.length} bytes: beyond the ${this.device.configLength} bytes of config space`,
      { code: 'EINVAL' },
    );
  }

  /** Owns `socket`, also when it throws. */
  setChannel(socket: Fd): void {
    let channel: BackendChannel;
    try {
      channel = new BackendChannel(this.runtime, socket, this.rings.length);
    } catch (error) {
      socket.close();
      throw error;
    }
    this.#channel?.close();
    this.#channel = channel;
    this.#applyChannel();
  }

  createInflight(request: InflightDescription): { fd: Fd; description: InflightDescription } {
    return createInflight(request, this.device.queueCount, this.device.maxQueueSize);
  }

  setInflight(description: InflightDescription, fd: Fd): void {
    const end = description.mmapOffset + description.mmapSize;
    const { pageSize, sealed } = checkFile(fd, end, 'inflight buffer');
    if (!sealed && this.strict)
      throw new NetbeError('inflight buffer: its file cannot be sealed against shrinking', { code: 'EPERM' });
    const limits = { queues: this.device.queueCount, queueSize: this.device.maxQueueSize };
    const inflight = new Inflight(this.runtime.windows, description, { fd: fd.number, pageSize }, limits);
    this.#inflight?.close();
    this.#inflight = inflight;
  }

  /** The connection ends: nothing of the guest is touched afterwards. The device waits for the next one. */
  close(): void {
    for (const ring of this.rings) ring.close();
    this.device.onBroken = undefined;
    this.device.reset();
    this.#channel?.close();
    this.#inflight?.close();
    this.table.close();
  }

  #withRingsStopped(change: () => void): void {
    for (const ring of this.rings) ring.stop();
    try {
      change();
    } finally {
      for (const ring of this.rings) ring.resume();
    }
  }

  #applyChannel(): void {
    const channel = this.#channel;
    for (const ring of this.rings) ring.applyNotifier();
    const tellsConfig = channel !== undefined && this.has(VHOST_USER_PROTOCOL_F_CONFIG);
    this.device.setConfigNotifier(tellsConfig ? () => channel.configChanged() : null);
  }
}
