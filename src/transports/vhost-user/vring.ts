/**
 * One ring of one connection, as "Ring states" has it: stopped, started but disabled, or started.
 *
 * A ring starts when the front-end has given it a kick (a descriptor, the promise of polling, or an
 * in-band message) and size, addresses and memory are all there, in whatever order they came.
 * "Starts upon a kick" is read as most back-ends read it: the descriptor for it is enough.
 * It stops with GET_VRING_BASE, at a new size or base, and with the connection.
 */
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Pollable } from '../../engine/poll-loop.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { VirtioDevice, VirtqueueAddresses } from '../../frontends/virtio-device.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import { isEventfd } from '../../sys/eventfd.js';
import type { Fd } from '../../sys/fd.js';
import { SignalFd } from '../signal-fd.js';
import type { BackendChannel } from './backend-channel.js';
import type { Inflight } from './inflight.js';

/** What a ring needs of its connection. */
export interface VringOwner {
  readonly runtime: Runtime;
  readonly device: VirtioDevice;
  readonly memory: GuestMemory;
  readonly inflight: Inflight | undefined;
  /** the back-end channel, if notifications may go through it (INBAND_NOTIFICATIONS) */
  readonly inbandChannel: BackendChannel | undefined;
  /** front-ends are not trusted: they may try to end or to stall this process */
  readonly strict: boolean;
  /** rings are enabled without being told (VHOST_USER_F_PROTOCOL_FEATURES was not negotiated) */
  readonly startsEnabled: boolean;
  /** something went wrong outside any request */
  warn(message: string): void;
}

/** Kicks a queue in every turn of the poll loop: for a driver that never notifies. */
class KickPoller implements Pollable {
  constructor(readonly kick: () => void) {}

  poll(): number {
    this.kick();
    return 0;
  }

  arm(): boolean {
    return true;
  }

  disarm(): void {}
}

export class Vring {
  readonly #owner: VringOwner;
  #size = 0;
  #addresses: VirtqueueAddresses | undefined;
  #base = 0;
  /** as told by SET_VRING_ENABLE; undefined: not told */
  #enabled: boolean | undefined;
  #kicked = false;
  #started = false;
  #kickFd: Fd | undefined;
  #kickHandle: MeventHandle | undefined;
  #poller: KickPoller | undefined;
  /** null: the driver polls; undefined: not told */
  #callFd: SignalFd | null | undefined;
  #errFd: SignalFd | undefined;

  constructor(
    owner: VringOwner,
    readonly index: number,
  ) {
    this.#owner = owner;
  }

  setSize(size: number): void {
    this.deactivate();
    this.#owner.device.setQueueSize(this.index, size);
    this.#size = size;
  }

  setBase(base: number): void {
    if (base > 0xffff) throw new NetbeError(`${base}: a split ring's index has 16 bits`, { code: 'EINVAL' });
    this.deactivate();
    this.#base = base;
  }

  setAddresses(addresses: VirtqueueAddresses): void {
    this.stop();
    this.#owner.device.setQueueAddresses(this.index, addresses);
    this.#addresses = addresses;
    this.resume();
  }

  setEnabled(enabled: boolean): void {
    this.#enabled = enabled;
    this.applyEnabled();
  }

  /** To be called when what decides it has changed. */
  applyEnabled(): void {
    this.#owner.device.enableQueue(this.index, this.#enabled ?? this.#owner.startsEnabled);
  }

  /** Owns `fd`, also when it throws; null: the driver does not notify, this side polls. */
  setKick(fd: Fd | null): void {
    this.#dropKick();
    if (fd === null) this.#startPolling();
    else this.#watch(fd);
    this.#kicked = true;
    this.#start();
  }

  /** An in-band kick, or one through the descriptor. */
  kick(): void {
    if (this.#started) {
      this.#owner.device.kick(this.index);
      return;
    }
    this.#kicked = true;
    this.#start();
  }

  /** Owns `fd`, also when it throws; null: the driver polls. */
  setCall(fd: Fd | null): void {
    this.#callFd?.close();
    this.#callFd = null;
    this.applyNotifier();
    if (fd === null) return;
    this.#callFd = new SignalFd(fd, this.#owner.strict);
    this.applyNotifier();
  }

