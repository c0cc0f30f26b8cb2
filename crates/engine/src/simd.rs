//! Loops over slices, compiled for the vector units of the CPU at hand.
//!
//! Each loop is plain Rust without fused multiply-add, so that its bits are the same on every CPU; only its speed differs.
#![allow(unsafe_code)]

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

/// Rounds each element to fp16.
pub(crate) fn round_f16(v: &mut [f32]) {
    v.par_chunks_mut(PIECE).for_each(round_f16_piece);
}

/// exp: relative error below 2e-7; 0 and infinity at the ends, NaN stays.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding it leaves the nearest integer in the low mantissa bits.
    const MAGIC: f32 = 12_582_912.0;
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for c in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        p = p * r + c;
    }
    let y = p * r * r + r + 1.0;
    // 2^n in two factors, so that both ends of the range are met.
    let i = shifted.to_bits().wrapping_sub(MAGIC.to_bits()) as i32;
    let half = i >> 1;
    let power = |e: i32| f32::from_bits((e.wrapping_add(127) as u32) << 23);
    y * power(half) * power(i.wrapping_sub(half))
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// erf: absolute error below 5e-7; a rational function on [-4, 4].
#[inline(always)]
fn erf(x: f32) -> f32 {
    let c = if x < -4.0 { -4.0 } else { x };
    let c = if c > 4.0 { 4.0 } else { c };
    let z = c * c;
    let mut p = -2.726_142_3e-10;
    for a in [
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_3e-5,
        -7.349_906_4e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ] {
        p = p * z + a;
    }
    let mut q = -1.456_607_2e-5;
    for b in [
        -2.133_740_6e-4,
        -1.682_827e-3,
        -7.373_329e-3,
        -1.426_473_9e-2,
    ] {
        q = q * z + b;
    }
    c * p / q
}

/// tanh: relative error below 5e-7.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let c = if x < -7.905_311 { -7.905_311 } else { x };
    let c = if c > 7.905_311 { 7.905_311 } else { c };
    let z = c * c;
    let mut p = -2.760_768_5e-16;
    for a in [
        2.000_188e-13,
        -8.604_672e-11,
        5.122_297e-8,
        1.485_722_4e-5,
        6.372_619_3e-4,
        4.893_524_6e-3,
    ] {
        p = p * z + a;
    }
    let mut q = 1.198_258_4e-6;
    for b in [1.185_347e-4, 2.268_434_6e-3, 4.893_525e-3] {
        q = q * z + b;
    }
    if x.abs() < 4e-4 { x } else { c * p / q }
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
