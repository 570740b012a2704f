/**
 * The EEPROM: 64 words of 16 bits, a 93C46 behind a Microwire of four lines that the driver moves itself (EECD),
 * or read by the controller for it (EERD). Manual §5.2 to §5.6, §13.4.3, §13.4.4.
 *
 * The driver may write it (`ethtool -E`); what it writes is kept as long as the NIC.
 */
import { setLe16 } from '../../wire/bytes.js';
import { EECD_CS, EECD_DI, EECD_DO, EECD_GNT, EECD_REQ, EECD_SK, EERD_DONE, EERD_START } from './registers.js';

export const EEPROM_WORDS = 64;
/** All words add up to this (manual §5.6.35). */
export const EEPROM_SUM = 0xbaba;

// words (manual table 5-2)
const INIT_CONTROL_1 = 0x0a;
const SUBSYSTEM_ID = 0x0b;
const SUBSYSTEM_VENDOR_ID = 0x0c;
const DEVICE_ID = 0x0d;
const VENDOR_ID = 0x0e;
const CHECKSUM = 0x3f;
/** signature 01 in the upper two bits; identifiers are loaded from the words above */
const INIT_CONTROL_1_VALUE = 0x440b;

// instructions of the 93C46: a start bit, two bits of operation, six of address
const ADDRESS_BITS = 6;
const INSTRUCTION_BITS = 3 + ADDRESS_BITS;
const OP_EXTENDED = 0;
const OP_WRITE = 1;
const OP_READ = 2;
// the upper two bits of the address with OP_EXTENDED: write disable 0, write all 1, erase all 2
const EXTENDED_WRITE_ALL = 1;
const EXTENDED_ERASE_ALL = 2;
const EXTENDED_ENABLE = 3;

const INSTRUCTION = 0;
const DATA_OUT = 1;
const DATA_IN = 2;
const DONE = 3;

export interface EepromIdentity {
  vendorId: number;
  deviceId: number;
  subsystemVendorId: number;
  subsystemId: number;
}

export class Eeprom {
  readonly words = new Uint16Array(EEPROM_WORDS).fill(0xffff);
  // the wire: what was last seen of it, and what the chip says
  #lines = 0;
  #dataOut = true;
  #mode = INSTRUCTION;
  /** bits shifted in, or to be shifted out */
  #shift = 0;
  #bits = 0;
  #address = 0;
  /** words that DATA_IN is for: one, or all */
  #writeAll = false;
  #writable = false;

  constructor(mac: Uint8Array, identity: EepromIdentity) {
    const { words } = this;
    words.fill(0, 0, CHECKSUM + 1);
    for (let i = 0; i < 3; i++) words[i] = mac[2 * i]! | (mac[2 * i + 1]! << 8);
    words[INIT_CONTROL_1] = INIT_CONTROL_1_VALUE;
    words[SUBSYSTEM_ID] = identity.subsystemId;
    words[SUBSYSTEM_VENDOR_ID] = identity.subsystemVendorId;
    words[DEVICE_ID] = identity.deviceId;
    words[VENDOR_ID] = identity.vendorId;
    words[CHECKSUM] = EEPROM_SUM - words.subarray(0, CHECKSUM).reduce((sum, word) => sum + word, 0);
  }

  /** The address that the controller takes after a reset (manual §5.6.1). */
  mac(out: Uint8Array): void {
    for (let i = 0; i < 3; i++) setLe16(out, 2 * i, this.words[i]!);
  }

  /** EERD after it was written (manual §13.4.4): the word is there at once. */
  read(eerd: number): number {
    if ((eerd & EERD_START) === 0) return eerd & 0xff00;
    const address = (eerd >>> 8) & 0xff;
    const word = address < EEPROM_WORDS ? this.words[address]! : 0xffff;
    return ((word << 16) | (address << 8) | EERD_DONE) >>> 0;
  }

  /** EECD was written: moves the wire. Returns what the register reads as from now on. */
  wire(eecd: number): number {
    const before = this.#lines;
    this.#lines = eecd;
    if ((eecd & EECD_CS) === 0) this.#select();
    else if ((eecd & EECD_SK) !== 0 && (before & EECD_SK) === 0) this.#clock((eecd & EECD_DI) !== 0 ? 1 : 0);
    // requested is granted: nobody else wants the wire (§5.3.1)
    const grant = (eecd & EECD_REQ) !== 0 ? EECD_GNT : 0;
    return (eecd & ~(EECD_GNT | EECD_DO)) | grant | (this.#dataOut ? EECD_DO : 0);
  }

  /** Not selected: the next instruction begins, and whoever asks is told that the chip is ready. */
  #select(): void {
    this.#mode = INSTRUCTION;
    this.#shift = 0;
    this.#bits = 0;
    this.#dataOut = true;
  }

  /** The clock rose. */
  #clock(bit: number): void {
    if (this.#mode === DATA_OUT) {
      this.#dataOut = (this.#shift & 0x8000) !== 0;
      this.#shift = (this.#shift << 1) & 0xffff;
      // the chip goes on with the next word as long as it is selected
      if (++this.#bits === 16) this.#fetch(this.#address + 1);
      return;
    }
    // an instruction begins with the first 1
    if (this.#mode === DONE || (this.#mode === INSTRUCTION && this.#bits === 0 && bit === 0)) return;
    this.#shift = ((this.#shift << 1) | bit) & 0xffff;
    this.#bits++;
    if (this.#mode === INSTRUCTION && this.#bits === INSTRUCTION_BITS) this.#instruct(this.#shift);
    else if (this.#mode === DATA_IN && this.#bits === 16) {
      if (this.#writable) {
        if (this.#writeAll) this.words.fill(this.#shift);
        else this.words[this.#address] = this.#shift;
      }
      this.#mode = DONE;
    }
  }

  #instruct(bits: number): void {
    const operation = (bits >> ADDRESS_BITS) & 3;
    const address = bits % EEPROM_WORDS;
    if (operation === OP_READ) {
      this.#mode = DATA_OUT;
      // a dummy bit before the first
      this.#dataOut = false;
      this.#fetch(address);
      return;
    }
    this.#address = address;
    this.#writeAll = false;
    this.#bits = 0;
    this.#shift = 0;
    this.#mode = operation === OP_WRITE ? DATA_IN : DONE;
    if (operation === OP_EXTENDED) this.#extended(address >> (ADDRESS_BITS - 2));
    else if (operation !== OP_WRITE && this.#writable) this.words[address] = 0xffff;
  }

  #extended(what: number): void {
    if (what === EXTENDED_WRITE_ALL) {
      this.#writeAll = true;
      this.#mode = DATA_IN;
    } else if (what === EXTENDED_ERASE_ALL) {
      if (this.#writable) this.words.fill(0xffff);
    } else this.#writable = what === EXTENDED_ENABLE;
  }

  #fetch(address: number): void {
    this.#address = address % EEPROM_WORDS;
    this.#shift = this.words[this.#address]!;
    this.#bits = 0;
  }
}
