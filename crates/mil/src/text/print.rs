//! Program → text, byte for byte as Apple's compiler writes it (from line 4 on; line 2 names the tools that made it).
//!
//! Source: grammar and lexical rules derived from Apple's compiled models. Arguments, attributes and parameters are sorted by
//! name, functions too; floats are C99 hexadecimal; a `const` keeps its value in the bracket.

use crate::{
    Binding, Block, DType, Dim, Error, Function, Literal, NamedType, Operation, Program, Result,
};
use crate::{TensorType, Value, ValueData, ValueType};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Style of the text, by the specification version of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `program(1.0)`: specification versions up to 8.
    Old,
    /// `program(1.3)`: from 9 on.
    New,
}

impl Style {
    /// The style of a specification version.
    pub fn of(specification_version: i32) -> Self {
        if specification_version >= 9 {
            Self::New
        } else {
            Self::Old
        }
    }
}

/// The whole file, without a final newline.
///
/// Errors: [`Error::Op`] for a value that has no text: an external tensor, or a literal whose length does not fit its type.
pub fn print(program: &Program, style: Style) -> Result<String> {
    let mut out = String::new();
    let version = if style == Style::New { "1.3" } else { "1.0" };
    let _ = write!(out, "program({version})\n[");
    attributes(&mut out, &program.attributes, style)?;
    out.push_str("]\n{\n");
    for (name, function) in &program.functions {
        print_function(&mut out, name, function, style)?;
    }
    out.push('}');
    Ok(out)
}

/// The opset tag of the text: `CoreML6` is `ios16`. No Apple file shows the tag of `CoreML9`; `ios19` continues the rule.
fn tag(opset: &str) -> Result<String> {
    match opset
        .strip_prefix("CoreML")
        .and_then(|n| n.parse::<u32>().ok())
    {
        Some(n @ 5..=9) => Ok(format!("ios{}", n + 10)),
        _ => Err(no_text(
            opset,
            "expected an opset between CoreML5 and CoreML9",
        )),
    }
}

fn no_text(name: &str, reason: &str) -> Error {
    Error::Op {
        op: name.into(),
        kind: "text".into(),
        reason: reason.into(),
    }
}

fn print_function(out: &mut String, name: &str, function: &Function, style: Style) -> Result<()> {
    let body = function
        .body()
        .ok_or_else(|| no_text(name, "the function has no block for its opset"))?;
    let _ = write!(out, "    func {name}<{}>(", tag(&function.opset)?);
    parameters(out, &function.inputs, style);
    out.push(')');
    if !function.attributes.is_empty() {
        out.push_str(" [");
        attributes(out, &function.attributes, style)?;
        out.push(']');
    }
    out.push_str(" {\n");
    operations(out, body, 12, style)?;
    let _ = writeln!(out, "        }} -> ({});", body.outputs.join(", "));
    Ok(())
}

fn parameters(out: &mut String, inputs: &[NamedType], style: Style) {
    let mut sorted: Vec<&NamedType> = inputs.iter().collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    for (i, input) in sorted.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{} {}", type_text(&input.ty, style), input.name);
    }
}

fn operations(out: &mut String, block: &Block, indent: usize, style: Style) -> Result<()> {
    for op in &block.operations {
        operation(out, op, indent, style)?;
    }
    Ok(())
}

fn operation(out: &mut String, op: &Operation, indent: usize, style: Style) -> Result<()> {
    let _ = write!(out, "{:indent$}", "");
    for (i, output) in op.outputs.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let _ = write!(
            out,
            "{comma}{} {}",
            type_text(&output.ty, style),
            output.name
        );
    }
    if !op.outputs.is_empty() {
        out.push_str(" = ");
    }
    let _ = write!(out, "{}(", op.kind);
    for (i, (parameter, bindings)) in op.inputs.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{parameter} = ");
        match bindings.as_slice() {
            [one] => binding(out, one, style)?,
            many => {
                out.push('(');
                for (j, one) in many.iter().enumerate() {
                    out.push_str(if j > 0 { ", " } else { "" });
                    binding(out, one, style)?;
                }
                out.push(')');
            }
        }
    }
    out.push(')');
    if !op.attributes.is_empty() {
        out.push('[');
        attributes(out, &op.attributes, style)?;
        out.push(']');
    }
    for block in &op.blocks {
        let _ = write!(out, "\n{:1$}(", "", indent + 4);
        parameters(out, &block.inputs, style);
        out.push_str(") {\n");
        operations(out, block, indent + 8, style)?;
        let _ = write!(
            out,
            "{:2$}}} -> ({})",
            "",
            block.outputs.join(", "),
            indent + 3
        );
    }
    out.push_str(";\n");
    Ok(())
}

