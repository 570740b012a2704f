/** A virtio device that serves nothing and notes what a transport asks of it. */
import { NetbeError } from '../../src/errors.js';
import type { VirtioDevice, VirtqueueAddresses } from '../../src/frontends/virtio-device.js';
import type { GuestMemory } from '../../src/memory/guest-memory.js';

export class StubQueue {
  size = 0;
  addresses: VirtqueueAddresses | undefined;
  base = 0;
  started = false;
  enabled = false;
  notify: (() => void) | null = null;
  kicks = 0;
}

export class StubDevice implements VirtioDevice {
  readonly deviceId = 1;
  readonly queueCount: number;
  readonly maxQueueSize = 1024;
  readonly deviceFeatures = (1n << 32n) | 0x20n;
  readonly config = Uint8Array.of(2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0xdc, 5);
  queues: StubQueue[];
  features = 0n;
  memory: GuestMemory | undefined;
  mtu = 0;
  announced: string[] = [];
  resets = 0;
  configNotify: (() => void) | null = null;
  onBroken: ((index: number, fault: string) => void) | undefined;
  /** in the order of starts and stops: "start 0", "stop 1" */
  readonly events: string[] = [];

  constructor(queueCount = 2) {
    this.queueCount = queueCount;
    this.queues = Array.from({ length: queueCount }, () => new StubQueue());
  }

  get configLength(): number {
    return this.config.length;
  }

  queue(index: number): StubQueue {
    return this.queues[index]!;
  }

  readConfig(offset: number, out: Uint8Array): void {
    out.fill(0);
    if (offset < this.config.length) out.set(this.config.subarray(offset, offset + out.length));
  }

  writeConfig(offset: number, data: Uint8Array): boolean {
    if (offset + data.length > this.config.length) return false;
    this.config.set(data, offset);
    return true;
  }

  setDriverFeatures(features: bigint): void {
    if ((features & ~this.deviceFeatures) !== 0n) throw new NetbeError('features not offered', { code: 'EINVAL' });
    if (this.queues.some((q) => q.started)) throw new Error('features of a running device were changed');
    this.features = features;
  }

  setMemory(memory: GuestMemory): void {
    if (this.queues.some((q) => q.started)) throw new Error('memory of a running device was changed');
    this.memory = memory;
  }

  setQueueSize(index: number, size: number): void {
    if (size < 1 || size > this.maxQueueSize || (size & (size - 1)) !== 0)
      throw new NetbeError(`size ${size}: a power of two up to ${this.maxQueueSize}`, { code: 'EINVAL' });
    this.queue(index).size = size;
  }

  setQueueAddresses(index: number, addresses: VirtqueueAddresses): void {
    this.queue(index).addresses = addresses;
  }

  setQueueBase(index: number, availIdx: number): void {
    this.queue(index).base = availIdx;
  }

  startQueue(index: number): void {
    const q = this.queue(index);
    if (q.started) throw new Error('a running queue was started');
    if (!q.addresses || !q.size || !this.memory || this.memory.userToGpa(q.addresses.descUser) < 0)
      throw new NetbeError('the descriptor table is outside guest memory', { code: 'EINVAL' });
    q.started = true;
    this.events.push(`start ${index}`);
  }

  stopQueue(index: number): number {
    const q = this.queue(index);
    if (!q.started) throw new Error('a stopped queue was stopped');
    q.started = false;
    this.events.push(`stop ${index}`);
    return q.base;
  }

  relocateQueue(index: number): void {
    this.events.push(`relocate ${index}`);
  }

  get transfersOutstanding(): boolean {
    return false;
  }

  enableQueue(index: number, enabled: boolean): void {
    this.queue(index).enabled = enabled;
  }

  setNotifier(index: number, notify: (() => void) | null): void {
    this.queue(index).notify = notify;
  }

  setConfigNotifier(notify: (() => void) | null): void {
    this.configNotify = notify;
  }

  kick(index: number): void {
    this.queue(index).kicks++;
  }

  setMtu(mtu: number): void {
    if (mtu < 68) throw new NetbeError(`MTU ${mtu}: at least 68`, { code: 'EINVAL' });
    this.mtu = mtu;
  }

  announce(mac: Uint8Array): void {
    this.announced.push(Buffer.from(mac).toString('hex'));
  }

  reset(): void {
    if (this.queues.some((q) => q.started)) throw new Error('a running device was reset');
    this.resets++;
    this.features = 0n;
    this.memory = undefined;
    this.configNotify = null;
    this.queues = this.queues.map(() => new StubQueue());
  }

  close(): void {}
}
