/**
 * The driver's ways to the registers: memory (BAR 0), a flash chip (BAR 1), and an I/O window of an address and a data
 * register (BAR 2; manual §13.2). A wrong access reads all ones or writes nothing, and is counted.
 */
import type { AccessSize } from '../pci/pci-function.js';
import { C } from './counters.js';
import { BAR_FLASH, BAR_IO, BAR_REGISTERS } from './pci-identity.js';
import type { RegisterFile } from './register-file.js';
import { REGISTER_BYTES } from './registers.js';

const IOADDR = 0;
const IODATA = 4;

export class BarAccess {
  readonly #registers: RegisterFile;
  readonly #values: Float64Array;
  #ioAddress = 0;

  constructor(registers: RegisterFile, values: Float64Array) {
    this.#registers = registers;
    this.#values = values;
  }

  reset(): void {
    this.#ioAddress = 0;
  }

  read(bar: number, off: number, size: AccessSize): number {
    this.#values[C.register_reads]!++;
    if (bar === BAR_REGISTERS) return this.#readRegister(off, size);
    if (bar === BAR_IO && size === 4) {
      if (off === IOADDR) return this.#ioAddress;
      if (off === IODATA && this.#reachesRegister) return this.#registers.read(this.#ioAddress);
    }
    // the flash is erased
    return bar === BAR_FLASH ? ones(size) : this.#fault(size);
  }

  write(bar: number, off: number, size: AccessSize, value: number): void {
    this.#values[C.register_writes]!++;
    if (bar === BAR_REGISTERS && size === 4 && (off & 3) === 0) this.#registers.write(off, value);
    else if (bar === BAR_IO && size === 4 && off === IOADDR) this.#ioAddress = value;
    else if (bar === BAR_IO && size === 4 && off === IODATA && this.#reachesRegister)
      this.#registers.write(this.#ioAddress, value);
    else if (bar !== BAR_FLASH) this.#fault(size);
  }

  /** The window also has addresses of the flash, and of nothing. */
  get #reachesRegister(): boolean {
    return this.#ioAddress < REGISTER_BYTES && (this.#ioAddress & 3) === 0;
  }

  /** Registers are 32 bits wide: a narrower access reads part of one. */
  #readRegister(off: number, size: AccessSize): number {
    const shift = (off & 3) * 8;
    if (size === 4 && shift === 0) return this.#registers.read(off);
    if (shift + size * 8 > 32) return this.#fault(size);
    return (this.#registers.read(off & ~3) >>> shift) & (size === 1 ? 0xff : 0xffff);
  }

  #fault(size: AccessSize): number {
    this.#values[C.fault_register]!++;
    return ones(size);
  }
}

function ones(size: AccessSize): number {
  return 2 ** (8 * size) - 1;
}
