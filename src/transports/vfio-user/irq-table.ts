/**
 * The interrupts of one connection, as SET_IRQS sets them up (linux/vfio.h): for each of INTx, MSI and
 * MSI-X, descriptors to signal.
 *
 * INTx is a level. An eventfd is not, so it masks itself when it is signalled (AUTOMASKED); the client
 * unmasks it when the driver has seen to the device, and it is signalled again if the level is still
 * there. With KVM the unmasking comes through an eventfd as well, which the kernel signals.
 *
 * A message for which no descriptor is set waits for one: clients take the descriptor of a masked vector
 * away, and a driver that unmasks it is owed what came meanwhile.
 */
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { PciConfigSpace } from '../../frontends/pci/config-space.js';
import type { PciInterrupts } from '../../frontends/pci/pci-function.js';
import { isEventfd } from '../../sys/eventfd.js';
import type { Fd } from '../../sys/fd.js';
import { SignalFd } from '../signal-fd.js';
import * as M from './messages.js';

export interface IrqTableOptions {
  runtime: Runtime;
  config: PciConfigSpace;
  /** signal descriptors so that their owner cannot make us wait */
  strict: boolean;
  /** an interrupt was signalled. Data path. */
  onSignal: () => void;
}

/** A DEVICE_SET_IRQS, its range checked. */
export interface IrqSet {
  /** VFIO_IRQ_SET_ACTION_* */
  action: number;
  index: number;
  start: number;
  count: number;
}

interface Vector {
  fd: SignalFd | undefined;
  /** came while there was no descriptor */
  pending: boolean;
}

function fail(why: string): never {
  throw new NetbeError(why, { code: 'EINVAL' });
}

export class IrqTable implements PciInterrupts {
  readonly #options: IrqTableOptions;
  readonly #config: PciConfigSpace;
  /** by index, then by sub-index */
  readonly #vectors: readonly (readonly Vector[])[];
  readonly #intx: Vector;
  /** descriptors through which the client masks and unmasks INTx */
  readonly #switches = new Map<number, { fd: Fd; handle: MeventHandle }>();
  #level = false;
  #masked = false;

  /** `counts`: how many interrupts there are of each index */
  constructor(options: IrqTableOptions, counts: readonly number[]) {
    this.#options = options;
    this.#config = options.config;
    this.#vectors = counts.map((n) => Array.from({ length: n }, () => ({ fd: undefined, pending: false })));
    this.#intx = this.#vectors[M.VFIO_PCI_INTX_IRQ_INDEX]?.[0] ?? { fd: undefined, pending: false };
  }

  // ---- what the function calls ----

