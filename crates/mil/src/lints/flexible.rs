//! Flexible shapes.

use super::features::array;
use super::subject::Role;
use super::{Check, Lint, Report, Severity, Subject};
use gesso_coreml::proto::specification::ArrayFeatureType;
use gesso_coreml::proto::specification::array_feature_type::ShapeFlexibility;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L18",
        name: "flexible-shapes",
        severity: Severity::Error,
        rule: "enumerated shapes hold the default and no empty shape; ranges are in order, one per dimension, and hold the default",
        why: "Apple's validator refuses it",
        source: "apple/coremltools mlmodel/src/Validation/InterfaceValidators.cpp",
        example: "default [1, 64] and range 1…32 for its second dimension",
        check: Check::Static(shapes),
    },
    Lint {
        id: "L19",
        name: "one-flexibility",
        severity: Severity::Error,
        rule: "the inputs of a function have enumerated shapes or ranges, not both",
        why: "the model does not load",
        source: "apple/coremltools issue 2548",
        example: "`a` with enumerated shapes and `b` with ranges; enumerate both",
        check: Check::Static(mixed),
    },
];

fn shapes(s: &Subject<'_>, r: &mut Report) {
    for f in s.features() {
        if let Some(text) = array(&f).and_then(wrong) {
            r.add(f.place(), text);
        }
    }
}

/// What is wrong with the flexibility of an array.
fn wrong(a: &ArrayFeatureType) -> Option<String> {
    match a.shape_flexibility.as_ref()? {
        ShapeFlexibility::EnumeratedShapes(e) => {
            if e.shapes.is_empty() {
                return Some("expected at least one enumerated shape, found none".into());
            }
            if e.shapes.iter().any(|s| s.shape.is_empty()) {
                return Some("an enumerated shape is empty".into());
            }
            let default = e.shapes.iter().any(|s| s.shape == a.shape);
            (!a.shape.is_empty() && !default).then(|| {
                format!(
                    "the default {:?} is not among the enumerated shapes",
                    a.shape
                )
            })
        }
        ShapeFlexibility::ShapeRange(ranges) => {
            let ranges = &ranges.size_ranges;
            if !a.shape.is_empty() && a.shape.len() != ranges.len() {
                let (rank, count) = (a.shape.len(), ranges.len());
                return Some(format!(
                    "the default has {rank} dimensions, but there are {count} ranges"
                ));
            }
            for (i, range) in ranges.iter().enumerate() {
                let (low, high) = (range.lower_bound, u64::try_from(range.upper_bound).ok());
                if high.is_some_and(|high| high < low) {
                    return Some(format!(
                        "range {i} goes from {low} to {}",
                        range.upper_bound
                    ));
                }
                let Some(&size) = a.shape.get(i) else {
                    continue;
                };
                let inside =
                    u64::try_from(size).is_ok_and(|n| n >= low && high.is_none_or(|h| n <= h));
                if !inside {
                    return Some(format!(
                        "the default size {size} of dimension {i} is outside its range"
                    ));
                }
            }
            None
        }
    }
}

fn mixed(s: &Subject<'_>, r: &mut Report) {
    for i in s.interfaces() {
        let (mut enumerated, mut ranged) = (None, None);
        let features = s.features();
        for f in features
            .iter()
            .filter(|f| f.role == Role::Input && f.function == i.function)
        {
            match array(f).and_then(|a| a.shape_flexibility.as_ref()) {
                Some(ShapeFlexibility::EnumeratedShapes(_)) => enumerated = Some(&f.it.name),
                Some(ShapeFlexibility::ShapeRange(_)) => ranged = Some(&f.it.name),
                None => {}
            }
        }
        if let (Some(a), Some(b)) = (enumerated, ranged) {
            let text = format!("input `{a}` has enumerated shapes, but input `{b}` has ranges");
            r.add(format!("function `{}`", i.function), text);
        }
    }
}
