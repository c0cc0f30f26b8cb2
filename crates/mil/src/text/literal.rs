//! Literals of the text form, read back into elements.

use super::parse::Parser;
use crate::{DType, Dim, Literal, Result, TensorType, Value, ValueData, ValueType};

/// The literal of a value of type `ty`.
pub(super) fn data(p: &mut Parser<'_>, ty: &ValueType) -> Result<ValueData> {
    p.deeper(|p| match ty {
        ValueType::Tensor(t) => tensor(p, t).map(ValueData::Tensor),
        ValueType::Tuple(types) => {
            let mut items = Vec::new();
            p.expect("(")?;
            p.list(")", |p| {
                let ty = types
                    .get(items.len())
                    .ok_or_else(|| p.error("the tuple has more members than its type"))?;
                items.push(Value {
                    ty: ty.clone(),
                    data: data(p, ty)?,
                });
                Ok(())
            })?;
            if items.len() != types.len() {
                return Err(p.error(format!(
                    "the tuple has {} members, its type {}",
                    items.len(),
                    types.len()
                )));
            }
            Ok(ValueData::Tuple(items))
        }
        ValueType::List(inner, _) => {
            let mut items = Vec::new();
            p.expect("[")?;
            p.list("]", |p| {
                items.push(Value {
                    ty: (**inner).clone(),
                    data: data(p, inner)?,
                });
                Ok(())
            })?;
            Ok(ValueData::List(items))
        }
        ValueType::Dictionary(key, value) => {
            let mut pairs = Vec::new();
            p.expect("{")?;
            p.list("}", |p| {
                p.expect("{")?;
                let k = Value {
                    ty: (**key).clone(),
                    data: data(p, key)?,
                };
                p.expect(",")?;
                let v = Value {
                    ty: (**value).clone(),
                    data: data(p, value)?,
                };
                p.expect("}")?;
                pairs.push((k, v));
                Ok(())
            })?;
            Ok(ValueData::Dictionary(pairs))
        }
        ValueType::State(_) => Err(p.error("a state has no literal")),
    })
}

fn tensor(p: &mut Parser<'_>, ty: &TensorType) -> Result<Literal> {
    let mut elements = Elements::new(ty.dtype);
    nested(p, &ty.dims, &mut elements)?;
    elements.finish(p)
}

fn nested(p: &mut Parser<'_>, dims: &[Dim], elements: &mut Elements) -> Result<()> {
    let Some((dim, inner)) = dims.split_first() else {
        return elements.push(p);
    };
    p.expect("[")?;
    let mut n = 0usize;
    p.list("]", |p| {
        n += 1;
        p.deeper(|p| nested(p, inner, elements))
    })?;
    match dim {
        Dim::Fixed(want) if *want != n => Err(p.error(format!(
            "the literal has {n} elements where its type has {want}"
        ))),
        _ => Ok(()),
    }
}

/// Elements as they come, in the member that their dtype uses.
struct Elements {
    dtype: DType,
    literal: Literal,
    /// Sub-byte elements, packed at the end.
    codes: Vec<u8>,
}

impl Elements {
    fn new(dtype: DType) -> Self {
        let literal = match dtype {
            DType::Fp32 => Literal::Floats(Vec::new()),
            DType::Fp64 => Literal::Doubles(Vec::new()),
            DType::Int16 | DType::UInt16 | DType::Int32 => Literal::Ints(Vec::new()),
            DType::Int64 | DType::UInt64 => Literal::LongInts(Vec::new()),
            DType::Bool => Literal::Bools(Vec::new()),
            DType::String => Literal::Strings(Vec::new()),
            _ => Literal::Bytes(Vec::new()),
        };
        Self {
            dtype,
            literal,
            codes: Vec::new(),
        }
    }

