/**
 * Classic BPF programs (bpf(4); McCanne and Jacobson 1993) as ng_bpf(4) runs them: checked once, then run
 * over each frame. A load beyond the end of the frame ends the program with 0, as in the kernel.
 */
import { usageError } from '../../errors.js';

/** struct bpf_insn */
export interface BpfInsn {
  code: number;
  jt: number;
  jf: number;
  k: number;
}

/** BPF_MAXINSNS of FreeBSD */
export const BPF_MAXINSNS = 512;
const BPF_MEMWORDS = 16;

// classes (net/bpf.h)
const BPF_LD = 0x00;
const BPF_LDX = 0x01;
const BPF_ST = 0x02;
const BPF_STX = 0x03;
const BPF_ALU = 0x04;
const BPF_JMP = 0x05;
const BPF_RET = 0x06;
const BPF_MISC = 0x07;
const BPF_X = 0x08;

// whole codes
const LD_W_ABS = 0x20;
const LD_H_ABS = 0x28;
const LD_B_ABS = 0x30;
const LD_W_IND = 0x40;
const LD_H_IND = 0x48;
const LD_B_IND = 0x50;
const LD_W_LEN = 0x80;
const LD_IMM = 0x00;
const LD_MEM = 0x60;
const LDX_IMM = 0x01;
const LDX_MEM = 0x61;
const LDX_LEN = 0x81;
const LDX_MSH = 0xb1;
const ALU_OPS = { add: 0x00, sub: 0x10, mul: 0x20, div: 0x30, or: 0x40, and: 0x50, lsh: 0x60, rsh: 0x70 } as const;
const ALU_NEG = 0x80;
const ALU_MOD = 0x90;
const ALU_XOR = 0xa0;
const JMP_JA = 0x00;
const JMP_JEQ = 0x10;
const JMP_JGT = 0x20;
const JMP_JGE = 0x30;
const JMP_JSET = 0x40;
const RET_K = 0x06;
const RET_A = 0x16;
const MISC_TAX = 0x07;
const MISC_TXA = 0x87;

const loads = new Set([LD_W_ABS, LD_H_ABS, LD_B_ABS, LD_W_IND, LD_H_IND, LD_B_IND, LD_W_LEN, LD_IMM, LD_MEM]);
const indexLoads = new Set([LDX_IMM, LDX_MEM, LDX_LEN, LDX_MSH]);
const aluOps = new Set<number>([...Object.values(ALU_OPS), ALU_MOD, ALU_XOR]);
const jumps = new Set([JMP_JEQ, JMP_JGT, JMP_JGE, JMP_JSET]);

export class BpfProgram {
  readonly #code: Uint16Array;
  readonly #jt: Uint8Array;
  readonly #jf: Uint8Array;
  readonly #k: Uint32Array;
  readonly #mem = new Uint32Array(BPF_MEMWORDS);

  /** Throws EINVAL, with the number of the instruction, for a program that might not end or reads what is not there. */
  constructor(readonly insns: readonly BpfInsn[]) {
    checkProgram(insns);
    this.#code = Uint16Array.from(insns, (i) => i.code);
    this.#jt = Uint8Array.from(insns, (i) => i.jt);
    this.#jf = Uint8Array.from(insns, (i) => i.jf);
    this.#k = Uint32Array.from(insns, (i) => i.k);
  }

  /** How many bytes of the frame at `off` to keep: 0 for one that does not match. */
  run(u8: Uint8Array, off: number, len: number): number {
    const code = this.#code;
    const mem = this.#mem;
    let a = 0;
    let x = 0;
    mem.fill(0);
    for (let pc = 0; ; pc++) {
      const k = this.#k[pc]!;
      const op = code[pc]!;
      switch (op & 7) {
        case BPF_LD: {
          const at = (op & 0xe0) === 0x40 ? x + k : k;
          switch (op) {
            case LD_W_ABS:
            case LD_W_IND:
              if (at + 4 > len) return 0;
              a =
                ((u8[off + at]! << 24) | (u8[off + at + 1]! << 16) | (u8[off + at + 2]! << 8) | u8[off + at + 3]!) >>>
                0;
              break;
            case LD_H_ABS:
            case LD_H_IND:
              if (at + 2 > len) return 0;
              a = (u8[off + at]! << 8) | u8[off + at + 1]!;
              break;
            case LD_B_ABS:
            case LD_B_IND:
              if (at >= len) return 0;
              a = u8[off + at]!;
              break;
            case LD_W_LEN:
              a = len;
              break;
            case LD_IMM:
              a = k;
              break;
            default:
              a = mem[k]!;
          }
          break;
        }
        case BPF_LDX:
          if (op === LDX_MSH) {
            if (k >= len) return 0;
            x = (u8[off + k]! & 15) << 2;
          } else x = op === LDX_IMM ? k : op === LDX_MEM ? mem[k]! : len;
          break;
        case BPF_ST:
          mem[k] = a;
          break;
        case BPF_STX:
          mem[k] = x;
          break;
        case BPF_ALU: {
          const value = (op & BPF_X) !== 0 ? x : k;
          if (value === 0 && ((op & 0xf0) === ALU_OPS.div || (op & 0xf0) === ALU_MOD)) return 0;
          a = compute(op & 0xf0, a, value);
          break;
        }
        case BPF_JMP: {
          const kind = op & 0xf0;
          if (kind === JMP_JA) {
            pc += k;
            break;
          }
          const value = (op & BPF_X) !== 0 ? x : k;
          pc += test(kind, a, value) ? this.#jt[pc]! : this.#jf[pc]!;
          break;
        }
        case BPF_RET:
          return op === RET_A ? a : k;
        default:
          if (op === MISC_TAX) x = a;
          else a = x;
      }
    }
  }
}

