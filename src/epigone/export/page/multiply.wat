;; y = scale * (W x) + bias, for a matrix W of 8-bit integers, four rows at a time and eight columns at a step.
;;
;; All are addresses in bytes. W: int8 [rows, n]; scale, bias and y: f32 [rows]; x: f32 [n]. n is a multiple of 8. Of the
;; last four rows those beyond `rows` are computed too, from whatever follows, and written behind y.
;; model.js has the same sums in the same order for browsers without SIMD: both give the same bits.
(module
  (import "page" "memory" (memory 1))
  (func (export "multiply")
    (param $w i32) (param $scale i32) (param $bias i32) (param $x i32) (param $y i32) (param $n i32) (param $rows i32)
    (local $at i32) (local $end i32) (local $w1 i32) (local $w2 i32) (local $w3 i32)
    (local $a0 v128) (local $a1 v128) (local $a2 v128) (local $a3 v128)
    (local $low v128) (local $high v128) (local $eight v128)
    local.get $x  local.get $n  i32.const 2  i32.shl  i32.add  local.set $end
    loop $row
      f32.const 0  f32x4.splat  local.tee $a0  local.tee $a1  local.tee $a2  local.set $a3
      local.get $w  local.get $n  i32.add  local.tee $w1
      local.get $n  i32.add  local.tee $w2
      local.get $n  i32.add  local.set $w3
      local.get $x  local.set $at
      loop $column
        local.get $at  v128.load  local.set $low
        local.get $at  v128.load offset=16  local.set $high

        local.get $w  v128.load8x8_s  local.set $eight
        local.get $a0
        local.get $eight  i32x4.extend_low_i16x8_s   f32x4.convert_i32x4_s  local.get $low   f32x4.mul  f32x4.add
        local.get $eight  i32x4.extend_high_i16x8_s  f32x4.convert_i32x4_s  local.get $high  f32x4.mul  f32x4.add
        local.set $a0

        local.get $w1  v128.load8x8_s  local.set $eight
        local.get $a1
        local.get $eight  i32x4.extend_low_i16x8_s   f32x4.convert_i32x4_s  local.get $low   f32x4.mul  f32x4.add
        local.get $eight  i32x4.extend_high_i16x8_s  f32x4.convert_i32x4_s  local.get $high  f32x4.mul  f32x4.add
        local.set $a1

        local.get $w2  v128.load8x8_s  local.set $eight
        local.get $a2
        local.get $eight  i32x4.extend_low_i16x8_s   f32x4.convert_i32x4_s  local.get $low   f32x4.mul  f32x4.add
        local.get $eight  i32x4.extend_high_i16x8_s  f32x4.convert_i32x4_s  local.get $high  f32x4.mul  f32x4.add
        local.set $a2

        local.get $w3  v128.load8x8_s  local.set $eight
        local.get $a3
        local.get $eight  i32x4.extend_low_i16x8_s   f32x4.convert_i32x4_s  local.get $low   f32x4.mul  f32x4.add
        local.get $eight  i32x4.extend_high_i16x8_s  f32x4.convert_i32x4_s  local.get $high  f32x4.mul  f32x4.add
        local.set $a3

        local.get $w   i32.const 8  i32.add  local.set $w
        local.get $w1  i32.const 8  i32.add  local.set $w1
        local.get $w2  i32.const 8  i32.add  local.set $w2
        local.get $w3  i32.const 8  i32.add  local.set $w3
        local.get $at  i32.const 32  i32.add  local.tee $at
        local.get $end  i32.lt_u  br_if $column
      end

      ;; the four lanes of each sum: first with third and second with fourth, then these two
      local.get $a0  local.get $a1  i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23
      local.get $a0  local.get $a1  i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31
      f32x4.add  local.set $a0
      local.get $a2  local.get $a3  i8x16.shuffle 0 1 2 3 16 17 18 19 4 5 6 7 20 21 22 23
      local.get $a2  local.get $a3  i8x16.shuffle 8 9 10 11 24 25 26 27 12 13 14 15 28 29 30 31
      f32x4.add  local.set $a2
      local.get $y
      local.get $a0  local.get $a2  i8x16.shuffle 0 1 2 3 4 5 6 7 16 17 18 19 20 21 22 23
      local.get $a0  local.get $a2  i8x16.shuffle 8 9 10 11 12 13 14 15 24 25 26 27 28 29 30 31
      f32x4.add
      local.get $scale  v128.load  f32x4.mul
      local.get $bias  v128.load  f32x4.add
      v128.store

      local.get $w3  local.set $w
      local.get $scale  i32.const 16  i32.add  local.set $scale
      local.get $bias  i32.const 16  i32.add  local.set $bias
      local.get $y  i32.const 16  i32.add  local.set $y
      local.get $rows  i32.const 4  i32.sub  local.tee $rows
      i32.const 0  i32.gt_s  br_if $row
    end))
