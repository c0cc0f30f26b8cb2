//! The graph under construction: weights as keys, and the layers that all models share.

use super::{OPSET, Precision};
use crate::built::{Feature, GENERATED};
use crate::family::adapted::Slots;
use crate::family::exact::{Factor, factor};
use crate::slots::{Sites, SlotModule, SlotOptions};
use crate::{Error, Result};
use gesso_mil::{Arg, Builder, DType, TensorType, Value, Var};
use std::collections::{BTreeMap, BTreeSet};

/// Kernel of a square convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Height and width.
    pub(crate) size: usize,
    /// Stride in both directions.
    pub(crate) stride: i32,
    /// Padding: top, bottom, left, right.
    pub(crate) pad: [i32; 4],
}

impl Kernel {
    /// 1×1.
    pub(crate) const POINT: Self = Self {
        size: 1,
        stride: 1,
        pad: [0; 4],
    };
    /// 3×3 that keeps the size.
    pub(crate) const SAME: Self = Self {
        size: 3,
        stride: 1,
        pad: [1; 4],
    };
}

/// A function under construction for one component.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) builder: Builder,
    pub(crate) dtype: DType,
    pub(crate) generated: BTreeMap<String, Vec<f32>>,
    pub(crate) gathered: BTreeSet<String>,
    pub(super) component: &'static str,
    /// The modules with a slot that were built so far.
    pub(crate) adaptable: Vec<SlotModule>,
    pub(super) slots: Option<Slots>,
    /// Which modules have slots.
    pub(super) sites: Sites,
    pub(super) inputs: Vec<Feature>,
    pub(super) outputs: Vec<Feature>,
    pub(super) returned: Vec<Var>,
}

/// Name of the value that a module returns: its path with underscores.
pub(crate) fn value_name(path: &str) -> String {
    path.replace('.', "_")
}

/// Size of one dimension.
pub(crate) fn dim(x: &Var, axis: usize) -> Result<usize> {
    let shape = x.shape()?;
    shape.get(axis).copied().ok_or_else(|| Error::Config {
        component: x.name.clone(),
        field: "rank".into(),
        expected: format!("more than {axis}"),
        found: shape.len().to_string(),
    })
}

fn ints(name: &str, sizes: &[usize]) -> Result<Vec<i32>> {
    sizes
        .iter()
        .map(|&d| {
            i32::try_from(d).map_err(|_| Error::Config {
                component: name.into(),
                field: "size".into(),
                expected: "at most 2147483647".into(),
                found: d.to_string(),
            })
        })
        .collect()
}

