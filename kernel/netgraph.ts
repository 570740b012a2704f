/** The inner loops of netgraph nodes. */

// modes of a netgraph patch node (ng_patch.h)
const PATCH_SET = 1;
const PATCH_ADD = 2;
const PATCH_SUB = 3;
const PATCH_MUL = 4;
const PATCH_DIV = 5;
const PATCH_NEG = 6;
const PATCH_AND = 7;
const PATCH_OR = 8;
const PATCH_XOR = 9;
const PATCH_SHL = 10;

/**
 * Changes the big-endian integer of `len` bytes (1, 2, 4 or 8) at `at`. The operand is hi * 2^32 + lo, fits
 * `len` bytes, and is not 0 for a division; a shift by the integer's width or more leaves 0.
 */
export function patch(at: u32, len: u32, mode: u32, hi: u32, lo: u32): void {
  const bits: u64 = <u64>len << 3;
  let value: u64 = 0;
  for (let i: u32 = 0; i < len; i++) value = (value << 8) | <u64>load<u8>(at + i);
  const operand = (<u64>hi << 32) | <u64>lo;
  if (mode == PATCH_SET) value = operand;
  else if (mode == PATCH_ADD) value += operand;
  else if (mode == PATCH_SUB) value -= operand;
  else if (mode == PATCH_MUL) value *= operand;
  else if (mode == PATCH_DIV) value /= operand;
  else if (mode == PATCH_NEG) value = 0 - value;
  else if (mode == PATCH_AND) value &= operand;
  else if (mode == PATCH_OR) value |= operand;
  else if (mode == PATCH_XOR) value ^= operand;
  else if (operand >= bits) value = 0;
  else if (mode == PATCH_SHL) value <<= operand;
  else value >>= operand;
  for (let i: u32 = len; i > 0; i--) {
    store<u8>(at + i - 1, <u8>value);
    value >>= 8;
  }
}
