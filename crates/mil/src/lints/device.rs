//! What devices and clients of some kind stumble over.

use super::features::array;
use super::subject::Role;
use super::{Check, Lint, Report, Severity, Subject};
use gesso_coreml::proto::specification::array_feature_type::ArrayDataType;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L39",
        name: "text-encoder-memory",
        severity: Severity::Warning,
        rule: "a compressed second text encoder of SDXL is cut into chunks or kept off the Neural Engine on phones with 6 GB",
        why: "it ran out of memory or failed with ANE compile error 11",
        source: "apple/ml-stable-diffusion issues 254, 255",
        example: "TextEncoder2 in 4 bits on a phone; use CPU and GPU",
        check: Check::Unchecked(
            "it depends on the memory of the device and on its compiler, which no file tells",
        ),
    },
    Lint {
        id: "L40",
        name: "execution-plan",
        severity: Severity::Warning,
        rule: "where error -14 (\"execution plan\") comes up, another choice of compute units is tried",
        why: "the planner has one error for everything; it was seen with the Neural Engine, states and masks together",
        source: "apple/coremltools issue 2325; finnvoor/CoreMLPipelines PR 4",
        example: "error -14 on all units; use CPU and GPU",
        check: Check::Unchecked("an error at run time that no known property of a file causes"),
    },
    Lint {
        id: "L41",
        name: "output-strides",
        severity: Severity::Warning,
        rule: "FLOAT16 outputs have an innermost dimension that is a multiple of 32",
        why: "others are padded in memory, and clients that ignore the strides of `MLMultiArray` read them wrongly",
        source: "apple/coremltools issue 1893",
        example: "a FLOAT16 output [1, 77]; declare FLOAT32",
        check: Check::Static(strides),
    },
    Lint {
        id: "L42",
        name: "shaped-array",
        severity: Severity::Warning,
        rule: "outputs for iOS 16 and macOS 13 are FLOAT32; FLOAT16 inputs are a note",
        why: "`MLShapedArray` cannot convert FLOAT16 arrays on macOS 13; inputs are cast by Core ML itself",
        source: "apple/coremltools issue 1947; apple/ml-stable-diffusion issue 253",
        example: "a FLOAT16 output under version 7; cast it to fp32",
        check: Check::Static(shaped_array),
    },
];

fn is_half(dtype: i32) -> bool {
    dtype == ArrayDataType::Float16 as i32
}

fn strides(s: &Subject<'_>, r: &mut Report) {
    for f in s.features().iter().filter(|f| f.role == Role::Output) {
        let Some(a) = array(f).filter(|a| is_half(a.data_type)) else {
            continue;
        };
        if let Some(last) = a.shape.last().filter(|n| *n % 32 != 0) {
            r.add(f.place(), format!("the innermost dimension of a FLOAT16 output is {last}, expected a multiple of 32"));
        }
    }
}

fn shaped_array(s: &Subject<'_>, r: &mut Report) {
    if s.model.specification_version > 7 {
        return;
    }
    let features = s.features();
    let half = || {
        features
            .iter()
            .filter(|f| array(f).is_some_and(|a| is_half(a.data_type)))
    };
    for f in half().filter(|f| f.role == Role::Output) {
        r.add(
            f.place(),
            "a FLOAT16 output cannot become an `MLShapedArray` on macOS 13",
        );
    }
    for i in s.interfaces() {
        let names: Vec<String> = half()
            .filter(|f| f.role == Role::Input && f.function == i.function)
            .map(|f| format!("`{}`", f.it.name))
            .collect();
        if !names.is_empty() {
            let text = format!(
                "FLOAT16 inputs {}; apps on macOS 13 have to give FLOAT32 arrays",
                names.join(", ")
            );
            r.with(Severity::Note, format!("function `{}`", i.function), text);
        }
    }
}
