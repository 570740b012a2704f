/**
 * The registers of an 82545EM as a table: name, place, value after reset, the bits that a write changes, and what
 * a read or a write does beyond that.
 *
 * Names, places and bits: PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (Intel 317453;
 * below "manual") §13.3 and §13.4. Registers are 32 bits wide and are read and written as such (§13.2). Many have a
 * second address, where the 82542 had them.
 */

/** bytes of the register BAR (manual §4.1.1) */
export const REGISTER_BYTES = 0x20000;

// ---- places ----

export const CTRL = 0x00000;
export const STATUS = 0x00008;
export const EECD = 0x00010;
export const EERD = 0x00014;
export const CTRL_EXT = 0x00018;
export const MDIC = 0x00020;
export const FCAL = 0x00028;
export const FCAH = 0x0002c;
export const FCT = 0x00030;
export const VET = 0x00038;
export const ICR = 0x000c0;
export const ITR = 0x000c4;
export const ICS = 0x000c8;
export const IMS = 0x000d0;
export const IMC = 0x000d8;
export const RCTL = 0x00100;
export const TCTL = 0x00400;
export const RDBAL = 0x02800;
export const RDLEN = 0x02808;
export const RDH = 0x02810;
export const RDT = 0x02818;
export const RDTR = 0x02820;
export const RADV = 0x0282c;
export const RSRPD = 0x02c00;
export const TDBAL = 0x03800;
export const TDLEN = 0x03808;
export const TDH = 0x03810;
export const TDT = 0x03818;
export const TIDV = 0x03820;
export const TXDCTL = 0x03828;
export const TADV = 0x0382c;
export const MPC = 0x04010;
export const RLEC = 0x04040;
export const XONRXC = 0x04048;
export const XOFFRXC = 0x04050;
export const FCRUC = 0x04058;
export const PRC64 = 0x0405c;
export const GPRC = 0x04074;
export const BPRC = 0x04078;
export const MPRC = 0x0407c;
export const GPTC = 0x04080;
export const GORCL = 0x04088;
export const GOTCL = 0x04090;
export const RNBC = 0x040a0;
export const ROC = 0x040ac;
export const TORL = 0x040c0;
export const TOTL = 0x040c8;
export const TPR = 0x040d0;
export const TPT = 0x040d4;
export const PTC64 = 0x040d8;
export const MPTC = 0x040f0;
export const BPTC = 0x040f4;
export const TSCTC = 0x040f8;
export const TSCTFC = 0x040fc;
export const RXCSUM = 0x05000;
export const MTA = 0x05200;
/** RAL and RAH in turn, of 16 addresses */
export const RA = 0x05400;
export const VFTA = 0x05600;
export const WUS = 0x05810;

// ---- bits ----

// device control (manual §13.4.1)
export const CTRL_FD = 0x00000001;
export const CTRL_SLU = 0x00000040;
export const CTRL_SPD_1000 = 0x00000200;
export const CTRL_RST = 0x04000000;
export const CTRL_RFCE = 0x08000000;
export const CTRL_VME = 0x40000000;
export const CTRL_PHY_RST = 0x80000000;

// device status (§13.4.2)
const STATUS_FD = 0x00000001;
export const STATUS_LU = 0x00000002;
const STATUS_SPEED_1000 = 0x00000080;
const STATUS_ASDV_1000 = 0x00000200;

/** §13.4.5: reinitialise from EEPROM */
export const CTRL_EXT_EE_RST = 0x00002000;

// EEPROM control and read (§13.4.3, §13.4.4)
export const EECD_SK = 0x001;
export const EECD_CS = 0x002;
export const EECD_DI = 0x004;
export const EECD_DO = 0x008;
const EECD_FWE = 0x030;
export const EECD_REQ = 0x040;
export const EECD_GNT = 0x080;
const EECD_PRES = 0x100;
export const EERD_START = 0x01;
export const EERD_DONE = 0x10;

// MDI control (§13.4.7)
export const MDIC_OP_WRITE = 0x04000000;
export const MDIC_OP_READ = 0x08000000;
export const MDIC_READY = 0x10000000;
export const MDIC_INT_EN = 0x20000000;
export const MDIC_ERROR = 0x40000000;

