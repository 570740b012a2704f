;; The inner loops that plain TypeScript cannot do well: copies and checksums of window memory.
;; Compiled by scripts/build-kernel.ts into kernel-wasm.ts.
(module
  (import "window" "memory" (memory 1 65536))

  ;; memmove within the window
  (func (export "copy") (param $dst i32) (param $src i32) (param $len i32)
    (memory.copy (local.get $dst) (local.get $src) (local.get $len)))

  (func (export "fill") (param $dst i32) (param $byte i32) (param $len i32)
    (memory.fill (local.get $dst) (local.get $byte) (local.get $len)))

  ;; Sum of $len bytes from $off taken as little-endian 16-bit words, an odd last byte padded with
  ;; zero (RFC 1071), folded to 16 bits. Order of bytes does not matter to a ones' complement sum:
  ;; stored little-endian, its complement is the checksum field.
  (func (export "sum16") (param $off i32) (param $len i32) (result i32)
    (local $end i32) (local $acc i64) (local $v v128) (local $sum v128)
    ;; blocks of 16 bytes: pairs of u16 widen to u32 lanes, u32 lanes to u64 lanes each block
    (local.set $end (i32.add (local.get $off) (i32.and (local.get $len) (i32.const -16))))
    (block $done
      (loop $block
        (br_if $done (i32.eq (local.get $off) (local.get $end)))
        (local.set $v (i32x4.extadd_pairwise_i16x8_u (v128.load align=1 (local.get $off))))
        (local.set $sum (i64x2.add (local.get $sum)
          (i64x2.add (i64x2.extend_low_i32x4_u (local.get $v)) (i64x2.extend_high_i32x4_u (local.get $v)))))
        (local.set $off (i32.add (local.get $off) (i32.const 16)))
        (br $block)))
    (local.set $acc (i64.add
      (i64x2.extract_lane 0 (local.get $sum)) (i64x2.extract_lane 1 (local.get $sum))))
    ;; the tail: 2 bytes at a time
    (local.set $end (i32.add (local.get $off) (i32.and (local.get $len) (i32.const 14))))
    (block $tail
      (loop $word
        (br_if $tail (i32.eq (local.get $off) (local.get $end)))
        (local.set $acc (i64.add (local.get $acc) (i64.load16_u align=1 (local.get $off))))
        (local.set $off (i32.add (local.get $off) (i32.const 2)))
        (br $word)))
    (if (i32.and (local.get $len) (i32.const 1))
      (then (local.set $acc (i64.add (local.get $acc) (i64.load8_u (local.get $off))))))
    ;; fold
    (local.set $acc (i64.add (i64.and (local.get $acc) (i64.const 0xffffffff)) (i64.shr_u (local.get $acc) (i64.const 32))))
    (local.set $acc (i64.add (i64.and (local.get $acc) (i64.const 0xffff)) (i64.shr_u (local.get $acc) (i64.const 16))))
    (local.set $acc (i64.add (i64.and (local.get $acc) (i64.const 0xffff)) (i64.shr_u (local.get $acc) (i64.const 16))))
    (local.set $acc (i64.add (i64.and (local.get $acc) (i64.const 0xffff)) (i64.shr_u (local.get $acc) (i64.const 16))))
    (i32.wrap_i64 (local.get $acc))))
