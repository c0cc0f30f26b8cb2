//! Constants that are not exact in fp16, written as a product of two that are.

use half::f16;

/// A factor as one constant, or as a product of two whose product is much closer to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Factor {
    /// The constant itself is exact.
    One(f32),
    /// `a · b`, both exact in fp16 and of about the same size.
    Two(f32, f32),
}

/// `value` (positive, a normal fp16 number) as a product of fp16 constants with a relative error below 2^-17.
///
/// One fp16 constant would be off by up to 2^-11, which costs attention 64 to 86 dB of signal to noise. The search is exact
/// arithmetic on f64, so the answer is the same on every machine.
pub(crate) fn factor(value: f64) -> Factor {
    if f64::from(f16::from_f64(value)) == value {
        return Factor::One(value as f32);
    }
    let exponent = 2f64.powi(value.sqrt().log2().floor() as i32);
    let mut best = (f64::INFINITY, 0.0, 0.0);
    for mantissa in 1024..2048 {
        let a = f64::from(mantissa) / 1024.0 * exponent;
        let b = f64::from(f16::from_f64(value / a));
        let error = (a * b - value).abs();
        if error < best.0 {
            best = (error, a, b);
        }
    }
    Factor::Two(best.1 as f32, best.2 as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_stay_one() {
        assert_eq!(factor(0.125), Factor::One(0.125));
        assert_eq!(factor(1.5), Factor::One(1.5));
    }

    #[test]
    fn every_head_width_is_close() {
        for d in 1..=1024u32 {
            let value = f64::from(d).powf(-0.5);
            let got = match factor(value) {
                Factor::One(a) => f64::from(a),
                Factor::Two(a, b) => {
                    assert_eq!(f16::from_f32(a).to_f32(), a);
                    assert_eq!(f16::from_f32(b).to_f32(), b);
                    f64::from(a) * f64::from(b)
                }
            };
            assert!((got / value - 1.0).abs() < 2f64.powi(-17), "{d}");
        }
    }
}