// interrupt causes (§13.4.17)
export const ICR_TXDW = 0x00000001;
export const ICR_TXQE = 0x00000002;
export const ICR_LSC = 0x00000004;
export const ICR_RXDMT0 = 0x00000010;
export const ICR_RXO = 0x00000040;
export const ICR_RXT0 = 0x00000080;
export const ICR_MDAC = 0x00000200;
export const ICR_TXD_LOW = 0x00008000;
export const ICR_SRPD = 0x00010000;
/** every bit that can be set: reserved ones too, up to 16, for Linux's self-test wants an interrupt from each of the first ten */
const ICR_ALL = 0x0001ffff;

// receive control (§13.4.22)
export const RCTL_EN = 0x00000002;
export const RCTL_SBP = 0x00000004;
export const RCTL_UPE = 0x00000008;
export const RCTL_MPE = 0x00000010;
export const RCTL_LPE = 0x00000020;
/** loopback mode; of its four values the first is off, and the second that of the MAC */
export const RCTL_LBM = 0x000000c0;
export const RCTL_LBM_MAC = 0x00000040;
export const RCTL_RDMTS_SHIFT = 8;
export const RCTL_MO_SHIFT = 12;
export const RCTL_BAM = 0x00008000;
export const RCTL_BSIZE_SHIFT = 16;
export const RCTL_VFE = 0x00040000;
export const RCTL_CFIEN = 0x00080000;
export const RCTL_CFI = 0x00100000;
export const RCTL_DPF = 0x00400000;
export const RCTL_PMCF = 0x00800000;
export const RCTL_BSEX = 0x02000000;
export const RCTL_SECRC = 0x04000000;

/** §13.4.33 */
export const TCTL_EN = 0x00000002;
/** §13.4.30: flush the partial descriptor block */
export const RDTR_FPD = 0x80000000;

// receive checksum control (§13.5.15)
export const RXCSUM_PCSS = 0x0ff;
export const RXCSUM_IPOFLD = 0x100;
export const RXCSUM_TUOFLD = 0x200;

/** §13.5.2: address valid */
export const RAH_AV = 0x80000000;
export const RAH_AS = 0x00030000;

// ---- the table ----

/** What a register does when it is read, or after it was written; the device has a function for each. */
export type ReadHook = 'clear' | 'clearPair' | 'icr' | 'ics';
export type WriteHook =
  | 'ctrl'
  | 'eecd'
  | 'eerd'
  | 'ctrlExt'
  | 'mdic'
  | 'icr'
  | 'ics'
  | 'ims'
  | 'imc'
  | 'itr'
  | 'rctl'
  | 'tctl'
  | 'ring'
  | 'rdt'
  | 'rdtr'
  | 'tdt'
  | 'writeOneClears'
  | 'ra';

export interface RegisterSpec {
  readonly name: string;
  readonly offset: number;
  /** value after reset */
  readonly reset: number;
  /** bits that a write changes */
  readonly writable: number;
  /** registers of an array (default 1) */
  readonly count?: number;
  /** bytes from one to the next (default 4) */
  readonly stride?: number;
  /** where the 82542 had it (manual table 13-2) */
  readonly alias?: number;
  readonly onRead?: ReadHook;
  readonly onWrite?: WriteHook;
}

const ALL = 0xffffffff;

/** Read and written, nothing more. */
function plain(name: string, offset: number, writable = ALL, reset = 0, alias?: number): RegisterSpec {
  return { name, offset, reset, writable, ...(alias === undefined ? {} : { alias }) };
}

function hooked(
  name: string,
  offset: number,
  writable: number,
  onWrite: WriteHook,
  reset = 0,
  alias?: number,
): RegisterSpec {
  return { ...plain(name, offset, writable, reset, alias), onWrite };
}

function array(name: string, offset: number, count: number, stride = 4, writable = ALL): RegisterSpec {
  return { name, offset, reset: 0, writable, count, stride };
}

