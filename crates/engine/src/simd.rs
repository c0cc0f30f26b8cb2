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
}
