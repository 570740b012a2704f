/**
 * A PCI function as one client sees it: its regions, its interrupts, the client's memory. No socket
 * here: the session reads messages and sends what comes of them, and gives what DMA requests are sent with.
 */
import type { CounterSet } from '../../engine/counters.js';
import type { Runtime } from '../../engine/runtime.js';
import type { PciFunction } from '../../frontends/pci/pci-function.js';
import { GuestMemory } from '../../memory/guest-memory.js';
import { UNSEALED_NOTE } from '../memory-file.js';
import { C } from './counters.js';
import { DmaMessages, type DmaWriter } from './dma-channel.js';
import { DmaTable } from './dma-table.js';
import { IrqTable } from './irq-table.js';
import { Regions } from './regions.js';

const UNSHARED_NOTE =
  'the driver works in memory that the hypervisor does not share, which the device reaches by messages: that is slower than a memory backend with share=on (netbe qemu-args prints one)';

const BEYOND_NOTE =
  'the guest has more than 128 GiB of memory that the hypervisor does not share: the device reaches no more of it. Give QEMU a memory backend with share=on';

export interface DeviceOptions {
  runtime: Runtime;
  fn: PciFunction;
  counters: CounterSet;
  /** refuse guest memory that its owner could take away, and descriptors that it could make us wait for */
  strictMemory: boolean;
  /** something went wrong, and the connection goes on */
  warn: (message: string) => void;
  /** nothing went wrong, but somebody should know */
  note: (message: string) => void;
  dmaWriter: DmaWriter;
}

export class Device {
  readonly dma: DmaTable;
  /** for memory that the client does not share */
  readonly dmaMessages: DmaMessages;
  readonly irqs: IrqTable;
  readonly regions: Regions;
  readonly #fn: PciFunction;

  constructor({ runtime, fn, counters, strictMemory: strict, warn, note, dmaWriter: writer }: DeviceOptions) {
    this.#fn = fn;
    const { config } = fn;
    const { values } = counters;
    const onUnsealed = () => note(UNSEALED_NOTE);
    const memory = new GuestMemory(runtime.windows);
    this.dmaMessages = new DmaMessages({ writer, memory, counters, warn, onFirst: () => note(UNSHARED_NOTE) });
    const onBeyond = () => note(BEYOND_NOTE);
    this.dma = new DmaTable({ memory, channel: this.dmaMessages, strict, onUnsealed, onBeyond });
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
    fn.attach(memory, this.irqs);
  }

  /** To be called before the function works, if the client may have changed its memory. */
  settle(): void {
    if (!this.dma.settle()) return;
    // the function first: a transfer that it wants no more is not refused, it is forgotten
    this.#fn.memoryChanged();
    this.dmaMessages.memoryChanged();
  }

  /** The client has replied to a DMA request. */
  dmaReply(message: Uint8Array): void {
    this.settle();
    this.dmaMessages.reply(message);
  }

  reset(): void {
    this.#fn.reset();
    this.dmaMessages.reset();
    this.irqs.reset();
  }

  /** The client goes: nothing of it is touched afterwards. */
  close(): void {
    this.dmaMessages.close();
    this.#fn.detach();
    this.irqs.close();
    this.dma.close();
  }

  #configWritten(): void {
    this.#fn.configChanged();
    this.irqs.configChanged();
  }
}
