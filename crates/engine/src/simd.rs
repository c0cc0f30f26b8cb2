//! Loops over slices, compiled for the vector units of the CPU at hand.
//!
//! Each loop is plain Rust without fused multiply-add, so that its bits are the same on every CPU; only its speed differs.
#![allow(unsafe_code)]

mod functions;

use functions::{erf, exp, sigmoid, tanh};
use rayon::prelude::*;

/// Elements per parallel piece; fixed, so that nothing depends on the number of threads.
pub(crate) const PIECE: usize = 1 << 14;

/// Defines a function whose body is compiled for AVX-512, AVX2 and the baseline, and chosen at run time.
macro_rules! versions {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,f16c")]
                fn v4($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,f16c")]
                fn v3($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: the features that `v4` is compiled for were just detected.
                    return unsafe { v4($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") {
                    // SAFETY: the features that `v3` is compiled for were just detected.
                    return unsafe { v3($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

versions! {
    /// Rounds each element to the nearest fp16, ties to even; beyond the range to infinity; NaN stays.
    fn round_f16_piece(v: &mut [f32]) {
        for x in v {
            *x = rounded_f16(*x);
        }
    }
}

/// The nearest fp16, ties to even.
#[inline(always)]
fn rounded_f16(x: f32) -> f32 {
    let bits = x.to_bits();
    let sign = bits & 0x8000_0000;
    let magnitude = bits & 0x7fff_ffff;
    // Normal range: round the mantissa from 23 to 10 bits in place.
    let odd = (magnitude >> 13) & 1;
    let normal = (magnitude + 0xfff + odd) & !0x1fff;
    // Below 2^-14 the spacing is 2^-24: adding 0.5 rounds to it, since 0.5 has that spacing in f32.
    let small = ((f32::from_bits(magnitude) + 0.5) - 0.5).to_bits();
    let infinite = 0x7f80_0000;
    let mut out = if magnitude < 0x3880_0000 {
        small
    } else {
        normal
    };
    out = if magnitude >= 0x477f_f000 {
        infinite
    } else {
        out
    };
    out = if magnitude > infinite { magnitude } else { out };
    f32::from_bits(out | sign)
}

versions! {
    /// Little-endian fp16 elements as f32, exactly; NaN becomes quiet. Stops at the shorter of the two.
    pub(crate) fn widen(bytes: &[u8], out: &mut [f32]) {
        for (x, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
            let half = u32::from(u16::from_le_bytes(*b));
            let magnitude = half & 0x7fff;
            let normal = (magnitude << 13) + (112 << 23);
            // The spacing below 2^-14 is 2^-24, which is the last place of the floats from 2^-14 to 2^-13.
            let small = f32::from_bits((magnitude << 13) + (113 << 23)) - f32::from_bits(113 << 23);
            let mut bits = if magnitude < 0x400 { small.to_bits() } else { normal };
            bits = if magnitude >= 0x7c00 { normal + (112 << 23) } else { bits };
            bits = if magnitude > 0x7c00 { bits | 0x40_0000 } else { bits };
            *x = f32::from_bits(bits | (half & 0x8000) << 16);
        }
    }
}

/// Rounds each element to fp16.
pub(crate) fn round_f16(v: &mut [f32]) {
    v.par_chunks_mut(PIECE).for_each(round_f16_piece);
}

/// Elementwise functions of one operand and up to two parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Unary {
    Exp,
    Sigmoid,
    Silu,
    Relu,
    Tanh,
    Erf,
    GeluExact,
    GeluTanh,
    GeluSigmoid,
    Sqrt,
    Square,
    Abs,
    /// 1 / sqrt(x + epsilon).
    Rsqrt(f32),
    /// 1 / (x + epsilon).
    Inverse(f32),
    Clip(f32, f32),
}

versions! {
    fn unary_piece(op: Unary, v: &mut [f32]) {
        macro_rules! each {
            (|$x:ident| $y:expr) => {
                for slot in v {
                    let $x = *slot;
                    *slot = $y;
                }
            };
        }
        match op {
            Unary::Exp => each!(|x| exp(x)),
            Unary::Sigmoid => each!(|x| sigmoid(x)),
            Unary::Silu => each!(|x| x * sigmoid(x)),
            Unary::Relu => each!(|x| if x < 0.0 { 0.0 } else { x }),
            Unary::Tanh => each!(|x| tanh(x)),
            Unary::Erf => each!(|x| erf(x)),
            Unary::GeluExact => {
                each!(|x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)))
            }
            Unary::GeluTanh => {
                each!(|x| 0.5 * x * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * x * x * x))))
            }
            Unary::GeluSigmoid => each!(|x| x * sigmoid(1.702 * x)),
            Unary::Sqrt => each!(|x| x.sqrt()),
            Unary::Square => each!(|x| x * x),
            Unary::Abs => each!(|x| x.abs()),
            Unary::Rsqrt(e) => each!(|x| 1.0 / (x + e).sqrt()),
            Unary::Inverse(e) => each!(|x| 1.0 / (x + e)),
            Unary::Clip(low, high) => {
                each!(|x| if x < low { low } else if x > high { high } else { x })
            }
        }
    }
}

/// Applies a function to each element.
pub(crate) fn unary(op: Unary, v: &mut [f32]) {
    v.par_chunks_mut(PIECE)
        .for_each(|piece| unary_piece(op, piece));
}

/// Elementwise functions of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
}