  intx(level: boolean): void {
    if (level === this.#level) return;
    this.#level = level;
    this.#config.setInterruptStatus(level);
    if (level) this.#fireIntx();
  }

  msi(vector: number): void {
    const { msiVectors } = this.#config;
    // PCI 3.0 §6.8.3.4: with fewer messages than it asked for, a function sends one for several causes
    this.#send(M.VFIO_PCI_MSI_IRQ_INDEX, vector < msiVectors ? vector : msiVectors - 1);
  }

  msix(vector: number): void {
    this.#send(M.VFIO_PCI_MSIX_IRQ_INDEX, vector);
  }

  // ---- what the client asks for ----

  /** Interrupts of this index. */
  count(index: number): number {
    return this.#vectors[index]?.length ?? 0;
  }

  /** Configuration space was written: INTx may be allowed now. */
  configChanged(): void {
    this.#fireIntx();
  }

  /** DATA_EVENTFD: owns `fds`, also when it throws; none: the interrupts of the range are unassigned. */
  setFds(set: IrqSet, fds: readonly Fd[]): void {
    try {
      if (set.action === M.VFIO_IRQ_SET_ACTION_TRIGGER) this.#setTriggers(set, fds);
      else this.#setSwitch(set, fds[0]);
    } catch (error) {
      for (const fd of fds) fd.close();
      throw error;
    }
  }

  /** DATA_NONE and DATA_BOOL: does it to each interrupt of the range for which `chosen` says so. */
  act({ action, index, start, count }: IrqSet, chosen: (i: number) => boolean): void {
    if (action !== M.VFIO_IRQ_SET_ACTION_TRIGGER && index !== M.VFIO_PCI_INTX_IRQ_INDEX)
      fail(`${M.irqNames[index]} cannot be masked (it has no MASKABLE flag)`);
    for (let i = 0; i < count; i++) {
      if (!chosen(i)) continue;
      if (action === M.VFIO_IRQ_SET_ACTION_MASK) this.#masked = true;
      else if (action === M.VFIO_IRQ_SET_ACTION_UNMASK) this.#unmask();
      else this.#trigger(index, start + i);
    }
  }

  /** "disables all interrupts of the index" */
  disable(index: number): void {
    for (const vector of this.#vectors[index] ?? []) {
      vector.fd?.close();
      vector.fd = undefined;
      vector.pending = false;
    }
    if (index !== M.VFIO_PCI_INTX_IRQ_INDEX) return;
    this.#masked = false;
    for (const action of [...this.#switches.keys()]) this.#dropSwitch(action);
  }

  /** Back to no level and nothing pending; the descriptors stay. */
  reset(): void {
    this.#level = false;
    this.#masked = false;
    for (const vectors of this.#vectors) for (const vector of vectors) vector.pending = false;
  }

  close(): void {
    for (let index = 0; index < this.#vectors.length; index++) this.disable(index);
    this.#level = false;
  }

  #fireIntx(): void {
    if (!this.#level || this.#masked || this.#intx.fd === undefined) return;
    const config = this.#config;
    if (config.intxDisabled || config.msiEnabled || config.msixEnabled) return;
    this.#masked = true;
    this.#signal(this.#intx.fd);
  }

  #unmask(): void {
    this.#masked = false;
    this.#fireIntx();
  }

  #send(index: number, number: number): void {
    const vector = this.#vectors[index]?.[number];
    if (vector === undefined) return;
    if (vector.fd === undefined) vector.pending = true;
    else this.#signal(vector.fd);
  }

  #signal(fd: SignalFd): void {
    fd.signal();
    this.#options.onSignal();
  }

  /** The client rings its own bell. */
  #trigger(index: number, number: number): void {
    const fd = this.#vectors[index]?.[number]?.fd;
    if (fd === undefined) return;
    if (index === M.VFIO_PCI_INTX_IRQ_INDEX) this.#masked = true;
    this.#signal(fd);
  }

  #setTriggers({ index, start, count }: IrqSet, fds: readonly Fd[]): void {
    // all of them are checked before any is in use
    const signals: SignalFd[] = [];
    try {
      for (const fd of fds) signals.push(new SignalFd(fd, this.#options.strict));
    } catch (error) {
      for (const signal of signals) signal.close();
      throw error;
    }
    for (let i = 0; i < count; i++) this.#assign(index, start + i, signals[i]);
  }

  #assign(index: number, number: number, fd: SignalFd | undefined): void {
    const vector = this.#vectors[index]?.[number] as Vector;
    vector.fd?.close();
    vector.fd = fd;
    if (index === M.VFIO_PCI_INTX_IRQ_INDEX) this.#unmask();
    else if (fd !== undefined && vector.pending) {
      vector.pending = false;
      this.#signal(fd);
    }
  }

  /** MASK or UNMASK with an eventfd: the client (KVM's resampling) signals it to do that to INTx. */
  #setSwitch({ action, index }: IrqSet, fd: Fd | undefined): void {
    if (index !== M.VFIO_PCI_INTX_IRQ_INDEX) fail(`${M.irqNames[index]} cannot be masked (it has no MASKABLE flag)`);
    if (fd !== undefined && !isEventfd(fd.number)) fail('its descriptor is not an eventfd');
    this.#dropSwitch(action);
    if (fd === undefined) return;
    const act = () => {
      if (action === M.VFIO_IRQ_SET_ACTION_MASK) this.#masked = true;
      else this.#unmask();
    };
    // never read: it is the client's as well, who could make a read wait
    const handle = this.#options.runtime.mevent.add(fd.number, EVF_READ, act, { edge: true });
    this.#switches.set(action, { fd, handle });
  }

  #dropSwitch(action: number): void {
    const old = this.#switches.get(action);
    if (old === undefined) return;
    this.#switches.delete(action);
    old.handle.delete();
    old.fd.close();
  }
}
