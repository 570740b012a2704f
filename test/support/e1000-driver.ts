/**
 * A driver of an 82545EM as Linux's e1000 is one, over memory of our own: it finds the controller through its
 * registers, reads the EEPROM, sets up rings, and sends and receives. Tests reach below it at any point.
 *
 * Its memory is shared with the controller, or it is not, all of it or parts. Then transfers are carried out whenever the
 * driver looks at anything, unless the test holds them back.
 */
import { E1000 } from '../../src/frontends/e1000/device.js';
import type { InterruptLimits } from '../../src/frontends/e1000/interrupts.js';
import * as R from '../../src/frontends/e1000/registers.js';
import * as D from '../../src/frontends/e1000/tx-descriptor.js';
import { PCI_COMMAND } from '../../src/frontends/pci/config-space.js';
import type { PciInterrupts } from '../../src/frontends/pci/pci-function.js';
import type { GuestMemory } from '../../src/memory/guest-memory.js';
import type { DmaTransfer } from '../../src/memory/remote-memory.js';
import type { Window } from '../../src/memory/window.js';
import type { NetBackend } from '../../src/net-backends/net-backend.js';
import { openBackend } from '../../src/net-backends/registry.js';
import type { TestRuntime } from './runtime.js';
import type { TestDmaChannel } from './test-dma-channel.js';
import { TestMemory, type TestMemoryOptions } from './test-memory.js';

const PAGE = 4096;

/** receive status and errors (manual §3.2.3) */
export const RXD_DD = 0x01;
export const RXD_EOP = 0x02;
export const RXD_IXSM = 0x04;
export const RXD_VP = 0x08;
export const RXD_TCPCS = 0x20;
export const RXD_IPCS = 0x40;
export const RXD_PIF = 0x80;
export const RXD_TCPE = 0x20;
export const RXD_IPE = 0x40;
export const RXD_RXE = 0x80;

export interface E1000GuestOptions {
  backend: string;
  name?: string;
  mac?: Uint8Array;
  /** descriptors of each ring, a multiple of 8 */
  ringSize?: number;
  /** value of RCTL.BSIZE and BSEX in bytes */
  rxBufLen?: number;
  /** descriptors with a buffer at the start; all but one by default */
  rxBuffers?: number;
  /** further bits of RCTL */
  rctl?: number;
  /** changes the backend before the device sees it */
  wrap?: (backend: NetBackend) => NetBackend;
  /** none by default: interrupts come as the driver's registers say */
  interruptLimits?: InterruptLimits;
  /** false: registers are as after power-up */
  start?: boolean;
  /** whether the controller is given the memory itself (true by default), or must ask for it */
  shared?: boolean;
  /** what is not shared, if not all of it is */
  unshared?: (guest: E1000Guest) => TestMemoryOptions['unshared'];
}

export interface ReceivedFrame {
  /** what the descriptors cover, frame check sequence included where the controller leaves it */
  bytes: Uint8Array;
  /** without frame check sequence */
  frame: Uint8Array;
  status: number;
  errors: number;
  csum: number;
  special: number;
  /** length of each descriptor */
  lengths: number[];
}

/** One descriptor to transmit. */
export interface TxDescriptor {
  gpa?: number;
  len?: number;
  /** bits of word 2 beside the length */
  cmd?: number;
  /** word 3 */
  opts?: number;
}

const bufferSizes: readonly (readonly [number, number])[] = [
  [2048, 0],
  [1024, 1 << 16],
  [512, 2 << 16],
  [256, 3 << 16],
  [16384, (1 << 16) | R.RCTL_BSEX],
  [8192, (2 << 16) | R.RCTL_BSEX],
  [4096, (3 << 16) | R.RCTL_BSEX],
];

/** Bits of RCTL for buffers of so many bytes. */
export function bufferBits(length: number): number {
  const bits = bufferSizes.find(([bytes]) => bytes === length)?.[1];
  if (bits === undefined) throw new RangeError(`no buffers of ${length} bytes`);
  return bits;
}