/// An operand of a row: one element per position, or the same everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lane<'a> {
    Each(&'a [f32]),
    Same(f32),
}

versions! {
    /// `out[i] = x[i] op y[i]`.
    pub(crate) fn binary(op: Binary, out: &mut [f32], x: Lane<'_>, y: Lane<'_>) {
        macro_rules! each {
            ($f:expr) => {
                match (x, y) {
                    (Lane::Each(x), Lane::Each(y)) => {
                        for ((o, &a), &b) in out.iter_mut().zip(x).zip(y) {
                            *o = $f(a, b);
                        }
                    }
                    (Lane::Each(x), Lane::Same(b)) => {
                        for (o, &a) in out.iter_mut().zip(x) {
                            *o = $f(a, b);
                        }
                    }
                    (Lane::Same(a), Lane::Each(y)) => {
                        for (o, &b) in out.iter_mut().zip(y) {
                            *o = $f(a, b);
                        }
                    }
                    (Lane::Same(a), Lane::Same(b)) => out.fill($f(a, b)),
                }
            };
        }
        match op {
            Binary::Add => each!(|a: f32, b: f32| a + b),
            Binary::Sub => each!(|a: f32, b: f32| a - b),
            Binary::Mul => each!(|a: f32, b: f32| a * b),
            Binary::Div => each!(|a: f32, b: f32| a / b),
            Binary::Max => each!(|a: f32, b: f32| if b > a || b.is_nan() { b } else { a }),
            Binary::Min => each!(|a: f32, b: f32| if b < a || b.is_nan() { b } else { a }),
        }
    }
}

versions! {
    /// `x[i] = x[i] op y`, in place.
    pub(crate) fn binary_in_place(op: Binary, x: &mut [f32], y: Lane<'_>) {
        macro_rules! each {
            ($f:expr) => {
                match y {
                    Lane::Each(y) => {
                        for (a, &b) in x.iter_mut().zip(y) {
                            *a = $f(*a, b);
                        }
                    }
                    Lane::Same(b) => {
                        for a in x {
                            *a = $f(*a, b);
                        }
                    }
                }
            };
        }
        match op {
            Binary::Add => each!(|a: f32, b: f32| a + b),
            Binary::Sub => each!(|a: f32, b: f32| a - b),
            Binary::Mul => each!(|a: f32, b: f32| a * b),
            Binary::Div => each!(|a: f32, b: f32| a / b),
            Binary::Max => each!(|a: f32, b: f32| if b > a || b.is_nan() { b } else { a }),
            Binary::Min => each!(|a: f32, b: f32| if b < a || b.is_nan() { b } else { a }),
        }
    }
}

/// Lanes that sums run in; fixed, so that the order of additions is the same on every CPU.
const LANES: usize = 32;

versions! {
    /// Σ (x − shift)^power for power 1 or 2: lanes of f32 over 1024 elements, then f64.
    pub(crate) fn power_sum(v: &[f32], shift: f32, squared: bool) -> f64 {
        let mut total = 0f64;
        for block in v.chunks(1024) {
            let mut lanes = [0f32; LANES];
            let (whole, rest) = block.as_chunks::<LANES>();
            for chunk in whole {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    let d = x - shift;
                    *lane += if squared { d * d } else { d };
                }
            }
            for (lane, &x) in lanes.iter_mut().zip(rest) {
                let d = x - shift;
                *lane += if squared { d * d } else { d };
            }
            total += lanes.iter().map(|&l| f64::from(l)).sum::<f64>();
        }
        total
    }
}

