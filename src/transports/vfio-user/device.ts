/**
 * A PCI function as one client sees it: its regions, its interrupts, the client's memory. No socket
 * here: the session reads messages and sends what comes of them.
 */
import type { CounterSet } from '../../engine/counters.js';
import type { Runtime } from '../../engine/runtime.js';
import type { PciFunction } from '../../frontends/pci/pci-function.js';
import { UNSEALED_NOTE } from '../memory-file.js';
import { C } from './counters.js';
import { DmaTable } from './dma-table.js';
import { IrqTable } from './irq-table.js';
import { Regions } from './regions.js';

const UNSHARED_NOTE =
  'the guest has memory that the hypervisor does not share, which the device cannot reach: give QEMU a memory backend with share=on (netbe qemu-args prints one)';

export interface DeviceOptions {
  runtime: Runtime;
  fn: PciFunction;
  counters: CounterSet;
  /** refuse guest memory that its owner could take away, and descriptors that it could make us wait for */
  strictMemory: boolean;
  /** nothing went wrong, but somebody should know */
  note: (message: string) => void;
}

export class Device {
  readonly dma: DmaTable;
  readonly irqs: IrqTable;
  readonly regions: Regions;
  readonly #fn: PciFunction;

  constructor({ runtime, fn, counters, strictMemory: strict, note }: DeviceOptions) {
    this.#fn = fn;
    const { config } = fn;
    const { values } = counters;
    const onUnsealed = () => note(UNSEALED_NOTE);
    const onUnshared = () => note(UNSHARED_NOTE);
    this.dma = new DmaTable({ windows: runtime.windows, strict, onUnsealed, onUnshared });
    const onSignal = () => {
      values[C.interrupts]!++;
    };
    const { interruptPin, msiCapable, msixCapable } = config;
    this.irqs = new IrqTable({ runtime, config, strict, onSignal }, [
      interruptPin === 0 ? 0 : 1,
      msiCapable,
      msixCapable,
      0,
      0,
    ]);
    this.regions = new Regions(fn, () => this.#configWritten());
    fn.attach(this.dma.memory, this.irqs);
  }

  /** To be called before the function works, if the client may have changed its memory. */
  settle(): void {
    if (this.dma.settle()) this.#fn.memoryChanged();
  }

  reset(): void {
    this.#fn.reset();
    this.irqs.reset();
  }

  /** The client goes: nothing of it is touched afterwards. */
  close(): void {
    this.#fn.detach();
    this.irqs.close();
    this.dma.close();
  }

  #configWritten(): void {
    this.#fn.configChanged();
    this.irqs.configChanged();
  }
}
