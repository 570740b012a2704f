/**
 * bpf(2): maps, programs and links, and the eBPF instructions to write a small program with.
 *
 * A program is attached by a link (BPF_LINK_CREATE): a descriptor that owns the attachment. Whatever
 * ends the process closes it, and the kernel detaches the program.
 */
import { arch } from 'node:process';
import { NetbeError } from '../errors.js';
import { type Fd, ownFd } from './fd.js';
import { E, errno, errnoText, libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';

const syscallC = libc.func('int64_t syscall(int64_t number, int64_t cmd, uint64_t attr, int64_t size)') as (
  number: number,
  cmd: number,
  attr: number,
  size: number,
) => number;

// asm/unistd_64.h, asm-generic/unistd.h
const NR_BPF = arch === 'arm64' ? 280 : 321;

// linux/bpf.h
const BPF_MAP_CREATE = 0;
const BPF_MAP_UPDATE_ELEM = 2;
const BPF_PROG_LOAD = 5;
const BPF_LINK_CREATE = 28;
export const BPF_MAP_TYPE_XSKMAP = 17;
export const BPF_PROG_TYPE_SCHED_CLS = 3;
export const BPF_PROG_TYPE_XDP = 6;
export const BPF_XDP = 37;
export const BPF_TCX_INGRESS = 46;
export const BPF_TCX_EGRESS = 47;
/** the program can handle frames of more than one buffer (Linux 5.18) */
export const BPF_F_XDP_HAS_FRAGS = 1 << 5;
const BPF_OBJ_NAME_LEN = 16;
const BPF_PSEUDO_MAP_FD = 1;
export const BPF_FUNC_redirect = 23;
export const BPF_FUNC_redirect_map = 51;
/** of bpf_redirect: arrives at the interface, instead of leaving through it */
export const BPF_F_INGRESS = 1;
/** of a link: before the programs that are there, instead of behind them (tcx) */
export const BPF_F_BEFORE = 1 << 3;

// registers
export const R0 = 0;
export const R1 = 1;
export const R2 = 2;
export const R3 = 3;

/** One or two instructions of 8 bytes: { code, dst | src << 4, off, imm }. */
export type BpfInsn = readonly [code: number, dst: number, src: number, off: number, imm: number];

/** dst = *(u32 *)(src + off) */
export const ldxW = (dst: number, src: number, off: number): BpfInsn[] => [[0x61, dst, src, off, 0]];
/** *(u32 *)(dst + off) = src */
export const stxW = (dst: number, off: number, src: number): BpfInsn[] => [[0x63, dst, src, off, 0]];
/** Skips `count` instructions unless dst == imm. */
export const jumpUnlessEqual = (dst: number, imm: number, count: number): BpfInsn[] => [[0x55, dst, 0, count, imm]];
/** dst = imm */
export const mov = (dst: number, imm: number): BpfInsn[] => [[0xb7, dst, 0, 0, imm]];
/** dst = the map behind a descriptor */
export const ldMapFd = (dst: number, fd: number): BpfInsn[] => [
  [0x18, dst, BPF_PSEUDO_MAP_FD, 0, fd],
  [0, 0, 0, 0, 0],
];
export const call = (helper: number): BpfInsn[] => [[0x85, 0, 0, 0, helper]];
export const exit = (): BpfInsn[] => [[0x95, 0, 0, 0, 0]];

/** The program as the kernel takes it. */
export function assemble(insns: readonly BpfInsn[]): NativeBuffer {
  const out = new NativeBuffer(insns.length * 8);
  const view = new DataView(out.u8.buffer);
  insns.forEach(([code, dst, src, off, imm], i) => {
    view.setUint8(i * 8, code);
    view.setUint8(i * 8 + 1, dst | (src << 4));
    view.setInt16(i * 8 + 2, off, true);
    view.setInt32(i * 8 + 4, imm, true);
  });
  return out;
}

/** bytes of union bpf_attr that are handed over; those a kernel does not know must be zero, and are */
const ATTR_BYTES = 128;
const attr = new NativeBuffer(ATTR_BYTES);

function bpf(cmd: number): number {
  return syscallC(NR_BPF, cmd, attr.addr, ATTR_BYTES);
}

function setName(off: number, name: string): void {
  attr.u8.set(Buffer.from(name.slice(0, BPF_OBJ_NAME_LEN - 1)), off);
}

const remedy = 'bpf(2) needs CAP_BPF and CAP_NET_ADMIN (or root), and a kernel that does not lock it away.';

/** An error of bpf(2), with what it takes where permission is missing. */
function bpfError(what: string, no: number): NetbeError {
  return sysError(`bpf ${what}`, undefined, no === E.EPERM || no === E.EACCES ? remedy : undefined, no);
}

/** A map with 32-bit keys and values. */
export function createMap(mapType: number, maxEntries: number, name: string): Fd {
  attr.u8.fill(0);
  attr.u32.set([mapType, 4, 4, maxEntries, 0, 0, 0]);
  setName(28, name);
  const fd = bpf(BPF_MAP_CREATE);
  if (fd < 0) throw bpfError('BPF_MAP_CREATE', errno());
  return ownFd(fd, 'bpf');
}

const keyAndValue = new NativeBuffer(8);

export function updateMap(map: number, key: number, value: number): void {
  keyAndValue.u32[0] = key;
  keyAndValue.u32[1] = value;
  attr.u8.fill(0);
  attr.u32[0] = map;
  attr.setU64(8, keyAndValue.addr);
  attr.setU64(16, keyAndValue.addr + 4);
  if (bpf(BPF_MAP_UPDATE_ELEM) !== 0) throw bpfError('BPF_MAP_UPDATE_ELEM', errno());
}

const LOG_BYTES = 64 * 1024;

export interface ProgramSpec {
  type: number;
  name: string;
  insns: readonly BpfInsn[];
  flags?: number;
  expectedAttachType?: number;
}

/** Loads a program. Throws NetbeError with what the verifier said, if it refused. */
export function loadProgram({ type, name, insns, flags = 0, expectedAttachType = 0 }: ProgramSpec): Fd {
  const code = assemble(insns);
  const license = new NativeBuffer(16);
  license.u8.set(Buffer.from('Dual BSD/GPL'));
  const setAttr = (log: NativeBuffer | undefined): void => {
    attr.u8.fill(0);
    attr.u32.set([type, insns.length]);
    attr.setU64(8, code.addr);
    attr.setU64(16, license.addr);
    if (log !== undefined) {
      attr.u32[6] = 1;
      attr.u32[7] = LOG_BYTES;
      attr.setU64(32, log.addr);
    }
    attr.u32[11] = flags;
    setName(48, name);
    attr.u32[17] = expectedAttachType;
  };
  setAttr(undefined);
  const fd = bpf(BPF_PROG_LOAD);
  if (fd >= 0) return ownFd(fd, 'bpf');
  const no = errno();
  if (no === E.EPERM) throw bpfError('BPF_PROG_LOAD', no);
  // once more, for the verifier's reasons
  const log = new NativeBuffer(LOG_BYTES);
  setAttr(log);
  const again = bpf(BPF_PROG_LOAD);
  if (again >= 0) return ownFd(again, 'bpf');
  const said = Buffer.from(log.u8.subarray(0, log.u8.indexOf(0)))
    .toString()
    .trim();
  throw new NetbeError(`bpf BPF_PROG_LOAD ${name}: ${errnoText(no)}${said === '' ? '' : `; the verifier: ${said}`}`, {
    code: bpfError('', no).code,
    kind: 'environment',
    errno: no,
    syscall: 'bpf',
    subject: name,
  });
}

/** Attaches a program to an interface until the descriptor is closed. Throws NetbeError, EBUSY or EEXIST if another is there. */
export function createLink(program: number, ifindex: number, attachType: number, flags = 0): Fd {
  attr.u8.fill(0);
  attr.u32.set([program, ifindex, attachType, flags]);
  const fd = bpf(BPF_LINK_CREATE);
  if (fd < 0) throw bpfError('BPF_LINK_CREATE', errno());
  return ownFd(fd, 'bpf');
}