export class E1000Guest {
  readonly ram: TestMemory;
  readonly memory: GuestMemory;
  /** transfers wait until the test delivers them */
  held = false;
  /** what the hypervisor refuses */
  refuses: (transfer: DmaTransfer) => boolean = () => false;
  readonly window: Window;
  /** offset of guest-physical 0 in the window */
  readonly base: number;
  readonly size: number;
  readonly ringSize: number;
  readonly rxBufLen: number;
  readonly rxRing = PAGE;
  readonly txRing: number;
  readonly rxBuffers: number;
  readonly txBuffers: number;
  /** next descriptor to look at, and to fill */
  rxNext = 0;
  rxTail = 0;
  txNext = 0;
  txClean = 0;
  readonly #device: E1000;
  #pin = false;
  #pinRises = 0;
  #messages = 0;
  readonly #txBufLen = 66 * 1024;
  readonly #txSlots = 32;
  #txSlot = 0;

  constructor(
    readonly runtime: TestRuntime,
    options: E1000GuestOptions,
  ) {
    const { backend, name = 'nic', mac = Uint8Array.of(2, 0, 0, 0, 0, 1), ringSize = 64, rxBufLen = 2048 } = options;
    const { wrap = (inner) => inner, start = true, rxBuffers = ringSize - 1, rctl = 0 } = options;
    const { interruptLimits = { gapUs: 0, transmitUs: 0 }, shared = true } = options;
    const { unshared = () => (shared ? undefined : 'all') } = options;
    this.ringSize = ringSize;
    this.rxBufLen = rxBufLen;
    this.#device = new E1000({
      runtime,
      name,
      mac,
      interruptLimits,
      openBackend: (onReceive) => wrap(openBackend(runtime, backend, onReceive, name)),
    });
    const ringBytes = Math.ceil((ringSize * 16) / PAGE) * PAGE;
    this.txRing = this.rxRing + ringBytes;
    this.rxBuffers = this.txRing + ringBytes;
    this.txBuffers = this.rxBuffers + ringSize * rxBufLen;
    this.size = Math.ceil((this.txBuffers + this.#txSlots * this.#txBufLen) / PAGE) * PAGE;
    this.ram = new TestMemory(runtime.windows, this.size, {
      unshared: unshared(this),
      refuses: (transfer) => this.refuses(transfer),
    });
    this.memory = this.ram.memory;
    this.window = this.ram.window;
    this.base = this.ram.base;
    this.attach();
    if (start) this.start(rxBuffers, rctl);
  }

  attach(): void {
    const interrupts: PciInterrupts = {
      intx: (level) => {
        if (level && !this.#pin) this.#pinRises++;
        this.#pin = level;
      },
      msi: () => void this.#messages++,
      msix: () => {},
    };
    this.#device.attach(this.memory, interrupts);
    this.configWrite(PCI_COMMAND, 0x7);
  }

  /** Carries out transfers until there are none, and lets the controller serve what comes of them. */
  settle(): void {
    const { channel } = this.ram;
    if (this.held || channel === undefined || channel.pending === 0) return;
    // what needs no transfer takes a look of its own
    for (let idle = 0; idle < 3; idle++) if (channel.deliverAll() + this.#device.poll() > 0) idle = 0;
  }

  /** carries what is not shared */
  get channel(): TestDmaChannel {
    return this.ram.channel!;
  }

  get device(): E1000 {
    this.settle();
    return this.#device;
  }

  /** level of the pin, and how often it rose */
  get pin(): boolean {
    this.settle();
    return this.#pin;
  }

  get pinRises(): number {
    this.settle();
    return this.#pinRises;
  }

  get messages(): number {
    this.settle();
    return this.#messages;
  }

  configWrite(off: number, value: number): void {
    this.device.config.write(off, Uint8Array.of(value & 255, (value >> 8) & 255));
    this.device.configChanged();
  }

  // ---- registers ----

  read(off: number): number {
    return this.device.readBar(0, off, 4);
  }

  write(off: number, value: number): void {
    this.device.writeBar(0, off, 4, value >>> 0);
  }

  /** As Linux resets it: through the I/O window, for the answer to a memory access might be lost. */
  reset(): void {
    this.write(R.IMC, 0xffffffff);
    this.write(R.RCTL, 0);
    this.write(R.TCTL, 0x8);
    const ctrl = this.read(R.CTRL);
    this.device.writeBar(2, 0, 4, R.CTRL);
    this.device.writeBar(2, 4, 4, (ctrl | R.CTRL_RST) >>> 0);
    this.write(R.IMC, 0xffffffff);
    this.read(R.ICR);
    this.rxNext = 0;
    this.rxTail = 0;
    this.txNext = 0;
    this.txClean = 0;
  }

  /** A word of the EEPROM, bit by bit over its Microwire. */
  eepromWord(address: number): number {
    const set = (bits: number) => this.write(R.EECD, R.EECD_REQ | R.EECD_CS | bits);
    this.write(R.EECD, R.EECD_REQ);
    set(0);
    const instruction = (0b110 << 6) | address;
    for (let bit = 8; bit >= 0; bit--) {
      const di = (instruction >> bit) & 1 ? R.EECD_DI : 0;
      set(di);
      set(di | R.EECD_SK);
      set(di);
    }
    let word = 0;
    for (let bit = 0; bit < 16; bit++) {
      set(R.EECD_SK);
      word = (word << 1) | (this.read(R.EECD) & R.EECD_DO ? 1 : 0);
      set(0);
    }
    this.write(R.EECD, 0);
    return word;
  }

  phyRead(index: number, address = 1): number {
    this.write(R.MDIC, (index << 16) | (address << 21) | R.MDIC_OP_READ);
    return this.read(R.MDIC);
  }

  phyWrite(index: number, value: number): void {
    this.write(R.MDIC, value | (index << 16) | (1 << 21) | R.MDIC_OP_WRITE);
  }

  /** Rings, filters and controls as Linux writes them. */
  start(rxBuffers: number, rctl = 0): void {
    this.reset();
    for (let i = 0; i < 128; i++) this.write(R.MTA + 4 * i, 0);
    this.write(R.CTRL, this.read(R.CTRL) | R.CTRL_SLU);
    const bytes = this.ringSize * 16;
    this.bytes(this.rxRing, bytes).fill(0);
    this.bytes(this.txRing, bytes).fill(0);
    this.write(R.TDLEN, bytes);
    this.write(R.TDBAL + 4, 0);
    this.write(R.TDBAL, this.txRing);
    this.write(R.TDT, 0);
    this.write(R.TDH, 0);
    this.write(R.TCTL, 0x8 | R.TCTL_EN | (0xf << 4));
    this.write(R.RDLEN, bytes);
    this.write(R.RDBAL + 4, 0);
    this.write(R.RDBAL, this.rxRing);
    this.write(R.RDT, 0);
    this.write(R.RDH, 0);
    this.write(R.RXCSUM, R.RXCSUM_IPOFLD | R.RXCSUM_TUOFLD);
    this.write(R.RCTL, R.RCTL_EN | R.RCTL_BAM | bufferBits(this.rxBufLen) | rctl);
    for (let i = 0; i < rxBuffers; i++) this.post();
    this.write(R.RDT, this.rxTail);
    this.write(R.IMS, R.ICR_RXT0 | R.ICR_TXDW | R.ICR_RXDMT0 | R.ICR_LSC);
  }

  // ---- memory ----

  bytes(gpa: number, len: number): Uint8Array {
    this.settle();
    return this.ram.bytes(gpa, len);
  }

  word(gpa: number): number {
    this.settle();
    return this.window.u32[(this.base + gpa) / 4]!;
  }

  setWords(gpa: number, ...words: number[]): void {
    for (const [i, word] of words.entries()) this.window.u32[(this.base + gpa) / 4 + i] = word;
  }

  // ---- receive ----

  /** Puts a buffer into the next descriptor; visible to the controller after RDT is written. */
  post(gpa = this.rxBuffers + this.rxTail * this.rxBufLen): void {
    this.setWords(this.rxRing + 16 * this.rxTail, gpa >>> 0, Math.floor(gpa / 2 ** 32), 0, 0);
    this.rxTail = (this.rxTail + 1) % this.ringSize;
  }

  /** Takes received frames, and posts their buffers again. */
  receive(repost = true): ReceivedFrame[] {
    const frames: ReceivedFrame[] = [];
    let parts: Uint8Array[] = [];
    for (;;) {
      const at = this.rxRing + 16 * this.rxNext;
      const last = this.word(at + 12);
      if ((last & RXD_DD) === 0) break;
      const length = this.word(at + 8) & 0xffff;
      const gpa = this.word(at) + this.word(at + 4) * 2 ** 32;
      if (length > 0) parts.push(Uint8Array.from(this.bytes(gpa, length)));
      this.rxNext = (this.rxNext + 1) % this.ringSize;
      this.setWords(at + 12, 0);
      if (repost) this.post(gpa);
      if ((last & RXD_EOP) === 0) continue;
      const bytes = Buffer.concat(parts);
      const fcs = (this.read(R.RCTL) & R.RCTL_SECRC) === 0 ? 4 : 0;
      frames.push({
        bytes,
        frame: bytes.subarray(0, Math.max(0, bytes.length - fcs)),
        status: last & 0xff,
        errors: (last >>> 8) & 0xff,
        csum: this.word(at + 8) >>> 16,
        special: last >>> 16,
        lengths: parts.map((p) => p.length),
      });
      parts = [];
    }
    if (repost) this.write(R.RDT, this.rxTail);
    return frames;
  }

  // ---- transmit ----

  /** Guest-physical address of the next transmit buffer, with `data` in it. */
  txBuffer(data: Uint8Array = new Uint8Array(0)): number {
    const gpa = this.txBuffers + (this.#txSlot++ % this.#txSlots) * this.#txBufLen;
    this.bytes(gpa, data.length).set(data);
    return gpa;
  }

  /** Writes descriptors into the ring; sent once TDT is written. */
  queue(...descriptors: TxDescriptor[]): void {
    for (const { gpa = 0, len = 0, cmd = 0, opts = 0 } of descriptors) {
      const at = this.txRing + 16 * this.txNext;
      this.setWords(at, gpa >>> 0, Math.floor(gpa / 2 ** 32), (len | cmd) >>> 0, opts >>> 0);
      this.txNext = (this.txNext + 1) % this.ringSize;
    }
  }

  /** A legacy descriptor for a whole frame. */
  queueFrame(frame: Uint8Array, cmd = 0, opts = 0): void {
    const all = D.TXD_CMD_EOP | 0x02000000 | D.TXD_CMD_RS | cmd;
    this.queue({ gpa: this.txBuffer(frame), len: frame.length, cmd: all, opts });
  }

  /** A context descriptor (§3.3.6) from fields. */
  queueContext(fields: {
    ipcss?: number;
    ipcso?: number;
    ipcse?: number;
    tucss?: number;
    tucso?: number;
    tucse?: number;
    payLen?: number;
    hdrLen?: number;
    mss?: number;
    ipv4?: boolean;
    tcp?: boolean;
    tse?: boolean;
  }): void {
    const { ipcss = 0, ipcso = 0, ipcse = 0, tucss = 0, tucso = 0, tucse = 0 } = fields;
    const { payLen = 0, hdrLen = 0, mss = 0, ipv4 = true, tcp = true, tse = false } = fields;
    const at = this.txRing + 16 * this.txNext;
    const cmd = D.TXD_CMD_DEXT | (tcp ? 0x01000000 : 0) | (ipv4 ? 0x02000000 : 0) | (tse ? 0x04000000 : 0);
    this.setWords(
      at,
      ipcss | (ipcso << 8) | (ipcse << 16),
      tucss | (tucso << 8) | (tucse << 16),
      (payLen | cmd) >>> 0,
      (hdrLen << 8) | (mss << 16),
    );
    this.txNext = (this.txNext + 1) % this.ringSize;
  }

  /** Data descriptors (§3.3.7) for a frame in pieces of the given lengths. */
  queueData(
    frame: Uint8Array,
    options: { popts?: number; cmd?: number; special?: number; pieces?: number[] } = {},
  ): void {
    const { popts = 0, cmd = 0, special = 0, pieces = [frame.length] } = options;
    const gpa = this.txBuffer(frame);
    let done = 0;
    for (const [i, len] of pieces.entries()) {
      const last = i === pieces.length - 1;
      this.queue({
        gpa: gpa + done,
        len,
        cmd: D.TXD_CMD_DEXT | (1 << D.TXD_DTYP_SHIFT) | cmd | (last ? D.TXD_CMD_EOP | D.TXD_CMD_RS : 0),
        opts: popts | (special << 16),
      });
      done += len;
    }
  }

  /** Writes TDT, and lets the controller serve. Returns the descriptors that it has written back. */
  kick(): number {
    this.write(R.TDT, this.txNext);
    this.device.poll();
    return this.reclaim();
  }

  /** Sends frames by legacy descriptors. Returns how many descriptors came back. */
  send(...frames: Uint8Array[]): number {
    for (const frame of frames) this.queueFrame(frame);
    return this.kick();
  }

  reclaim(): number {
    this.settle();
    let n = 0;
    while (this.txClean !== this.txNext) {
      const at = this.txRing + 16 * this.txClean;
      if ((this.word(at + 12) & D.TXD_STAT_DD) === 0) break;
      n++;
      this.txClean = (this.txClean + 1) % this.ringSize;
    }
    return n;
  }

  close(): void {
    this.ram.channel?.close();
    this.#device.close();
    this.ram.close();
  }
}