fn binding(out: &mut String, binding: &Binding, style: Style) -> Result<()> {
    match binding {
        Binding::Name(name) => {
            out.push_str(name);
            Ok(())
        }
        Binding::Value(v) => value(out, v, style),
    }
}

fn attributes(out: &mut String, attributes: &BTreeMap<String, Value>, style: Style) -> Result<()> {
    for (i, (name, v)) in attributes.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        let _ = write!(out, "{comma}{name} = ");
        value(out, v, style)?;
    }
    Ok(())
}

/// `type(literal)` or `type(BLOBFILE(path = …, offset = …))`.
fn value(out: &mut String, v: &Value, style: Style) -> Result<()> {
    let _ = write!(out, "{}(", type_text(&v.ty, style));
    match &v.data {
        ValueData::Blob { file, offset } => {
            let string = type_text(&TensorType::scalar(DType::String).into(), style);
            let uint64 = type_text(&TensorType::scalar(DType::UInt64).into(), style);
            let _ = write!(
                out,
                "BLOBFILE(path = {string}({}), offset = {uint64}({offset}))",
                quoted(file)
            );
        }
        _ => literal(out, v)?,
    }
    out.push(')');
    Ok(())
}

/// A literal without its type.
fn literal(out: &mut String, v: &Value) -> Result<()> {
    match &v.data {
        ValueData::Tensor(elements) => {
            let ty =
                v.ty.as_tensor()
                    .ok_or_else(|| no_text("literal", "a tensor literal needs a tensor type"))?;
            let words = words(ty.dtype, elements)?;
            let shape = match ty.shape() {
                Some(shape) => shape,
                // `tensor<int32, [?]>` stands for the length of its literal.
                None => vec![words.len()],
            };
            let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            // Sub-byte elements fill whole bytes: the last byte may hold more than the type asks for.
            let Some(words) = count.and_then(|n| words.get(..n)) else {
                return Err(no_text(
                    "literal",
                    &format!("{ty} has a literal of {} elements", words.len()),
                ));
            };
            if brackets(&shape) > MAX_BRACKETS {
                return Err(no_text(
                    "literal",
                    &format!("{ty} has no elements, but more than {MAX_BRACKETS} empty brackets"),
                ));
            }
            nested(out, &shape, words);
        }
        ValueData::Tuple(items) | ValueData::List(items) => {
            let (open, close) = if matches!(v.data, ValueData::Tuple(_)) {
                ('(', ')')
            } else {
                ('[', ']')
            };
            out.push(open);
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                literal(out, item)?;
            }
            out.push(close);
        }
        ValueData::Dictionary(pairs) => {
            out.push('{');
            for (i, (key, item)) in pairs.iter().enumerate() {
                out.push_str(if i > 0 { ", {" } else { "{" });
                literal(out, key)?;
                out.push_str(", ");
                literal(out, item)?;
                out.push('}');
            }
            out.push('}');
        }
        ValueData::Blob { .. } => {
            return Err(no_text(
                "literal",
                "a blob cannot stand inside another literal",
            ));
        }
        ValueData::External { key } => return Err(no_text(key, "the tensor has not been placed")),
    }
    Ok(())
}

/// Most brackets of a literal without elements.
const MAX_BRACKETS: usize = 1 << 16;

/// Empty brackets that a literal of this shape takes: its sizes before the first 0, multiplied.
fn brackets(shape: &[usize]) -> usize {
    match shape.iter().position(|&n| n == 0) {
        Some(zero) => shape.iter().take(zero).fold(1, |n, &d| n.saturating_mul(d)),
        None => 0,
    }
}

fn nested(out: &mut String, shape: &[usize], words: &[String]) {
    let Some((&n, inner)) = shape.split_first() else {
        out.push_str(words.first().map_or("", String::as_str));
        return;
    };
    out.push('[');
    let step = words.len().checked_div(n).unwrap_or(0);
    for i in 0..n {
        out.push_str(if i > 0 { ", " } else { "" });
        nested(
            out,
            inner,
            words.get(i * step..(i + 1) * step).unwrap_or_default(),
        );
    }
    out.push(']');
}

