//! Versions of the specification and of the opset.

use super::subject::{Feature, Role};
use super::{Check, Lint, Report, Severity, Subject};
use crate::ops::{self, Opset};
use gesso_coreml::proto::specification::array_feature_type::ArrayDataType;
use gesso_coreml::proto::specification::feature_type::Type;
use gesso_coreml::proto::specification::image_feature_type::ColorSpace;
use gesso_coreml::proto::specification::model;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L1",
        name: "version-set",
        severity: Severity::Error,
        rule: "the specification version is set and not 0",
        why: "the loader refuses a model without a version",
        source: "apple/coremltools mlmodel/src/Model.cpp; apple/coremltools issue 1323",
        example: "`specificationVersion` 0; write 7 for iOS 16",
        check: Check::Static(set),
    },
    Lint {
        id: "L2",
        name: "version-known",
        severity: Severity::Error,
        rule: "the specification version is one that systems know: 6 to 10 for an ML Program",
        why: "a system refuses versions newer than itself, and ML Programs need 6",
        source: "apple/coremltools mlmodel/src/Model.cpp; apple/ml-stable-diffusion issues 7, 33, 57; apple/coremltools issue 198",
        example: "`specificationVersion` 11; the newest known is 10 (iOS 26)",
        check: Check::Static(known),
    },
    Lint {
        id: "L3",
        name: "opset-known",
        severity: Severity::Error,
        rule: "every function's opset is known to the systems that the specification version stands for, and has a block",
        why: "iOS 17 knows no opset CoreML8: unknown opset",
        source: "apple/coremltools issue 2283",
        example: "opset `CoreML8` under version 8; use `CoreML7` or version 9",
        check: Check::Static(opset),
    },
    Lint {
        id: "L44",
        name: "version-lowest",
        severity: Severity::Note,
        rule: "the specification version is the lowest that covers the features used",
        why: "a higher one shuts out older systems for nothing; Apple's tools lower it themselves for descriptions without new features",
        source: "apple/coremltools mlmodel/src/Utils.cpp",
        example: "version 9 for a program whose ops all have their form of iOS 16; 7 would do",
        check: Check::Static(lowest),
    },
];

/// Newest version of the specification.
const NEWEST: i32 = 10;
/// First version with ML Programs.
const OLDEST: i32 = 6;

/// Opsets with the specification version of the same system.
const OPSETS: &[(Opset, i32)] = &[
    (Opset::CoreML5, 6),
    (Opset::CoreML6, 7),
    (Opset::CoreML7, 8),
    (Opset::CoreML8, 9),
    (Opset::CoreML9, 10),
];

/// Specification version of an opset's system.
pub(super) fn version(opset: Opset) -> i32 {
    OPSETS
        .iter()
        .find(|row| row.0 == opset)
        .map_or(NEWEST, |row| row.1)
}

fn set(s: &Subject<'_>, r: &mut Report) {
    let found = s.model.specification_version;
    if found <= 0 {
        r.add(
            "",
            format!("expected a specification version, found {found}"),
        );
    }
}

fn known(s: &Subject<'_>, r: &mut Report) {
    let found = s.model.specification_version;
    if found > NEWEST {
        r.add(
            "",
            format!("expected a specification version up to {NEWEST}, found {found}"),
        );
    }
    let program = matches!(s.model.r#type, Some(model::Type::MlProgram(_)));
    if program && (1..OLDEST).contains(&found) {
        r.add(
            "",
            format!("an ML Program needs specification version {OLDEST}, found {found}"),
        );
    }
}

fn opset(s: &Subject<'_>, r: &mut Report) {
    for (name, f) in s.functions() {
        let place = format!("function `{name}`");
        for opset in std::iter::once(&f.opset).chain(f.blocks.keys().filter(|k| **k != f.opset)) {
            let Some(known) = Opset::from_name(opset) else {
                r.add(
                    &place,
                    format!("expected an opset `CoreML5` to `CoreML9`, found `{opset}`"),
                );
                continue;
            };
            let (needed, found) = (version(known), s.model.specification_version);
            if needed > found && found > 0 {
                let text = format!(
                    "opset `{opset}` belongs to version {needed}, but the model says {found}"
                );
                r.add(&place, text);
            }
        }
        if f.body().is_none() {
            r.add(
                &place,
                format!("expected a block for opset `{}`, found none", f.opset),
            );
        }
    }
}

/// Version that a feature of the description needs, and why.
fn needs(f: &Feature<'_>) -> Option<(i32, &'static str)> {
    if f.role == Role::State {
        return Some((9, "states"));
    }
    match f.kind()? {
        Type::MultiArrayType(a) if a.data_type == ArrayDataType::Float16 as i32 => {
            Some((7, "FLOAT16 arrays"))
        }
        Type::MultiArrayType(a) if a.data_type == ArrayDataType::Int8 as i32 => {
            Some((10, "INT8 arrays"))
        }
        Type::ImageType(i) if i.color_space == ColorSpace::GrayscaleFloat16 as i32 => {
            Some((7, "GRAYSCALE_FLOAT16 images"))
        }
        Type::StateType(_) => Some((9, "states")),
        _ => None,
    }
}

fn lowest(s: &Subject<'_>, r: &mut Report) {
    let mut needed = (OLDEST, "ML Programs".to_string());
    let mut need = |version: i32, why: String| {
        if version > needed.0 {
            needed = (version, why);
        }
    };
    for f in s.features() {
        if let Some((version, why)) = needs(&f) {
            need(version, why.into());
        }
    }
    if !s.description.functions.is_empty() {
        need(9, "functions".into());
    }
    let mut whole = s.program.is_some();
    for site in s.ops() {
        let row = Opset::from_name(site.opset).and_then(|opset| ops::row(&site.op.kind, opset));
        match row {
            Some(row) => need(version(row.since), format!("op `{}`", row.name)),
            None => whole = false,
        }
    }
    let found = s.model.specification_version;
    if whole && found > needed.0 && found <= NEWEST {
        let text = format!(
            "version {} would do (for {}), found {found}",
            needed.0, needed.1
        );
        r.add("", text);
    }
}
