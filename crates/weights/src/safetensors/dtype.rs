//! Element types and their exact widening to f32.

use half::{bf16, f16};
use std::borrow::Cow;
use std::fmt;

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StDType {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// Sign, 4 exponent bits (bias 7), 3 fraction bits; no infinities, NaN is 0x7F and 0xFF (`E4M3FN`).
    F8E4M3,
    /// Sign, 5 exponent bits (bias 15), 2 fraction bits: the upper half of a binary16.
    F8E5M2,
    /// Signed, 64 bits.
    I64,
    /// Signed, 32 bits.
    I32,
    /// Signed, 16 bits.
    I16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

/// Every type with its name in a header.
const NAMES: &[(StDType, &str)] = &[
    (StDType::F64, "F64"),
    (StDType::F32, "F32"),
    (StDType::F16, "F16"),
    (StDType::BF16, "BF16"),
    (StDType::F8E4M3, "F8_E4M3"),
    (StDType::F8E5M2, "F8_E5M2"),
    (StDType::I64, "I64"),
    (StDType::I32, "I32"),
    (StDType::I16, "I16"),
    (StDType::I8, "I8"),
    (StDType::U8, "U8"),
    (StDType::Bool, "BOOL"),
];

impl StDType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::F8E4M3 | Self::F8E5M2 | Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Its name in a header, for instance `F8_E4M3`.
    pub fn as_str(self) -> &'static str {
        NAMES
            .iter()
            .find(|row| row.0 == self)
            .map_or("?", |row| row.1)
    }

    /// The type of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// All names, for messages.
    pub(crate) fn all_names() -> String {
        let names: Vec<_> = NAMES.iter().map(|row| row.1).collect();
        names.join(", ")
    }

    /// Whether elements are numbers with a fraction.
    pub const fn is_float(self) -> bool {
        matches!(
            self,
            Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8E4M3 | Self::F8E5M2
        )
    }
}

impl fmt::Display for StDType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tensor as it lies in a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorRef<'a> {
    /// Its name; canonical where it comes from a [`crate::Checkpoint`].
    pub name: &'a str,
    /// Type of the elements.
    pub dtype: StDType,
    /// Shape; empty for a scalar.
    pub shape: &'a [usize],
    /// Elements in row-major order, little endian: product of `shape` times `dtype.size()` bytes.
    pub bytes: &'a [u8],
}

impl<'a> TensorRef<'a> {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The elements as f32. F16, BF16 and both F8 types widen exactly; F64 and 32- or 64-bit integers round to nearest.
    pub fn to_f32(&self) -> Cow<'a, [f32]> {
        fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|&c| f(c)).collect()
        }
        let b = self.bytes;
        Cow::Owned(match self.dtype {
            StDType::F64 => each(b, |x| f64::from_le_bytes(x) as f32),
            StDType::F32 => each(b, f32::from_le_bytes),
            StDType::F16 => each(b, |x| f16::from_le_bytes(x).to_f32()),
            StDType::BF16 => each(b, |x| bf16::from_le_bytes(x).to_f32()),
            StDType::F8E4M3 => each(b, |[x]| e4m3(x)),
            StDType::F8E5M2 => each(b, |[x]| f16::from_bits(u16::from(x) << 8).to_f32()),
            StDType::I64 => each(b, |x| i64::from_le_bytes(x) as f32),
            StDType::I32 => each(b, |x| i32::from_le_bytes(x) as f32),
            StDType::I16 => each(b, |x| i16::from_le_bytes(x).into()),
            StDType::I8 => each(b, |x| i8::from_le_bytes(x).into()),
            StDType::U8 | StDType::Bool => each(b, |[x]| x.into()),
        })
    }
}