/// One word per element.
fn words(dtype: DType, elements: &Literal) -> Result<Vec<String>> {
    Ok(match elements {
        Literal::Floats(v) => v.iter().map(|&x| hex_float(x.into())).collect(),
        Literal::Doubles(v) => v.iter().map(|&x| hex_float(x)).collect(),
        Literal::Ints(v) => v.iter().map(i32::to_string).collect(),
        Literal::LongInts(v) => v.iter().map(i64::to_string).collect(),
        Literal::Bools(v) => v.iter().map(bool::to_string).collect(),
        Literal::Strings(v) => v.iter().map(|s| quoted(s)).collect(),
        Literal::Bytes(bytes) => byte_words(dtype, bytes)?,
    })
}

fn byte_words(dtype: DType, bytes: &[u8]) -> Result<Vec<String>> {
    let bits = dtype.bits();
    Ok(match dtype {
        DType::Fp16 => bytes
            .chunks_exact(2)
            .map(|c| hex_float(half::f16::from_le_bytes([c[0], c[1]]).into()))
            .collect(),
        DType::Bf16 => bytes
            .chunks_exact(2)
            .map(|c| hex_float(half::bf16::from_le_bytes([c[0], c[1]]).into()))
            .collect(),
        DType::UInt32 => bytes
            .chunks_exact(4)
            .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]).to_string())
            .collect(),
        DType::Int8 => bytes.iter().map(|&b| (b as i8).to_string()).collect(),
        DType::UInt8 => bytes.iter().map(u8::to_string).collect(),
        _ if dtype.is_int() && (1..8).contains(&bits) => {
            let count = bytes.len() * 8 / bits;
            (0..count)
                .map(|i| sub_byte(bytes, i, bits, dtype == DType::Int4).to_string())
                .collect()
        }
        _ => return Err(no_text("literal", &format!("{dtype} has no byte literal"))),
    })
}

/// Element `i` of a stream of `bits`-bit elements, least significant bit first.
fn sub_byte(bytes: &[u8], i: usize, bits: usize, signed: bool) -> i32 {
    let bit = |k: usize| bytes.get(k / 8).map_or(0, |b| i32::from(b >> (k % 8) & 1));
    let raw: i32 = (0..bits).map(|k| bit(i * bits + k) << k).sum();
    if signed && raw >= 1 << (bits - 1) {
        raw - (1 << bits)
    } else {
        raw
    }
}

/// C99 hexadecimal: lower case, one digit before the point, no trailing zeros, subnormals normalised.
fn hex_float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    let sign = if x.is_sign_negative() { "-" } else { "" };
    if x.is_infinite() {
        return format!("{sign}inf");
    }
    let bits = x.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7ff) as i32, bits & ((1 << 52) - 1));
    if exponent == 0 && fraction == 0 {
        return format!("{sign}0x0p+0");
    }
    // Every fp16 and fp32 value, subnormal or not, is a normal f64.
    let digits = format!("{fraction:013x}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("{sign}0x1{point}{digits}p{:+}", exponent - 1023)
}

/// A string literal.
fn quoted(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn type_text(ty: &ValueType, style: Style) -> String {
    match ty {
        ValueType::Tensor(t) if t.dims.is_empty() && style == Style::New => t.dtype.to_string(),
        ValueType::Tensor(t) => t.to_string(),
        ValueType::List(inner, Dim::Fixed(n)) => format!("list<{}, {n}>", type_text(inner, style)),
        ValueType::List(inner, Dim::Unknown { .. }) => {
            format!("list<{}, ?>", type_text(inner, style))
        }
        ValueType::Tuple(items) => {
            let items: Vec<String> = items.iter().map(|t| type_text(t, style)).collect();
            format!("tuple<{}>", items.join(", "))
        }
        ValueType::Dictionary(k, v) => {
            format!("dict<{}, {}>", type_text(k, style), type_text(v, style))
        }
        ValueType::State(inner) => format!("state<{}>", type_text(inner, style)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_shortest_hex() {
        for (x, text) in [
            (1.0, "0x1p+0"),
            (-5000.0, "-0x1.388p+12"),
            (0.0, "0x0p+0"),
            (-0.0, "-0x0p+0"),
            (0.5, "0x1p-1"),
        ] {
            assert_eq!(hex_float(x), text);
        }
        assert_eq!(hex_float(half::f16::from_bits(1).into()), "0x1p-24");
        assert_eq!(hex_float(f64::NEG_INFINITY), "-inf");
    }

    #[test]
    fn sub_byte_elements_are_least_significant_first() {
        assert_eq!(
            byte_words(DType::UInt4, &[0x21, 0x03]).unwrap(),
            ["1", "2", "3", "0"]
        );
        assert_eq!(
            byte_words(DType::Int4, &[0x78, 0x0f]).unwrap(),
            ["-8", "7", "-1", "0"]
        );
    }
}