versions! {
    /// The largest element; NaN is passed over.
    pub(crate) fn max(v: &[f32]) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        for chunk in v.chunks(LANES) {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane = if x > *lane { x } else { *lane };
            }
        }
        lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

versions! {
    /// `v = exp(v − shift)`.
    pub(crate) fn exp_shifted(v: &mut [f32], shift: f32) {
        for x in v {
            *x = exp(*x - shift);
        }
    }
}

versions! {
    /// `v = exp(v − top)` and `total += v`, per column.
    pub(crate) fn exp_columns(v: &mut [f32], top: &[f32], total: &mut [f32]) {
        for ((x, &t), sum) in v.iter_mut().zip(top).zip(total) {
            *x = exp(*x - t);
            *sum += *x;
        }
    }
}

versions! {
    /// `y = (x − mean) · scale · gamma + beta`; the mean in two parts, so that nearly equal elements keep their precision.
    pub(crate) fn normalize(v: &mut [f32], mean: (f32, f32), scale: f32, gamma: Lane<'_>, beta: Lane<'_>) {
        match (gamma, beta) {
            (Lane::Each(g), Lane::Each(b)) => {
                for ((x, &g), &b) in v.iter_mut().zip(g).zip(b) {
                    *x = (*x - mean.0 - mean.1) * scale * g + b;
                }
            }
            (Lane::Each(g), Lane::Same(b)) => {
                for (x, &g) in v.iter_mut().zip(g) {
                    *x = (*x - mean.0 - mean.1) * scale * g + b;
                }
            }
            (Lane::Same(g), Lane::Each(b)) => {
                for (x, &b) in v.iter_mut().zip(b) {
                    *x = (*x - mean.0 - mean.1) * scale * g + b;
                }
            }
            (Lane::Same(g), Lane::Same(b)) => {
                for x in v {
                    *x = (*x - mean.0 - mean.1) * scale * g + b;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_follows_half() {
        let mut x = 0u32;
        while let Some(next) = x.checked_add(9973) {
            x = next;
            let f = f32::from_bits(x);
            let mut v = [f];
            round_f16(&mut v);
            let want = half::f16::from_f32(f).to_f32();
            assert!(
                v[0].to_bits() == want.to_bits() || (v[0].is_nan() && want.is_nan()),
                "{f:e}: {:e} for {want:e}",
                v[0]
            );
        }
    }

    #[test]
    fn widening_follows_half() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut out = vec![0.0; 1 << 16];
        widen(&bytes, &mut out);
        for (bits, &x) in (0..=u16::MAX).zip(&out) {
            let want = half::f16::from_bits(bits).to_f32();
            assert!(
                x.to_bits() == want.to_bits(),
                "{bits:#x}: {x:e} for {want:e}"
            );
        }
    }

    /// Largest error of `op` against `reference`, absolute or relative.
    fn error(op: Unary, range: f32, relative: bool, reference: fn(f64) -> f64) -> f64 {
        let x: Vec<f32> = (0..200_001)
            .map(|i| (i as f32 / 100_000.0 - 1.0) * range)
            .collect();
        let mut y = x.clone();
        unary(op, &mut y);
        x.iter()
            .zip(&y)
            .map(|(&x, &y)| {
                let want = reference(x.into());
                (f64::from(y) - want).abs() / if relative { want.abs().max(1e-30) } else { 1.0 }
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_near_their_definitions() {
        assert!(error(Unary::Exp, 87.0, true, libm::exp) < 3e-7);
        assert!(error(Unary::Tanh, 10.0, true, libm::tanh) < 5e-7);
        assert!(error(Unary::Erf, 6.0, false, libm::erf) < 5e-7);
        assert!(error(Unary::Sigmoid, 80.0, true, |x| 1.0 / (1.0 + libm::exp(-x))) < 5e-7);
        let mut ends = [
            -200.0,
            200.0,
            f32::NAN,
            f32::NEG_INFINITY,
            f32::INFINITY,
            0.0,
        ];
        unary(Unary::Exp, &mut ends);
        assert_eq!(ends[..2], [0.0, f32::INFINITY]);
        assert!(ends[2].is_nan());
        assert_eq!(ends[3..], [0.0, f32::INFINITY, 1.0]);
    }

    #[test]
    fn sums_keep_their_precision() {
        let v: Vec<f32> = (0..100_000).map(|i| 1000.0 + (i % 10) as f32).collect();
        assert_eq!(power_sum(&v, 1000.0, false), 450_000.0);
        assert_eq!(power_sum(&v, 1000.0, true), 2_850_000.0);
        assert_eq!(max(&v), 1009.0);
    }
}
