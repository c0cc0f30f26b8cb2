//! Half precision numbers as integers: every finite one is a whole multiple of 2^-24.

/// One unit of the grid, 2^-24.
pub(crate) const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// The bits of a finite number as a multiple of 2^-24, at most 2^40 in magnitude; `None` for NaN and infinities.
pub(crate) fn to_grid(bits: u16) -> Option<i64> {
    let exponent = bits >> 10 & 0x1f;
    let fraction = i64::from(bits & 0x3ff);
    let magnitude = match exponent {
        0x1f => return None,
        0 => fraction,
        e => (0x400 | fraction) << (e - 1),
    };
    Some(if bits >> 15 == 0 {
        magnitude
    } else {
        -magnitude
    })
}

/// The bits of the number nearest to `numerator / denominator` units, ties to even; zero is positive.
///
/// The quotient lies between numbers of the grid that are finite in half precision.
pub(crate) fn round_quotient(numerator: i128, denominator: i64) -> u16 {
    let magnitude = numerator.unsigned_abs();
    let denominator = u128::from(denominator.unsigned_abs());
    // The step between neighbours doubles with each power of two from 2^11 units on.
    let whole = magnitude / denominator;
    let exponent = (u128::BITS - whole.leading_zeros()).saturating_sub(11);
    let step = denominator << exponent;
    let (mut steps, rest) = (magnitude / step, magnitude % step);
    if rest * 2 > step || (rest * 2 == step && steps % 2 == 1) {
        steps += 1;
    }
    // A carry out of the fraction lands in the exponent, as it should.
    let bits = ((exponent << 10) as u16).saturating_add(steps as u16);
    if numerator < 0 && bits != 0 {
        bits | 0x8000
    } else {
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_finite_number_survives() {
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits);
            match to_grid(bits) {
                None => assert!(!value.is_finite()),
                Some(units) => {
                    assert_eq!(units as f64 * UNIT, f64::from(f32::from(value)));
                    let expected = if units == 0 { 0 } else { bits };
                    assert_eq!(round_quotient(units.into(), 1), expected);
                    assert_eq!(round_quotient(i128::from(units) * 7, 7), expected);
                }
            }
        }
    }

    #[test]
    fn midpoints_go_to_even_and_neighbours_to_their_side() {
        for low in 0..0x7bff_u16 {
            let (a, b) = (to_grid(low).unwrap(), to_grid(low + 1).unwrap());
            let sum = i128::from(a + b);
            let even = if low % 2 == 0 { low } else { low + 1 };
            assert_eq!(round_quotient(sum, 2), even);
            assert_eq!(round_quotient(sum * 1000 - 1, 2000), low);
            assert_eq!(round_quotient(sum * 1000 + 1, 2000), low + 1);
            assert_eq!(round_quotient(-sum * 1000 - 1, 2000), (low + 1) | 0x8000);
        }
    }
}
