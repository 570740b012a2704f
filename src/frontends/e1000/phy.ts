/**
 * The PHY: an 88E1000 ("M88") at address 1 of the management interface (manual §13.4.7, table 13-14 ff.; IEEE 802.3
 * §22.2.4). Its cable is the fabric's link.
 *
 * Autonegotiation ends as soon as it begins, at 1000 Mbit/s full duplex: there is nobody to wait for.
 */

export const PHY_ADDRESS = 1;

// registers (IEEE 802.3 table 22-6; from 16 on the 88E1000's)
export const PHY_CONTROL = 0;
export const PHY_STATUS = 1;
const PHY_ID1 = 2;
const PHY_ID2 = 3;
const PHY_AUTONEG_ADV = 4;
const PHY_LP_ABILITY = 5;
const PHY_AUTONEG_EXP = 6;
const PHY_NEXT_PAGE_TX = 7;
const PHY_1000T_CTRL = 9;
const PHY_1000T_STATUS = 10;
const PHY_EXT_STATUS = 15;
const M88_PHY_SPEC_CTRL = 16;
export const M88_PHY_SPEC_STATUS = 17;
const M88_EXT_PHY_SPEC_CTRL = 20;

export const CONTROL_RESET = 0x8000;
export const CONTROL_LOOPBACK = 0x4000;
const CONTROL_AUTO_NEG_EN = 0x1000;
export const CONTROL_POWER_DOWN = 0x0800;
export const CONTROL_RESTART_AUTO_NEG = 0x0200;

/** the link goes down, and up again if it can, when one of these changes */
const LINK_CONTROLS = CONTROL_POWER_DOWN | CONTROL_LOOPBACK | CONTROL_AUTO_NEG_EN;

export const STATUS_LINK = 0x0004;
export const STATUS_AUTONEG_COMPLETE = 0x0020;

interface PhyRegister {
  readonly index: number;
  readonly reset: number;
  readonly writable: number;
}

const phyRegisters: readonly PhyRegister[] = [
  // 1000 Mbit/s, full duplex, autonegotiation on; reset and restart clear themselves
  { index: PHY_CONTROL, reset: 0x1140, writable: 0xffc0 & ~(CONTROL_RESET | CONTROL_RESTART_AUTO_NEG) },
  // 10 and 100 Mbit/s, half and full duplex, extended status, preamble suppression, autonegotiation
  { index: PHY_STATUS, reset: 0x7949, writable: 0 },
  { index: PHY_ID1, reset: 0x0141, writable: 0 },
  { index: PHY_ID2, reset: 0x0c20, writable: 0 },
  { index: PHY_AUTONEG_ADV, reset: 0x0de1, writable: 0xbfff },
  { index: PHY_LP_ABILITY, reset: 0, writable: 0 },
  { index: PHY_AUTONEG_EXP, reset: 0, writable: 0 },
  { index: PHY_NEXT_PAGE_TX, reset: 0x2001, writable: 0xb7ff },
  { index: PHY_1000T_CTRL, reset: 0x0e00, writable: 0xff00 },
  { index: PHY_1000T_STATUS, reset: 0, writable: 0 },
  // 1000BASE-T, half and full duplex
  { index: PHY_EXT_STATUS, reset: 0x3000, writable: 0 },
  { index: M88_PHY_SPEC_CTRL, reset: 0x0360, writable: 0xffff },
  { index: M88_PHY_SPEC_STATUS, reset: 0, writable: 0 },
  { index: M88_EXT_PHY_SPEC_CTRL, reset: 0x0d60, writable: 0xffff },
];
const byIndex = new Map(phyRegisters.map((r) => [r.index, r]));
const READ_ONLY = [8, 19, 21, 26];

/** What the other end of the cable advertises: everything up to 100 Mbit/s, acknowledged; no pause frames. */
const LP_ABILITY_LINKED = 0x41e1;
/** The other end can do autonegotiation. */
const AUTONEG_EXP_LINKED = 0x0001;
/** The other end does 1000BASE-T in half and full duplex; both receivers are well. */
const LP_1000T_LINKED = 0x3c00;
/** 1000 Mbit/s, full duplex, resolved, link up */
const SPEC_STATUS_LINKED = 0xac00;

export class Phy {
  readonly #registers = new Uint16Array(32);
  #cable = true;
  /** §22.2.4.2.13: once down, the link bit says so until it is read */
  #wasDown = false;

  /** `onLink`: the link came up or went down, or was negotiated anew. */
  constructor(readonly onLink: () => void) {
    this.#load();
  }

  /** The link is up, as the controller is told. */
  get linked(): boolean {
    return (this.#cable || this.loopback) && (this.#registers[PHY_CONTROL]! & CONTROL_POWER_DOWN) === 0;
  }

  /** What is sent comes back. */
  get loopback(): boolean {
    return (this.#registers[PHY_CONTROL]! & CONTROL_LOOPBACK) !== 0;
  }

  /** The cable is plugged in, or taken out. */
  setCable(plugged: boolean): void {
    if (plugged === this.#cable) return;
    this.#cable = plugged;
    this.#negotiate();
  }

  reset(): void {
    this.#load();
    this.#negotiate();
  }

  read(index: number): number {
    const value = this.#registers[index]!;
    if (index !== PHY_STATUS || !this.#wasDown) return value;
    this.#wasDown = false;
    return value & ~STATUS_LINK;
  }

  write(index: number, value: number): void {
    if (READ_ONLY.includes(index)) return;
    const mask = byIndex.get(index)?.writable ?? 0xffff;
    const before = this.#registers[index]!;
    this.#registers[index] = (before & ~mask) | (value & mask);
    if (index !== PHY_CONTROL) return;
    if ((value & CONTROL_RESET) !== 0) this.reset();
    else if (((before ^ value) & LINK_CONTROLS) !== 0 || (value & CONTROL_RESTART_AUTO_NEG) !== 0) this.#negotiate();
  }

  #load(): void {
    this.#registers.fill(0);
    for (const { index, reset } of phyRegisters) this.#registers[index] = reset;
    this.#describe();
  }

  /** The link goes down, and comes up again if it can. */
  #negotiate(): void {
    this.#wasDown = true;
    this.#describe();
    this.onLink();
  }

  #describe(): void {
    const registers = this.#registers;
    const { linked } = this;
    const negotiated = linked && (registers[PHY_CONTROL]! & CONTROL_AUTO_NEG_EN) !== 0;
    registers[PHY_STATUS] =
      byIndex.get(PHY_STATUS)!.reset | (linked ? STATUS_LINK : 0) | (negotiated ? STATUS_AUTONEG_COMPLETE : 0);
    registers[PHY_LP_ABILITY] = negotiated ? LP_ABILITY_LINKED : 0;
    registers[PHY_AUTONEG_EXP] = negotiated ? AUTONEG_EXP_LINKED : 0;
    registers[PHY_1000T_STATUS] = negotiated ? LP_1000T_LINKED : 0;
    registers[M88_PHY_SPEC_STATUS] = linked ? SPEC_STATUS_LINKED : 0;
  }
}
