//! What a row of the op table says: opset, parameters, dtype domains, defaults.

use super::context::Context;
use crate::{DType, Result, Value, ValueType};
use std::fmt;

/// Opset of a function; its name is the key of the function's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Opset {
    /// iOS 15, macOS 12; specification version 6.
    CoreML5,
    /// iOS 16, macOS 13; specification version 7.
    CoreML6,
    /// iOS 17, macOS 14; specification version 8.
    CoreML7,
    /// iOS 18, macOS 15; specification version 9.
    CoreML8,
    /// iOS 26, macOS 26; specification version 10.
    CoreML9,
}

/// Opsets with their names, oldest first.
const OPSETS: &[(Opset, &str)] = &[
    (Opset::CoreML5, "CoreML5"),
    (Opset::CoreML6, "CoreML6"),
    (Opset::CoreML7, "CoreML7"),
    (Opset::CoreML8, "CoreML8"),
    (Opset::CoreML9, "CoreML9"),
];

impl Opset {
    /// The opset of this name, if it is known.
    pub fn from_name(name: &str) -> Option<Self> {
        OPSETS.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

impl fmt::Display for Opset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = OPSETS.iter().find(|row| row.0 == *self).map(|row| row.1);
        f.write_str(name.unwrap_or_default())
    }
}

/// Dtypes a parameter takes.
#[derive(Clone, Copy, Debug)]
pub struct Domain {
    /// Allowed dtypes; empty allows every type, tensors or not.
    pub types: &'static [DType],
    /// Parameters of one class have the same dtype; `None` stands alone.
    pub class: Option<char>,
}

impl Domain {
    const fn class(types: &'static [DType], class: char) -> Self {
        Self {
            types,
            class: Some(class),
        }
    }

    const fn alone(types: &'static [DType]) -> Self {
        Self { types, class: None }
    }
}

use DType::{Bool, Fp16, Fp32, Int8, Int16, Int32, UInt8, UInt16, UInt32};

/// T ∈ {fp16, fp32}.
pub(crate) const T_FLOAT: Domain = Domain::class(&[Fp16, Fp32], 'T');
/// T ∈ {fp16, fp32, int32}.
pub(crate) const T_NUMBER: Domain = Domain::class(&[Fp16, Fp32, Int32], 'T');
/// T ∈ {fp16, fp32, int32, bool}.
pub(crate) const T_ANY: Domain = Domain::class(&[Fp16, Fp32, Int32, Bool], 'T');
/// T ∈ {fp16, fp32, int32, bool, int8, uint8, int16, uint16}.
pub(crate) const T_WIDE: Domain =
    Domain::class(&[Fp16, Fp32, Int32, Bool, Int8, UInt8, Int16, UInt16], 'T');
/// T ∈ {fp16, fp32, int32, int8, uint8, int16, uint16}.
pub(crate) const T_NUMBER_WIDE: Domain =
    Domain::class(&[Fp16, Fp32, Int32, Int8, UInt8, Int16, UInt16], 'T');
/// T = bool.
pub(crate) const T_BOOL: Domain = Domain::class(&[Bool], 'T');
/// A bool.
pub(crate) const BOOL: Domain = Domain::alone(&[Bool]);
/// int32.
pub(crate) const INT: Domain = Domain::alone(&[Int32]);
/// U ∈ {int32, int16, int8}: shapes and positions from iOS17 on.
pub(crate) const U_INTS: Domain = Domain::class(&[Int32, Int16, Int8], 'U');
/// int32, int16, uint16: indices in iOS16.
pub(crate) const INTS: Domain = Domain::alone(&[Int32, Int16, UInt16]);
/// int32, int16, uint16, int8, uint8: indices from iOS17 on.
pub(crate) const INTS_WIDE: Domain = Domain::alone(&[Int32, Int16, UInt16, Int8, UInt8]);
/// int32, int16, uint16, uint32: target sizes.
pub(crate) const SIZES: Domain = Domain::alone(&[Int32, Int16, UInt16, UInt32]);
/// uint32.
pub(crate) const UINT: Domain = Domain::alone(&[UInt32]);
/// int32 or fp32: scale factors.
pub(crate) const SCALE: Domain = Domain::alone(&[Fp32, Int32]);
/// fp16 or fp32, independent of T.
pub(crate) const FLOAT: Domain = Domain::alone(&[Fp16, Fp32]);
/// fp16, fp32, int32 or bool, independent of T.
pub(crate) const ANY_VALUE: Domain = Domain::alone(&[Fp16, Fp32, Int32, Bool]);
/// fp16, fp32 or bool: masks.
pub(crate) const MASK: Domain = Domain::alone(&[Fp16, Fp32, Bool]);
/// A string.
pub(crate) const STRING: Domain = Domain::alone(&[DType::String]);
/// Every type.
pub(crate) const ANYTHING: Domain = Domain::alone(&[]);

