/**
 * What a transport drives of a virtio device (VirtIO 1.2 §2). The transport owns the connection to
 * the hypervisor and the guest memory; the device owns its virtqueues, features and config space.
 *
 * Life cycle: features and memory come first, then each queue is set up, started and enabled; a
 * queue whose memory goes away is stopped before. Everything can happen again at any time: set-up
 * calls are checked, throw NetbeError (EINVAL), and leave the device as it was.
 */
import type { GuestMemory } from '../memory/guest-memory.js';

/** Where the three parts of a split virtqueue are (VirtIO 1.2 §2.7), as guest memory addresses. */
export interface VirtqueueAddresses {
  /** user addresses of the hypervisor, as vhost-user gives them (see GuestMemory.userToGpa) */
  descUser: number;
  availUser: number;
  usedUser: number;
}

export interface VirtioDevice {
  /** VirtIO 1.2 §5: 1 is a network card */
  readonly deviceId: number;
  readonly queueCount: number;
  /** largest queue size that may be set; sizes are powers of two (split virtqueues, §2.7) */
  readonly maxQueueSize: number;
  /** feature bits offered, without those that belong to the transport */
  readonly deviceFeatures: bigint;
  /** bytes of device configuration space */
  readonly configLength: number;

  /** Copies config space [offset, offset + out.length); zeros beyond its end. */
  readConfig(offset: number, out: Uint8Array): void;
  /** The driver's write; fields that are read-only are left alone. False if out of range. */
  writeConfig(offset: number, data: Uint8Array): boolean;

  /** What the driver accepted. Throws EINVAL for bits that were not offered. */
  setDriverFeatures(features: bigint): void;
  setMemory(memory: GuestMemory): void;

  setQueueSize(index: number, size: number): void;
  setQueueAddresses(index: number, addresses: VirtqueueAddresses): void;
  /** Next entry of the available ring to serve, free running modulo 2^16. */
  setQueueBase(index: number, availIdx: number): void;
  /** Begins to serve the ring. Throws if size, addresses or memory are missing or do not fit. */
  startQueue(index: number): void;
  /**
   * Stops; nothing of the ring or its buffers is touched afterwards, but for transfers that are outstanding. Returns the
   * next available index.
   */
  stopQueue(index: number): number;
  /**
   * Memory was mapped or unmapped: finds a started ring where it is now, and goes on. Throws if it is not there, and the
   * queue is stopped.
   */
  relocateQueue(index: number): void;
  /** The hypervisor has been asked to write memory that is not shared, and has not answered: it may happen at any time. */
  readonly transfersOutstanding: boolean;
  /** vhost-user: a started ring that is not enabled drops transmitted frames and receives none. */
  enableQueue(index: number, enabled: boolean): void;

  /** How to interrupt the driver for this queue; null: it polls. Called at most once a burst. */
  setNotifier(index: number, notify: (() => void) | null): void;
  /** How to tell the driver that config space changed (link state); null: no way. */
  setConfigNotifier(notify: (() => void) | null): void;
  /** Called once when a queue is found broken (`fault` says how): it is not served until it is started again. */
  onBroken: ((index: number, fault: string) => void) | undefined;
  /** The driver notified us: poll this device. */
  kick(index: number): void;

  /** The hypervisor tells the MTU of the network (VHOST_USER_NET_SET_MTU). Throws EINVAL out of range. */
  setMtu(mtu: number): void;
  /** Announces `mac` to the network by a reverse ARP (VHOST_USER_SEND_RARP). */
  announce(mac: Uint8Array): void;

  /** Back to the state before setDriverFeatures; memory and notifiers are forgotten. */
  reset(): void;
  close(): void;
}
