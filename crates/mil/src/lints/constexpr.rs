//! Compressed weights.

use super::subject::{OpSite, values};
use super::{Check, Lint, Report, Severity, Subject};
use crate::ops::Opset;
use crate::{Binding, DType, Operation, TensorType};
use std::collections::BTreeMap;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L35",
        name: "palette-target",
        severity: Severity::Warning,
        rule: "no palette of 3 bits, grouped channels or vectors below iOS 18, and no palette with a scale around it",
        why: "older systems do not decode them, and scaled palettes crash or give wrong numbers",
        source: "coremltools ops/defs/iOS16/constexpr_ops.py; apple/coremltools PR 2688, issue 2716",
        example: "`constexpr_lut_to_dense` under `constexpr_blockwise_shift_scale`; multiply the scale into the table",
        check: Check::Static(target),
    },
    Lint {
        id: "L36",
        name: "palette-groups",
        severity: Severity::Warning,
        rule: "the number of groups of a palette divides each dimension of its tensor",
        why: "coremltools leaves such a tensor out, after it has scaled its weights in place",
        source: "apple/coremltools PR 2777",
        example: "32 channels in 5 groups",
        check: Check::Static(groups),
    },
    Lint {
        id: "L37",
        name: "affine-axis",
        severity: Severity::Warning,
        rule: "the axis of `constexpr_affine_dequantize` lies in [-rank, rank) and its size is that of a vector scale",
        why: "a wrong axis dequantizes wrongly",
        source: "coremltools ops/defs/iOS16/constexpr_ops.py; apple/coremltools PR 2589",
        example: "scale of 32 values on an axis of size 16",
        check: Check::Static(axis),
    },
    Lint {
        id: "L38",
        name: "fp8",
        severity: Severity::Warning,
        rule: "no constant is an 8-bit float",
        why: "the compiler of iOS 26 crashes on them",
        source: "a helper `_fp8_compile` under Apple's copyright in a fork of coremltools",
        example: "a `const` of dtype fp8e4m3fn; store int8 with a scale",
        check: Check::Static(fp8),
    },
];

/// Type of an operand, by attribute or by literal input.
fn operand<'a>(op: &'a Operation, name: &str) -> Option<&'a TensorType> {
    values(op)
        .find(|(n, _)| *n == name)
        .and_then(|(_, v)| v.ty.as_tensor())
}

fn dense(op: &Operation) -> Option<Vec<usize>> {
    op.outputs.first()?.ty.as_tensor()?.shape()
}

fn target(s: &Subject<'_>, r: &mut Report) {
    let sites = s.ops();
    let kinds: BTreeMap<(&str, &str), &str> = sites
        .iter()
        .flat_map(|site| {
            site.op
                .outputs
                .iter()
                .map(|o| ((site.function, o.name.as_str()), site.op.kind.as_str()))
        })
        .collect();
    for site in &sites {
        if site.op.kind.starts_with("constexpr_lut") {
            palette(s, site, r);
        }
        let partner = match site.op.kind.as_str() {
            "constexpr_lut_to_dense" => "constexpr_blockwise_shift_scale",
            "constexpr_blockwise_shift_scale" => "constexpr_lut_to_dense",
            _ => continue,
        };
        for binding in site.op.inputs.values().flatten() {
            if let Binding::Name(n) = binding
                && kinds.get(&(site.function, n.as_str())) == Some(&partner)
            {
                r.add(
                    site.place(),
                    format!("a palette and a scale are chained through `{n}`"),
                );
            }
        }
    }
}

fn palette(s: &Subject<'_>, site: &OpSite<'_>, r: &mut Report) {
    let old = Opset::from_name(site.opset).is_some_and(|o| o < Opset::CoreML8)
        || s.model.specification_version < 9;
    let Some(lut) = operand(site.op, "lut").and_then(TensorType::shape) else {
        return;
    };
    if !old {
        return;
    }
    let (entries, vector, grouped) = match lut.as_slice() {
        [entries] => (*entries, 1, false),
        [groups @ .., entries, vector] => (*entries, *vector, groups.iter().any(|g| *g > 1)),
        [] => return,
    };
    if entries == 8 {
        r.add(site.place(), "a palette of 3 bits needs iOS 18");
    }
    if vector > 1 {
        r.add(
            site.place(),
            format!("a palette of vectors ({vector} values) needs iOS 18"),
        );
    }
    if grouped {
        r.add(site.place(), "a palette per group of channels needs iOS 18");
    }
}

fn groups(s: &Subject<'_>, r: &mut Report) {
    for site in s
        .ops()
        .iter()
        .filter(|site| site.op.kind == "constexpr_lut_to_dense")
    {
        let lut = operand(site.op, "lut").and_then(TensorType::shape);
        let (Some(lut), Some(dense)) = (lut, dense(site.op)) else {
            continue;
        };
        let Some(groups) = lut.len().checked_sub(2).and_then(|n| lut.get(..n)) else {
            continue;
        };
        if let Some((n, g)) = dense
            .iter()
            .zip(groups)
            .find(|(n, g)| **g == 0 || !n.is_multiple_of(**g))
        {
            r.add(
                site.place(),
                format!("{g} groups do not divide a dimension of {n}"),
            );
        }
    }
}

fn axis(s: &Subject<'_>, r: &mut Report) {
    for site in s
        .ops()
        .iter()
        .filter(|site| site.op.kind == "constexpr_affine_dequantize")
    {
        let Some(shape) = dense(site.op) else {
            continue;
        };
        let axis = values(site.op).find(|(n, _)| *n == "axis");
        let Some(axis) = axis.and_then(|(_, v)| v.as_ints()).and_then(|v| v.first()) else {
            continue;
        };
        let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
        let from_front = if *axis < 0 {
            i64::from(*axis) + rank
        } else {
            i64::from(*axis)
        };
        let size = usize::try_from(from_front).ok().and_then(|i| shape.get(i));
        let Some(size) = size else {
            r.add(
                site.place(),
                format!("axis {axis} is outside [-{rank}, {rank})"),
            );
            continue;
        };
        for name in ["scale", "zero_point"] {
            let vector = operand(site.op, name)
                .filter(|t| t.rank() == 1)
                .and_then(TensorType::count);
            if let Some(n) = vector.filter(|n| n != size) {
                r.add(
                    site.place(),
                    format!("`{name}` has {n} values, but axis {axis} has size {size}"),
                );
            }
        }
    }
}

fn fp8(s: &Subject<'_>, r: &mut Report) {
    let is_fp8 = |t: DType| matches!(t, DType::Fp8E4M3Fn | DType::Fp8E5M2);
    for site in s.ops() {
        let found = values(site.op)
            .filter_map(|(n, v)| Some((n, v.ty.as_tensor()?)))
            .find(|(_, t)| is_fp8(t.dtype));
        if let Some((name, t)) = found {
            r.add(site.place(), format!("`{name}` has type {t}"));
        }
    }
}