/** §13.7: "all registers are cleared when read" and stick at the greatest value. */
function statistics(first: number, ...names: string[]): RegisterSpec[] {
  return names.flatMap((name, i): RegisterSpec[] => {
    if (name === '') return [];
    const offset = first + 4 * i;
    // of a pair, the upper half clears both when read
    if (/^(GORC|GOTC|TOR|TOT)L$/.test(name)) return [plain(name, offset, 0)];
    return [{ ...plain(name, offset, 0), onRead: /^(GORC|GOTC|TOR|TOT)H$/.test(name) ? 'clearPair' : 'clear' }];
  });
}

export const registerMap: readonly RegisterSpec[] = [
  // general (§13.4.1 to §13.4.16)
  {
    name: 'CTRL',
    offset: CTRL,
    reset: CTRL_FD | CTRL_SLU | CTRL_SPD_1000,
    writable: ~CTRL_RST,
    alias: 0x00004,
    onWrite: 'ctrl',
  },
  plain('STATUS', STATUS, 0, STATUS_FD | STATUS_SPEED_1000 | STATUS_ASDV_1000),
  hooked('EECD', EECD, EECD_SK | EECD_CS | EECD_DI | EECD_FWE | EECD_REQ, 'eecd', EECD_PRES | EECD_DO | 0x10),
  hooked('EERD', EERD, 0, 'eerd'),
  hooked('CTRL_EXT', CTRL_EXT, ~CTRL_EXT_EE_RST, 'ctrlExt'),
  hooked('MDIC', MDIC, 0, 'mdic', MDIC_READY),
  plain('FCAL', FCAL, ALL, 0x00c28001),
  plain('FCAH', FCAH, 0xffff, 0x0100),
  plain('FCT', FCT, 0xffff, 0x8808),
  plain('VET', VET, 0xffff, 0x8100),
  plain('FCTTV', 0x00170, 0xffff),
  plain('TXCW', 0x00178),
  plain('RXCW', 0x00180, 0),
  plain('LEDCTL', 0x00e00, ALL, 0x07061302),
  // 48 KiB for receive, 16 for transmit
  plain('PBA', 0x01000, 0xffff, 0x00100030),

  // interrupts (§13.4.17 to §13.4.21)
  { name: 'ICR', offset: ICR, reset: 0, writable: 0, onRead: 'icr', onWrite: 'icr' },
  hooked('ITR', ITR, 0xffff, 'itr'),
  { name: 'ICS', offset: ICS, reset: 0, writable: 0, onRead: 'ics', onWrite: 'ics' },
  hooked('IMS', IMS, 0, 'ims'),
  hooked('IMC', IMC, 0, 'imc'),

  // receive (§13.4.22 to §13.4.32)
  hooked('RCTL', RCTL, 0x06dfb3fe, 'rctl'),
  plain('FCRTL', 0x02160, 0x8000fff8, 0, 0x00168),
  plain('FCRTH', 0x02168, 0x0000fff8, 0, 0x00160),
  hooked('RDBAL', RDBAL, 0xfffffff0, 'ring', 0, 0x00110),
  hooked('RDBAH', RDBAL + 4, ALL, 'ring', 0, 0x00114),
  hooked('RDLEN', RDLEN, 0x000fff80, 'ring', 0, 0x00118),
  hooked('RDH', RDH, 0xffff, 'ring', 0, 0x00120),
  hooked('RDT', RDT, 0xffff, 'rdt', 0, 0x00128),
  hooked('RDTR', RDTR, 0xffff, 'rdtr', 0, 0x00108),
  plain('RXDCTL', 0x02828, 0x013f3f3f, 0x01010000),
  plain('RADV', RADV, 0xffff),
  plain('RSRPD', RSRPD, 0x0fff),

  // transmit (§13.4.33 to §13.4.46)
  hooked('TCTL', TCTL, 0x017ffffa, 'tctl'),
  plain('TIPG', 0x00410, 0x3fffffff),
  plain('AIT', 0x00458, 0xffff),
  plain('TXDMAC', 0x03000, 0x1),
  hooked('TDBAL', TDBAL, 0xfffffff0, 'ring', 0, 0x00420),
  hooked('TDBAH', TDBAL + 4, ALL, 'ring', 0, 0x00424),
  hooked('TDLEN', TDLEN, 0x000fff80, 'ring', 0, 0x00428),
  hooked('TDH', TDH, 0xffff, 'ring', 0, 0x00430),
  hooked('TDT', TDT, 0xffff, 'tdt', 0, 0x00438),
  plain('TIDV', TIDV, 0xffff, 0, 0x00440),
  plain('TXDCTL', TXDCTL, 0xff3f3f3f),
  plain('TADV', TADV, 0xffff),
  plain('TSPMT', 0x03830, ALL, 0x01000400),

  // statistics (§13.7); a gap is an empty name
  ...statistics(0x04000, 'CRCERRS', 'ALGNERRC', 'SYMERRS', 'RXERRC', 'MPC', 'SCC', 'ECOL', 'MCC', 'LATECOL'),
  ...statistics(0x04028, 'COLC', '', 'DC', 'TNCRS', 'SEC', 'CEXTERR', 'RLEC', '', 'XONRXC', 'XONTXC'),
  ...statistics(XOFFRXC, 'XOFFRXC', 'XOFFTXC', 'FCRUC'),
  ...statistics(PRC64, 'PRC64', 'PRC127', 'PRC255', 'PRC511', 'PRC1023', 'PRC1522'),
  ...statistics(GPRC, 'GPRC', 'BPRC', 'MPRC', 'GPTC', '', 'GORCL', 'GORCH', 'GOTCL', 'GOTCH'),
  ...statistics(RNBC, 'RNBC', 'RUC', 'RFC', 'ROC', 'RJC', 'MGTPRC', 'MGTPDC', 'MGTPTC'),
  ...statistics(TORL, 'TORL', 'TORH', 'TOTL', 'TOTH', 'TPR', 'TPT'),
  ...statistics(PTC64, 'PTC64', 'PTC127', 'PTC255', 'PTC511', 'PTC1023', 'PTC1522'),
  ...statistics(MPTC, 'MPTC', 'BPTC', 'TSCTC', 'TSCTFC'),

  // filters and checksum (§13.5)
  plain('RXCSUM', RXCSUM, 0x7ff),
  { ...array('MTA', MTA, 128), alias: 0x00200 },
  { ...array('RAL', RA, 16, 8), onWrite: 'ra', alias: 0x00040 },
  { ...array('RAH', RA + 4, 16, 8, RAH_AV | RAH_AS | 0xffff), onWrite: 'ra', alias: 0x00044 },
  { ...array('VFTA', VFTA, 128), alias: 0x00600 },

  // wake-up and management (§13.6): kept for the driver, and without effect, for a fabric does not sleep
  plain('WUC', 0x05800, 0x0f),
  plain('WUFC', 0x05808, 0x000f80ff),
  hooked('WUS', WUS, 0, 'writeOneClears'),
  plain('MANC', 0x05820),
  plain('IPAV', 0x05838, 0x0001000f),
  array('IP4AT', 0x05840, 4, 8),
  array('IP6AT', 0x05880, 4),
  plain('WUPL', 0x05900, 0),
  array('WUPM', 0x05a00, 32, 4, 0),
  array('FFLT', 0x05f00, 4, 8, 0x7ff),
  array('FFMT', 0x09000, 128, 8, 0xf),
  array('FFVT', 0x09800, 128, 8),

  // diagnosis (§13.8): what a driver writes there can be read again
  plain('RDFH', 0x02410, 0x1fff, 0, 0x08000),
  plain('RDFT', 0x02418, 0x1fff, 0, 0x08008),
  plain('RDFHS', 0x02420, 0x1fff),
  plain('RDFTS', 0x02428, 0x1fff),
  plain('RDFPC', 0x02430, 0x1fff),
  plain('TDFH', 0x03410, 0x7ff, 0, 0x08010),
  plain('TDFT', 0x03418, 0x7ff, 0, 0x08018),
  plain('TDFHS', 0x03420, 0x1fff),
  plain('TDFTS', 0x03428, 0x1fff),
  plain('TDFPC', 0x03430, 0x1fff),
  array('PBM', 0x10000, 16384),
];

/** Causes that a driver may set, mask and clear. */
export const INTERRUPT_CAUSES = ICR_ALL;