  /** To be called when the back-end channel came or went. */
  applyNotifier(): void {
    const { device, inbandChannel } = this.#owner;
    const { index } = this;
    const fd = this.#callFd;
    if (fd) device.setNotifier(index, () => fd.signal());
    else if (fd === undefined && inbandChannel) device.setNotifier(index, () => inbandChannel.vringCall(index));
    else device.setNotifier(index, null);
  }

  /** Owns `fd`, also when it throws; null: none. */
  setErr(fd: Fd | null): void {
    this.#errFd?.close();
    this.#errFd = undefined;
    this.#errFd = fd === null ? undefined : new SignalFd(fd, this.#owner.strict);
  }

  /** The device found the ring broken: tell the front-end. */
  signalBroken(): void {
    if (this.#errFd) this.#errFd.signal();
    else this.#owner.inbandChannel?.vringErr(this.index);
  }

  /** GET_VRING_BASE: stops, lets go of the kick and call descriptors, and tells where it stopped. */
  halt(): number {
    this.deactivate();
    this.#callFd?.close();
    // a front-end that has used descriptors does not expect in-band calls until it sets the next one
    if (this.#callFd) this.#callFd = null;
    this.applyNotifier();
    return this.#base;
  }

  /** Stops, and remembers where. Nothing of the ring is touched until it starts again. */
  stop(): void {
    if (!this.#started) return;
    this.#started = false;
    this.#base = this.#owner.device.stopQueue(this.index);
    this.#owner.inflight?.settle(this.index, this.#base);
  }

  /** Stops until it is given a kick again. */
  deactivate(): void {
    this.stop();
    this.#dropKick();
  }

  /** Starts again after stop(), if it can; otherwise it waits for what is missing. */
  resume(): void {
    try {
      this.#start();
    } catch (error) {
      this.#owner.warn(`queue ${this.index} waits: ${(error as Error).message}`);
    }
  }

  /** As new, but for the error descriptor. `enabled`: what it is from now on. */
  reset(enabled: boolean | undefined): void {
    this.halt();
    this.#size = 0;
    this.#addresses = undefined;
    this.#base = 0;
    this.#enabled = enabled;
  }

  close(): void {
    this.reset(undefined);
    this.#callFd = undefined;
    this.setErr(null);
  }

  #start(): void {
    const { device, memory, inflight } = this.#owner;
    const { index } = this;
    if (this.#started || !this.#kicked || this.#size === 0 || !this.#addresses || memory.regionCount === 0) return;
    const gpa = memory.userToGpa(this.#addresses.usedUser);
    if (inflight && gpa >= 0) this.#base = inflight.recover(index, { memory, gpa, size: this.#size }) ?? this.#base;
    device.setQueueBase(index, this.#base);
    this.applyEnabled();
    device.startQueue(index);
    this.#started = true;
    // what the driver made available before it had anybody to kick
    device.kick(index);
  }

  #watch(fd: Fd): void {
    try {
      if (!isEventfd(fd.number)) throw new NetbeError('its descriptor is not an eventfd', { code: 'EINVAL' });
      // Edge-triggered, never read: whoever shares an eventfd can make a read of it block.
      this.#kickHandle = this.#owner.runtime.mevent.add(fd.number, EVF_READ, () => this.#onKick(), { edge: true });
      this.#kickFd = fd;
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  #onKick(): void {
    try {
      this.kick();
    } catch (error) {
      this.#owner.warn(`queue ${this.index} was kicked and does not start: ${(error as Error).message}`);
    }
  }

  #startPolling(): void {
    const { device, runtime } = this.#owner;
    this.#poller = new KickPoller(() => {
      if (this.#started) device.kick(this.index);
    });
    runtime.loop.add(this.#poller);
    runtime.loop.activate(this.#poller);
  }

  #dropKick(): void {
    this.#kicked = false;
    this.#kickHandle?.delete();
    this.#kickHandle = undefined;
    this.#kickFd?.close();
    this.#kickFd = undefined;
    if (this.#poller) this.#owner.runtime.loop.remove(this.#poller);
    this.#poller = undefined;
  }
}