impl Graph {
    pub(crate) fn new(component: &'static str, precision: Precision) -> Self {
        Self {
            builder: Builder::new(OPSET),
            dtype: match precision {
                Precision::Fp16 => DType::Fp16,
                Precision::Fp32 => DType::Fp32,
            },
            generated: BTreeMap::new(),
            gathered: BTreeSet::new(),
            component,
            adaptable: Vec::new(),
            slots: None,
            sites: Sites::default(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            returned: Vec::new(),
        }
    }

    /// A graph whose modules may have these slots.
    pub(crate) fn with_slots(
        component: &'static str,
        precision: Precision,
        slots: Option<SlotOptions>,
    ) -> Self {
        Self {
            sites: slots.map_or_else(Sites::default, |s| s.sites),
            ..Self::new(component, precision)
        }
    }

    /// A weight of the checkpoint, as a `const` named after the tensor.
    pub(crate) fn weight(&mut self, tensor: &str, shape: &[usize]) -> Var {
        let key = format!("{}:{tensor}", self.component);
        self.builder.constant(
            &value_name(tensor),
            Value::external(TensorType::new(self.dtype, shape), key),
        )
    }

    /// An embedding table that only a `gather` reads.
    pub(crate) fn embedding_table(&mut self, tensor: &str, shape: &[usize]) -> Var {
        self.gathered.insert(format!("{}:{tensor}", self.component));
        self.weight(tensor, shape)
    }

    /// A computed tensor, as a `const`.
    pub(crate) fn generated(
        &mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
        data: Vec<f32>,
    ) -> Var {
        let key = format!("{GENERATED}{name}");
        self.generated.insert(key.clone(), data);
        self.builder
            .constant(name, Value::external(TensorType::new(dtype, shape), key))
    }

    /// A scalar of the graph's type.
    pub(crate) fn scalar(&self, x: f32) -> Arg {
        Arg::Value(Value::float(self.dtype, x))
    }

    /// An op with one output.
    pub(crate) fn op(&mut self, kind: &str, name: &str, args: &[(&str, Arg)]) -> Result<Var> {
        Ok(self.builder.op(kind, name, args)?)
    }

    /// An op with the operands `x` and `y`.
    pub(crate) fn binary(&mut self, kind: &str, name: &str, x: &Var, y: &Var) -> Result<Var> {
        self.op(kind, name, &[("x", x.into()), ("y", y.into())])
    }

    /// An op with the operand `x` alone.
    pub(crate) fn unary(&mut self, kind: &str, name: &str, x: &Var) -> Result<Var> {
        self.op(kind, name, &[("x", x.into())])
    }

    /// `x` in another element type; nothing is added when it has that type.
    pub(crate) fn cast(&mut self, name: &str, x: &Var, dtype: DType) -> Result<Var> {
        if x.ty.as_tensor().is_some_and(|t| t.dtype == dtype) {
            return Ok(x.clone());
        }
        self.op(
            "cast",
            name,
            &[("x", x.into()), ("dtype", dtype.word().into())],
        )
    }

    pub(crate) fn reshape(&mut self, name: &str, x: &Var, shape: &[usize]) -> Result<Var> {
        let shape = ints(name, shape)?;
        self.op(
            "reshape",
            name,
            &[("x", x.into()), ("shape", shape.as_slice().into())],
        )
    }

    pub(crate) fn transpose(&mut self, name: &str, x: &Var, perm: &[i32]) -> Result<Var> {
        self.op("transpose", name, &[("x", x.into()), ("perm", perm.into())])
    }

    /// `x[begin..end]`, in every dimension.
    pub(crate) fn slice(
        &mut self,
        name: &str,
        x: &Var,
        begin: &[usize],
        end: &[usize],
    ) -> Result<Var> {
        let (begin, end) = (ints(name, begin)?, ints(name, end)?);
        self.op(
            "slice_by_index",
            name,
            &[
                ("x", x.into()),
                ("begin", begin.as_slice().into()),
                ("end", end.as_slice().into()),
            ],
        )
    }

    /// Concatenation along axis 1.
    pub(crate) fn concat(&mut self, name: &str, values: Vec<Var>) -> Result<Var> {
        self.op(
            "concat",
            name,
            &[
                ("values", values.into()),
                ("axis", 1.into()),
                ("interleave", false.into()),
            ],
        )
    }

    /// Matrix product of the last two dimensions, each operand transposed on request.
    pub(crate) fn matmul(
        &mut self,
        name: &str,
        x: &Var,
        y: &Var,
        transposed: [bool; 2],
    ) -> Result<Var> {
        self.op(
            "matmul",
            name,
            &[
                ("x", x.into()),
                ("y", y.into()),
                ("transpose_x", transposed[0].into()),
                ("transpose_y", transposed[1].into()),
            ],
        )
    }

    pub(crate) fn softmax(&mut self, name: &str, x: &Var, axis: i32) -> Result<Var> {
        self.op("softmax", name, &[("x", x.into()), ("axis", axis.into())])
    }

    /// `x · value`, by one constant where it is exact in the graph's type, else by the two of [`factor`].
    pub(crate) fn scaled(&mut self, name: &str, x: &Var, value: f64) -> Result<Var> {
        let args = |g: &Self, x: &Var, by| [("x", x.into()), ("y", g.scalar(by))];
        match self.factor(value) {
            Factor::One(a) => self.op("mul", name, &args(self, x, a)),
            Factor::Two(a, b) => {
                let half = self.op("mul", &format!("{name}_half"), &args(self, x, a))?;
                self.op("mul", name, &args(self, &half, b))
            }
        }
    }

    /// `q` and `k` scaled so that their product is scaled by `value`.
    pub(crate) fn scaled_pair(
        &mut self,
        name: &str,
        q: &Var,
        k: &Var,
        value: f64,
    ) -> Result<(Var, Var)> {
        let args = |g: &Self, x: &Var, by| [("x", x.into()), ("y", g.scalar(by))];
        let (a, b) = match self.factor(value) {
            Factor::One(a) => (a, None),
            Factor::Two(a, b) => (a, Some(b)),
        };
        let q = self.op("mul", &format!("{name}_q_scaled"), &args(self, q, a))?;
        let k = match b {
            Some(b) => self.op("mul", &format!("{name}_k_scaled"), &args(self, k, b))?,
            None => k.clone(),
        };
        Ok((q, k))
    }

    fn factor(&self, value: f64) -> Factor {
        match self.dtype {
            DType::Fp16 => factor(value),
            _ => Factor::One(value as f32),
        }
    }

    /// Convolution `x [B, I, H, W]` by `<path>.weight [O, I, k, k]` (from any source shape with these elements), plus `<path>.bias`.
    pub(crate) fn conv(
        &mut self,
        path: &str,
        name: &str,
        x: &Var,
        outputs: usize,
        kernel: Kernel,
        bias: bool,
    ) -> Result<Var> {
        let inputs = dim(x, 1)?;
        let shape = [outputs, inputs, kernel.size, kernel.size];
        let weight = self.weight(&format!("{path}.weight"), &shape);
        let mut args: Vec<(&str, Arg)> = vec![("x", x.into()), ("weight", (&weight).into())];
        if bias {
            let bias = self.weight(&format!("{path}.bias"), &[outputs]);
            args.push(("bias", (&bias).into()));
        }
        args.extend([
            ("strides", [kernel.stride; 2].into()),
            ("pad_type", "custom".into()),
            ("pad", kernel.pad.into()),
            ("dilations", [1, 1].into()),
            ("groups", 1.into()),
        ]);
        self.op("conv", name, &args)
    }

    /// `linear` on `[B, S, I]` with weight `[O, I]`.
    pub(crate) fn linear(
        &mut self,
        path: &str,
        name: &str,
        x: &Var,
        outputs: usize,
        bias: bool,
    ) -> Result<Var> {
        let inputs = dim(x, 2)?;
        let weight = self.weight(&format!("{path}.weight"), &[outputs, inputs]);
        let mut args: Vec<(&str, Arg)> = vec![("x", x.into()), ("weight", (&weight).into())];
        if bias {
            let bias = self.weight(&format!("{path}.bias"), &[outputs]);
            args.push(("bias", (&bias).into()));
        }
        self.op("linear", name, &args)
    }
}