    fn push(&mut self, p: &mut Parser<'_>) -> Result<()> {
        if let Literal::Strings(v) = &mut self.literal {
            v.push(p.text()?);
            return Ok(());
        }
        let word = p.word()?;
        let bad = || p.error(format!("`{word}` is not a value of type {}", self.dtype));
        match &mut self.literal {
            Literal::Strings(_) => return Err(bad()),
            Literal::Bools(v) => v.push(word.parse().map_err(|_| bad())?),
            Literal::Ints(v) => v.push(word.parse().map_err(|_| bad())?),
            Literal::LongInts(v) => v.push(match self.dtype {
                DType::UInt64 => word.parse::<u64>().map_err(|_| bad())?.cast_signed(),
                _ => word.parse().map_err(|_| bad())?,
            }),
            Literal::Floats(v) => v.push(float(word).ok_or_else(bad)? as f32),
            Literal::Doubles(v) => v.push(float(word).ok_or_else(bad)?),
            Literal::Bytes(v) => match self.dtype {
                DType::Fp16 => {
                    v.extend(half::f16::from_f64(float(word).ok_or_else(bad)?).to_le_bytes())
                }
                DType::Bf16 => {
                    v.extend(half::bf16::from_f64(float(word).ok_or_else(bad)?).to_le_bytes())
                }
                DType::UInt32 => v.extend(word.parse::<u32>().map_err(|_| bad())?.to_le_bytes()),
                DType::UInt8 => v.push(word.parse().map_err(|_| bad())?),
                DType::Int8 => v.push(word.parse::<i8>().map_err(|_| bad())?.cast_unsigned()),
                dtype if dtype.is_int() => {
                    let bits = dtype.bits();
                    let (low, high) = if dtype == DType::Int4 {
                        (-8, 7)
                    } else {
                        (0, (1i32 << bits) - 1)
                    };
                    let n = word
                        .parse::<i32>()
                        .ok()
                        .filter(|n| (low..=high).contains(n))
                        .ok_or_else(bad)?;
                    self.codes.push((n & ((1 << bits) - 1)) as u8);
                }
                _ => return Err(bad()),
            },
        }
        Ok(())
    }

    fn finish(mut self, p: &Parser<'_>) -> Result<Literal> {
        if let Literal::Bytes(bytes) = &mut self.literal
            && !self.codes.is_empty()
        {
            let bits = self.dtype.bits();
            let total = self
                .codes
                .len()
                .checked_mul(bits)
                .ok_or_else(|| p.error("the literal is too long"))?;
            bytes.resize(total.div_ceil(8), 0);
            for (i, code) in self.codes.iter().enumerate() {
                for k in (0..bits).filter(|k| code >> k & 1 == 1) {
                    let at = i * bits + k;
                    if let Some(byte) = bytes.get_mut(at / 8) {
                        *byte |= 1 << (at % 8);
                    }
                }
            }
        }
        Ok(self.literal)
    }
}

/// C99 hexadecimal or decimal, exact.
fn float(word: &str) -> Option<f64> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, word),
    };
    match digits {
        "inf" => return Some(sign * f64::INFINITY),
        "nan" => return Some(f64::NAN),
        _ => {}
    }
    let Some(hex) = digits.strip_prefix("0x") else {
        return digits.parse::<f64>().ok().map(|x| sign * x);
    };
    let (mantissa, exponent) = hex.split_once('p')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() > 14 || !(-2000..=2000).contains(&exponent) {
        return None;
    }
    let bits = u64::from_str_radix(&format!("{whole}{fraction}"), 16).ok()?;
    let scale = exponent - 4 * i32::try_from(fraction.len()).ok()?;
    // 56 bits at most, and a power of two in two exact halves.
    Some(sign * bits as f64 * 2f64.powi(scale / 2) * 2f64.powi(scale - scale / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_floats_are_exact() {
        for (word, x) in [
            ("0x1p+0", 1.0),
            ("-0x1.388p+12", -5000.0),
            ("0x1p-24", 2f64.powi(-24)),
            ("-0x0p+0", -0.0),
        ] {
            assert_eq!(float(word).map(f64::to_bits), Some(x.to_bits()), "{word}");
        }
        assert_eq!(float("0x1.fffffep+127"), Some(f64::from(f32::MAX)));
        assert_eq!(float("0xzp+0"), None);
        assert_eq!(float("-inf"), Some(f64::NEG_INFINITY));
    }
}
