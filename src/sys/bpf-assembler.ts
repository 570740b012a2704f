/**
 * Classic BPF (linux/bpf_common.h, struct sock_filter) as seccomp(2) takes it: instructions as rows of a
 * table, and blocks of them that are put together by plain concatenation.
 */

/** code, jump if true, jump if false (instructions to skip), operand */
export type Instruction = readonly [code: number, jt: number, jf: number, k: number];

const BPF_LD_W_ABS = 0x20;
const BPF_ALU_AND_K = 0x54;
const BPF_JMP_JEQ_K = 0x15;
const BPF_JMP_JGT_K = 0x25;
const BPF_JMP_JGE_K = 0x35;
const BPF_RET_K = 0x06;

/** BPF_MAXINSNS: the longest program the kernel takes */
export const MAX_INSTRUCTIONS = 4096;

/** Loads the 32-bit word at `off`. */
export const load = (off: number): Instruction => [BPF_LD_W_ABS, 0, 0, off];
export const and = (mask: number): Instruction => [BPF_ALU_AND_K, 0, 0, mask >>> 0];
export const ret = (value: number): Instruction => [BPF_RET_K, 0, 0, value >>> 0];
/** Skips `jt` instructions where the word equals `k`, else `jf`; likewise the next two. */
export const jumpEqual = (k: number, jt: number, jf: number): Instruction => [BPF_JMP_JEQ_K, jt, jf, k >>> 0];
export const jumpGreater = (k: number, jt: number, jf: number): Instruction => [BPF_JMP_JGT_K, jt, jf, k >>> 0];
export const jumpAtLeast = (k: number, jt: number, jf: number): Instruction => [BPF_JMP_JGE_K, jt, jf, k >>> 0];

/** `body` where the word equals `k`, else past it. The body must end by itself. */
export function whenEqual(k: number, body: readonly Instruction[]): Instruction[] {
  return [jumpEqual(k, 0, body.length), ...body];
}

/** The program in memory: struct sock_filter is { u16 code; u8 jt; u8 jf; u32 k; }. */
export function encode(program: readonly Instruction[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(program.length * 8));
  program.forEach(([code, jt, jf, k], i) => {
    if (jt > 255 || jf > 255) throw new RangeError(`instruction ${i} jumps over more than 255`);
    view.setUint16(i * 8, code, true);
    view.setUint8(i * 8 + 2, jt);
    view.setUint8(i * 8 + 3, jf);
    view.setUint32(i * 8 + 4, k, true);
  });
  return new Uint8Array(view.buffer);
}

/** What the kernel would return for `data` (struct seccomp_data): for tests, without a kernel. */
export function interpret(program: readonly Instruction[], data: Uint8Array): number {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let word = 0;
  for (let pc = 0; pc < program.length; pc++) {
    const [code, jt, jf, k] = program[pc] as Instruction;
    if (code === BPF_RET_K) return k;
    if (code === BPF_LD_W_ABS) word = view.getUint32(k, true);
    else if (code === BPF_ALU_AND_K) word = (word & k) >>> 0;
    else {
      const yes = code === BPF_JMP_JEQ_K ? word === k : code === BPF_JMP_JGT_K ? word > k : word >= k;
      pc += yes ? jt : jf;
    }
  }
  throw new RangeError('the program has no end');
}