/// The value of an `E4M3FN` byte.
fn e4m3(byte: u8) -> f32 {
    let exponent = u32::from(byte >> 3 & 0xF);
    let fraction = u32::from(byte & 0x7);
    let magnitude = match (exponent, fraction) {
        (0xF, 0x7) => f32::NAN,
        // Subnormal: fraction · 2^-9.
        (0, _) => fraction as f32 / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | fraction << 20),
    };
    if byte & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn f32_of(dtype: StDType, bytes: &[u8]) -> Vec<f32> {
        let shape = [bytes.len() / dtype.size()];
        let tensor = TensorRef {
            name: "x",
            dtype,
            shape: &shape,
            bytes,
        };
        tensor.to_f32().into_owned()
    }

    #[test]
    fn e4m3fn_follows_its_definition() {
        // (byte, value) from the OCP 8-bit floating point specification: zeros, smallest and largest subnormal, smallest
        // normal, one, largest.
        let table = [
            (0x00, 0.0),
            (0x01, 2f32.powi(-9)),
            (0x07, 7.0 * 2f32.powi(-9)),
            (0x08, 2f32.powi(-6)),
            (0x38, 1.0),
            (0x3C, 1.5),
            (0x7E, 448.0),
            (0xFE, -448.0),
            (0x81, -(2f32.powi(-9))),
        ];
        for (byte, value) in table {
            assert_eq!(f32_of(StDType::F8E4M3, &[byte]), [value], "{byte:#x}");
        }
        assert!(f32_of(StDType::F8E4M3, &[0x7F])[0].is_nan());
        assert!(f32_of(StDType::F8E4M3, &[0xFF])[0].is_nan());
    }

    #[test]
    fn e5m2_follows_its_definition() {
        let table = [
            (0x00, 0.0),
            (0x01, 2f32.powi(-16)),
            (0x04, 2f32.powi(-14)),
            (0x3C, 1.0),
            (0x7B, 57344.0),
            (0xC2, -3.0),
        ];
        for (byte, value) in table {
            assert_eq!(f32_of(StDType::F8E5M2, &[byte]), [value], "{byte:#x}");
        }
        assert_eq!(f32_of(StDType::F8E5M2, &[0x7C]), [f32::INFINITY]);
        assert!(f32_of(StDType::F8E5M2, &[0x7D])[0].is_nan());
    }

    #[test]
    fn every_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let value = f32_of(StDType::F16, &bits.to_le_bytes())[0];
            // 1 sign, 5 exponent, 10 fraction bits, computed from the definition.
            let (e, m) = (i32::from(bits >> 10 & 0x1F), f32::from(bits & 0x3FF));
            let magnitude = match e {
                0 => m * 2f32.powi(-24),
                31 if m == 0.0 => f32::INFINITY,
                31 => f32::NAN,
                _ => (1.0 + m / 1024.0) * 2f32.powi(e - 15),
            };
            if magnitude.is_nan() {
                assert!(value.is_nan());
            } else {
                let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
                assert_eq!(value.to_bits(), (sign * magnitude).to_bits(), "{bits:#x}");
            }
        }
    }

    #[test]
    fn other_types() {
        assert_eq!(
            f32_of(StDType::BF16, &[0x80, 0x3F, 0x40, 0xC0]),
            [1.0, -3.0]
        );
        assert_eq!(f32_of(StDType::F64, &0.1f64.to_le_bytes()), [0.1]);
        assert_eq!(f32_of(StDType::I64, &(-7i64).to_le_bytes()), [-7.0]);
        assert_eq!(f32_of(StDType::I16, &(-7i16).to_le_bytes()), [-7.0]);
        assert_eq!(f32_of(StDType::I8, &[0xFF]), [-1.0]);
        assert_eq!(f32_of(StDType::Bool, &[1]), [1.0]);
    }

    #[test]
    fn every_type_has_a_name() {
        for (dtype, name) in NAMES {
            assert_eq!(dtype.as_str(), *name);
            assert_eq!(StDType::from_name(name), Some(*dtype));
        }
        assert_eq!(StDType::from_name("F4"), None);
    }
}
