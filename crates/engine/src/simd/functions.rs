//! Functions of one element, written so that loops over them become vector code.

/// exp: relative error below 2e-7; 0 and infinity at the ends, NaN stays.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
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
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// erf: absolute error below 5e-7; a rational function on [-4, 4].
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
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
pub(super) fn tanh(x: f32) -> f32 {
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