function compute(op: number, a: number, value: number): number {
  switch (op) {
    case ALU_OPS.add:
      return (a + value) >>> 0;
    case ALU_OPS.sub:
      return (a - value) >>> 0;
    case ALU_OPS.mul:
      return Math.imul(a, value) >>> 0;
    case ALU_OPS.div:
      return Math.floor(a / value);
    case ALU_OPS.or:
      return (a | value) >>> 0;
    case ALU_OPS.and:
      return (a & value) >>> 0;
    case ALU_OPS.lsh:
      return value > 31 ? 0 : (a << value) >>> 0;
    case ALU_OPS.rsh:
      return value > 31 ? 0 : a >>> value;
    case ALU_NEG:
      return -a >>> 0;
    case ALU_MOD:
      return a % value;
    default:
      return (a ^ value) >>> 0;
  }
}

function test(kind: number, a: number, value: number): boolean {
  if (kind === JMP_JEQ) return a === value;
  if (kind === JMP_JGT) return a > value;
  if (kind === JMP_JGE) return a >= value;
  return (a & value) !== 0;
}

/** bpf_validate(9) */
function checkProgram(insns: readonly BpfInsn[]): void {
  if (insns.length < 1 || insns.length > BPF_MAXINSNS)
    throw usageError(`a BPF program of ${insns.length} instructions: allowed are 1 to ${BPF_MAXINSNS}`);
  for (const [i, insn] of insns.entries()) {
    const fault = faultOf(insn, i, insns.length);
    if (fault !== undefined)
      throw usageError(`instruction ${i} of the BPF program (code 0x${insn.code.toString(16)}): ${fault}`, String(i));
  }
  if ((insns[insns.length - 1]!.code & 7) !== BPF_RET)
    throw usageError('the last instruction of the BPF program is no return: it would run on into nothing');
}

function faultOf({ code, jt, jf, k }: BpfInsn, at: number, count: number): string | undefined {
  const beyond = (distance: number): string | undefined =>
    at + 1 + distance >= count ? `it jumps to ${at + 1 + distance}, and the program ends at ${count - 1}` : undefined;
  const word = (): string | undefined =>
    k >= BPF_MEMWORDS ? `it uses word ${k} of memory; there are ${BPF_MEMWORDS}` : undefined;
  const unknown = 'there is no such instruction';
  switch (code & 7) {
    case BPF_LD:
      return loads.has(code) ? (code === LD_MEM ? word() : undefined) : unknown;
    case BPF_LDX:
      return indexLoads.has(code) ? (code === LDX_MEM ? word() : undefined) : unknown;
    case BPF_ST:
    case BPF_STX:
      return code === BPF_ST || code === BPF_STX ? word() : unknown;
    case BPF_ALU: {
      if (code === (BPF_ALU | ALU_NEG)) return undefined;
      if (code > 0xff || !aluOps.has(code & 0xf0)) return unknown;
      const divides = (code & 0xf0) === ALU_OPS.div || (code & 0xf0) === ALU_MOD;
      return divides && (code & BPF_X) === 0 && k === 0 ? 'it divides by zero' : undefined;
    }
    case BPF_JMP:
      if (code === (BPF_JMP | JMP_JA)) return beyond(k);
      if (code > 0xff || !jumps.has(code & 0xf0)) return unknown;
      return beyond(jt) ?? beyond(jf);
    case BPF_RET:
      return code === RET_K || code === RET_A ? undefined : unknown;
    case BPF_MISC:
      return code === MISC_TAX || code === MISC_TXA ? undefined : unknown;
    default:
      return unknown;
  }
}
