import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type BpfInsn, BpfProgram } from '../../../src/netgraph/bpf/program.js';

const insn = (code: number, k = 0, jt = 0, jf = 0): BpfInsn => ({ code, jt, jf, k });
const RET_A = insn(0x16);

/** What a program leaves in the accumulator. */
function result(insns: BpfInsn[], frame: number[] = []): number {
  const u8 = Uint8Array.from([0xee, 0xee, ...frame, 0xee, 0xee]);
  return new BpfProgram([...insns, RET_A]).run(u8, 2, frame.length);
}

describe('classic BPF', () => {
  test('loads words, half words and bytes, big-endian, at a place or relative to X', () => {
    const frame = [0x81, 0x02, 0x83, 0x04, 0x45];
    assert.equal(result([insn(0x20, 0)], frame), 0x81028304);
    assert.equal(result([insn(0x28, 1)], frame), 0x0283);
    assert.equal(result([insn(0x30, 2)], frame), 0x83);
    assert.equal(result([insn(0x01, 1), insn(0x40, 0)], frame), 0x02830445);
    assert.equal(result([insn(0x01, 2), insn(0x48, 1)], frame), 0x0445);
    assert.equal(result([insn(0x01, 2), insn(0x50, 2)], frame), 0x45);
    assert.equal(result([insn(0x80)], frame), 5);
    assert.equal(result([insn(0xb1, 4), insn(0x87)], frame), 20);
  });

  test('a load beyond the frame ends the program with 0, and never reads what is behind it', () => {
    for (const at of [2, 3, 0xffffffff, 0xfffffffe])
      for (const code of [0x20, 0x28, 0x30, 0x40, 0x48, 0x50])
        if (at !== 2 || (code !== 0x30 && code !== 0x50))
          assert.equal(
            result([insn(0x01, 0), insn(code, at), insn(0x00, 1)], [1, 2, 3].slice(0, 2)),
            0,
            `${code} ${at}`,
          );
    assert.equal(result([insn(0x01, 0xffffffff), insn(0x50, 1)], [7]), 0);
    assert.equal(result([insn(0xb1, 1), insn(0x00, 1)], [7]), 0);
  });

  test('computes modulo 2^32, as 32-bit unsigned arithmetic does', () => {
    const u32 = fc.integer({ min: 0, max: 0xffffffff });
    const mask = 0xffffffffn;
    const ops: [number, (a: bigint, b: bigint) => bigint][] = [
      [0x00, (a, b) => a + b],
      [0x10, (a, b) => a - b],
      [0x20, (a, b) => a * b],
      [0x30, (a, b) => (b === 0n ? 0n : a / b)],
      [0x40, (a, b) => a | b],
      [0x50, (a, b) => a & b],
      [0x60, (a, b) => (b > 31n ? 0n : a << b)],
      [0x70, (a, b) => (b > 31n ? 0n : a >> b)],
      [0x90, (a, b) => (b === 0n ? 0n : a % b)],
      [0xa0, (a, b) => a ^ b],
    ];
    fc.assert(
      fc.property(
        u32,
        fc.oneof(u32, fc.integer({ min: 0, max: 40 })),
        fc.constantFrom(...ops),
        (a, b, [op, expect]) => {
          const program = [insn(0x00, a), insn(0x01, b), insn(0x04 | 0x08 | op)];
          assert.equal(result(program), Number(BigInt.asUintN(32, expect(BigInt(a), BigInt(b)) & mask)));
        },
      ),
    );
    assert.equal(result([insn(0x00, 1), insn(0x84)]), 0xffffffff);
  });

  test('jumps on equal, greater, greater or equal, and common bits', () => {
    const taken = (code: number, a: number, k: number): boolean =>
      result([insn(0x00, a), insn(code, k, 1, 0), RET_A, insn(0x00, 77)]) === 77;
    assert.deepEqual([taken(0x15, 5, 5), taken(0x15, 5, 6)], [true, false]);
    assert.deepEqual([taken(0x25, 0xffffffff, 1), taken(0x25, 1, 1)], [true, false]);
    assert.deepEqual([taken(0x35, 1, 1), taken(0x35, 0, 1)], [true, false]);
    assert.deepEqual([taken(0x45, 6, 4), taken(0x45, 3, 4)], [true, false]);
  });

  test('keeps values in memory, and forgets them with the frame', () => {
    assert.equal(result([insn(0x00, 9), insn(0x02, 15), insn(0x00, 0), insn(0x60, 15)]), 9);
    const program = new BpfProgram([insn(0x60, 3), insn(0x07), insn(0x00, 5), insn(0x02, 3), insn(0x87), RET_A]);
    assert.equal(program.run(new Uint8Array(4), 0, 4), 0);
    assert.equal(program.run(new Uint8Array(4), 0, 4), 0);
  });

  test('refuses what might not end, reads what is not there, or is no program, and says which instruction', () => {
    const bad: [BpfInsn[], RegExp][] = [
      [[], /0 instructions/],
      [Array.from({ length: 513 }, () => RET_A), /513 instructions/],
      [[insn(0x00, 1)], /no return/],
      [[insn(0x05, 1), RET_A], /instruction 0 .*jumps to 2/],
      [[insn(0x05, 0xffffffff), RET_A], /jumps/],
      [[insn(0x15, 0, 0, 1), RET_A], /jumps to 2/],
      [[insn(0x60, 16), RET_A], /word 16/],
      [[insn(0x02, 16), RET_A], /word 16/],
      [[insn(0x34, 0), RET_A], /divides by zero/],
      [[insn(0x94, 0), RET_A], /divides by zero/],
      [[insn(0xffff), RET_A], /no such instruction/],
      [[insn(0xb0), RET_A], /no such instruction/],
      [[insn(0x0e)], /no such instruction/],
    ];
    for (const [insns, message] of bad) assert.throws(() => new BpfProgram(insns), { code: 'EINVAL', message });
  });

  test('whatever passes the check ends, and stays within the frame', () => {
    const any = fc.record({
      code: fc.constantFrom(
        0x20,
        0x28,
        0x30,
        0x40,
        0x50,
        0x80,
        0x00,
        0x60,
        0x01,
        0x61,
        0xb1,
        0x02,
        0x03,
        0x04,
        0x0c,
        0x3c,
        0x6c,
        0x05,
        0x15,
        0x1d,
        0x45,
        0x07,
        0x87,
        0x06,
        0x16,
      ),
      jt: fc.integer({ min: 0, max: 4 }),
      jf: fc.integer({ min: 0, max: 4 }),
      k: fc.oneof(fc.integer({ min: 0, max: 20 }), fc.integer({ min: 0, max: 0xffffffff })),
    });
    fc.assert(
      fc.property(fc.array(any, { maxLength: 20 }), fc.uint8Array({ maxLength: 40 }), (insns, frame) => {
        let program: BpfProgram;
        try {
          program = new BpfProgram([...insns, RET_A]);
        } catch {
          return;
        }
        const alone = program.run(frame, 0, frame.length);
        const within = new Uint8Array(frame.length + 128).fill(0x5a);
        within.set(frame, 64);
        assert.equal(program.run(within, 64, frame.length), alone);
        assert.ok(Number.isInteger(alone) && alone >= 0 && alone < 2 ** 32);
      }),
    );
  });
});
