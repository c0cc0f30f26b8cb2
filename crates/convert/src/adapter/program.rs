//! The program of an adapter package: constants that one prediction hands out.
//!
//! ```text
//! main(scale fp32 [1])                                  // optional, 1 when missing
//!   gain_W   = scale · up_mask_W + down_mask_W          // fp32 [m_W, 1, 1]
//!   adapter_W = cast<fp16>(cast<fp32>(factors_W) · gain_W)   // fp16 [m_W, r, W]
//! ```
//!
//! The masks are 1 in the rows of their role and 0 elsewhere. The product is taken in fp32, so a scale of 1 hands out the
//! factors bit for bit and any other scale costs one rounding. No output is a bare constant, which compilers refuse.

use super::factors::ComponentFactors;
use crate::Result;
use crate::built::{Built, Feature, GENERATED};
use crate::family::OPSET;
use crate::slots::{Role, SlotTable};
use gesso_mil::{Arg, Builder, DType, TensorType, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Name of the only input.
pub(crate) const SCALE: &str = "scale";

/// The function that hands out `factors`.
pub(crate) fn build(factors: &ComponentFactors) -> Result<Built> {
    let mut b = Builder::new(OPSET);
    let scale = b.input(SCALE, TensorType::new(DType::Fp32, &[1]));
    let mut outputs = Vec::new();
    let mut features = Vec::new();
    let mut generated = BTreeMap::new();
    for (&width, elements) in &factors.tensors {
        let mask = |role: Role| -> Vec<f32> {
            factors
                .rows
                .iter()
                .filter(|row| row.width == width)
                .flat_map(|row| {
                    std::iter::repeat_n(f32::from(u8::from(row.role == role)), row.taps)
                })
                .collect()
        };
        let (up, down) = (mask(Role::Up), mask(Role::Down));
        let shape = [up.len(), factors.rank, width];
        let column = [up.len(), 1, 1];
        let key = format!("{GENERATED}factors_{width}");
        let constant = b.constant(
            &format!("factors_{width}"),
            Value::external(TensorType::new(DType::Fp16, &shape), &*key),
        );
        generated.insert(key, elements.clone());
        let scaled = b.op(
            "mul",
            &format!("scaled_{width}"),
            &[
                ("x", (&scale).into()),
                ("y", Value::floats(DType::Fp32, &column, &up).into()),
            ],
        )?;
        let gain = b.op(
            "add",
            &format!("gain_{width}"),
            &[
                ("x", (&scaled).into()),
                ("y", Value::floats(DType::Fp32, &column, &down).into()),
            ],
        )?;
        let wide = cast(&mut b, &format!("wide_{width}"), &constant, "fp32")?;
        let product = b.op(
            "mul",
            &format!("product_{width}"),
            &[("x", (&wide).into()), ("y", (&gain).into())],
        )?;
        let name = SlotTable::input_name(width);
        outputs.push(cast(&mut b, &name, &product, "fp16")?);
        features.push(Feature {
            name,
            dtype: DType::Fp16,
            shape: shape.to_vec(),
            default: None,
            description: "Factors by row, [rows, rank, width].".into(),
        });
    }
    Ok(Built {
        function: b.finish(&outputs),
        inputs: vec![Feature {
            name: SCALE.into(),
            dtype: DType::Fp32,
            shape: vec![1],
            default: Some(1.0),
            description: "Factor on the rows of the up factors.".into(),
        }],
        states: Vec::new(),
        outputs: features,
        generated,
        slots: None,
        gathered: BTreeSet::new(),
    })
}

fn cast(b: &mut Builder, name: &str, x: &gesso_mil::Var, dtype: &str) -> Result<gesso_mil::Var> {
    Ok(b.op(
        "cast",
        name,
        &[("x", x.into()), ("dtype", Arg::from(dtype))],
    )?)
}