/// Whether a parameter may be left out and what then holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// It may not be left out.
    Required,
    /// Nothing takes its place (no bias, no mask).
    Absent,
    /// An int32 scalar.
    Int(i32),
    /// A bool scalar.
    Bool(bool),
    /// A float scalar of the class dtype T.
    Float(f32),
    /// A string.
    String(&'static str),
    /// An int32 vector with this number for every dimension it speaks of (all spatial dimensions, all axes…).
    Repeat(i32),
    /// A bool vector with this value for every dimension.
    RepeatBool(bool),
}

/// One parameter of an op.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Name.
    pub name: &'static str,
    /// Dtypes.
    pub domain: Domain,
    /// It must be known before the program runs.
    pub constant: bool,
    /// It takes several operands.
    pub variadic: bool,
    /// Whether it may be left out.
    pub default: Default,
}

impl Param {
    /// The default as a value, when it does not depend on shapes; floats have dtype `float`.
    pub fn default_value(&self, float: DType) -> Option<Value> {
        match self.default {
            Default::Int(i) => Some(Value::int(i)),
            Default::Bool(b) => Some(Value::bool(b)),
            Default::Float(x) => Some(Value::float(float, x)),
            Default::String(s) => Some(Value::string(s)),
            Default::Required | Default::Absent | Default::Repeat(_) | Default::RepeatBool(_) => {
                None
            }
        }
    }
}

/// A required input that may be a variable.
pub(crate) const fn var(name: &'static str, domain: Domain) -> Param {
    Param {
        name,
        domain,
        constant: false,
        variadic: false,
        default: Default::Required,
    }
}

/// An input that may be a variable and may be left out.
pub(crate) const fn var_or(name: &'static str, domain: Domain, default: Default) -> Param {
    Param {
        default,
        ..var(name, domain)
    }
}

/// A required constant.
pub(crate) const fn constant(name: &'static str, domain: Domain) -> Param {
    Param {
        constant: true,
        ..var(name, domain)
    }
}

/// A constant that may be left out.
pub(crate) const fn constant_or(name: &'static str, domain: Domain, default: Default) -> Param {
    Param {
        default,
        ..constant(name, domain)
    }
}

/// Several variables.
pub(crate) const fn many(name: &'static str, domain: Domain) -> Param {
    Param {
        variadic: true,
        ..var(name, domain)
    }
}

/// Where the operands of an op are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// Inputs bound by name; literals become `const` ops.
    Inputs,
    /// Inputs bound to literals in place, or to the output of another constexpr op (iOS18 constexpr ops).
    Literals,
    /// Attributes beside `name` (iOS16 constexpr ops).
    Attributes,
}

/// Inference of one op: output types from the bound inputs.
pub(crate) type Infer = fn(&Context<'_>) -> Result<Vec<ValueType>>;

/// One op as it is from an opset on.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Op name.
    pub name: &'static str,
    /// First opset with this signature.
    pub since: Opset,
    /// Parameters.
    pub params: &'static [Param],
    /// Where operands are written.
    pub operands: Operands,
    /// What the op does, in one line.
    pub summary: &'static str,
    /// Shapes: inputs → outputs.
    pub shapes: &'static str,
    pub(crate) infer: Infer,
}

impl Row {
    /// The parameter of this name.
    pub fn param(&self, name: &str) -> Option<&'static Param> {
        self.params.iter().find(|p| p.name == name)
    }
}

/// A row with operands as inputs.
pub(crate) const fn op(
    name: &'static str,
    since: Opset,
    params: &'static [Param],
    infer: Infer,
    summary: &'static str,
    shapes: &'static str,
) -> Row {
    Row {
        name,
        since,
        params,
        operands: Operands::Inputs,
        summary,
        shapes,
        infer,
    }
}
