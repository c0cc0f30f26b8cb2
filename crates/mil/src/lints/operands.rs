//! Operands of ops: constness, dtypes, sizes.

use super::{Check, Lint, Report, Severity, Subject};
use crate::{Dim, Rule};

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L32",
        name: "constant-operands",
        severity: Severity::Warning,
        rule: "weight and bias of `linear` are constant, the bias of `conv` and the weight of `conv_transpose` before iOS 17; so is every parameter that its op wants constant",
        why: "the op is refused, or falls off the fast path",
        source: "coremltools ops/defs/iOS15, ops/defs/iOS17",
        example: "`linear` with a run-time weight; use `matmul`",
        check: Check::Static(|s, r| s.verified_by(Rule::Constness, r)),
    },
    Lint {
        id: "L33",
        name: "one-dtype",
        severity: Severity::Warning,
        rule: "the operands of an op share one float dtype, epsilon, alpha and beta included",
        why: "mixed dtypes are refused or computed wrongly",
        source: "apple/coremltools issues 2470, 1684",
        example: "an fp16 `layer_norm` with an fp32 epsilon",
        check: Check::Static(|s, r| s.verified_by(Rule::OneDType, r)),
    },
    Lint {
        id: "L34",
        name: "sizes",
        severity: Severity::Warning,
        rule: "no dimension is 0, and no dimension of a convolution is above 16384",
        why: "empty tensors fail at run time; larger convolutions fall off the GPU and the Neural Engine",
        source: "thewh1teagle/kokoro-onnx issue 16; microsoft/onnxruntime issue 19543, PR 24594",
        example: "`conv` over [1, 4, 1, 65536]; fold it to [1, 4, 256, 256]",
        check: Check::Static(sizes),
    },
];

/// Largest dimension of a convolution.
const LARGEST: usize = 16_384;

fn sizes(s: &Subject<'_>, r: &mut Report) {
    for (name, f) in s.functions() {
        for input in &f.inputs {
            if input
                .ty
                .as_tensor()
                .is_some_and(|t| t.dims.contains(&Dim::Fixed(0)))
            {
                r.add(
                    format!("function `{name}`, input `{}`", input.name),
                    format!("{} has no elements", input.ty),
                );
            }
        }
    }
    for site in s.ops() {
        for output in &site.op.outputs {
            let Some(t) = output.ty.as_tensor() else {
                continue;
            };
            if t.dims.contains(&Dim::Fixed(0)) {
                r.add(
                    site.place(),
                    format!("output `{}` of type {t} has no elements", output.name),
                );
            }
            let large = t
                .dims
                .iter()
                .any(|d| matches!(d, Dim::Fixed(n) if *n > LARGEST));
            if large && site.op.kind.starts_with("conv") {
                r.add(
                    site.place(),
                    format!("output {t} has a dimension above {LARGEST}"),
                );
            }
        }
    }
}
