//! Files: weight files, their records, the manifest.

use super::subject::values;
use super::{Check, Lint, Report, Severity, Subject, blobs};
use crate::ValueData;
use std::collections::BTreeSet;

pub(super) const LINTS: &[Lint] = &[
    Lint {
        id: "L11",
        name: "weights-there",
        severity: Severity::Error,
        rule: "every weight file that the program names stands beside the model and is no Git LFS pointer",
        why: "the model does not load; a clone without LFS has pointers of 130 bytes in place of weights",
        source: "apple/ml-stable-diffusion issues 5, 132; apple/coremltools issue 1704",
        example: "`weights/weight.bin` missing; run `git lfs pull`",
        check: Check::Static(there),
    },
    Lint {
        id: "L12",
        name: "file-size",
        severity: Severity::Warning,
        rule: "weight files and the model file are smaller than 2 GiB",
        why: "macOS 13 fails on larger weight files, and a protobuf message cannot be larger at all",
        source: "apple/coremltools issues 1807, 1170",
        example: "an SDXL UNet of 5 GB in fp16; palettize it or cut it into chunks",
        check: Check::Static(size),
    },
    Lint {
        id: "L13",
        name: "mappable",
        severity: Severity::Warning,
        rule: "a weight file can be mapped in full on the devices it is for: a note from 1 GiB, a warning from 4 GiB",
        why: "a file is mapped as a whole, which small devices refuse",
        source: "ggml-org/whisper.cpp issue 2456; getdictus/dictus-ios issue 20",
        example: "a weight file of 1.7 GB for a phone; palettize it or cut it into chunks",
        check: Check::Static(mappable),
    },
    Lint {
        id: "L14",
        name: "records",
        severity: Severity::Error,
        rule: "every blob offset points to a record whose dtype and size are those of the value",
        why: "the weights cannot be read",
        source: "apple/coremltools mlmodel/src/MILBlob/Blob/StorageReader.cpp",
        example: "offset 128 where the record stands at 64",
        check: Check::Static(records),
    },
    Lint {
        id: "L43",
        name: "manifest",
        severity: Severity::Error,
        rule: "the manifest has version 1.0.0 and four keys per item, its paths exist, and its root model is one of them",
        why: "the package cannot be opened",
        source: "apple/coremltools modelpackage/src/ModelPackage.cpp",
        example: "the folder `weights` is listed but was lost in an archive",
        check: Check::Static(manifest),
    },
];

/// 1 GiB.
const GIB: u64 = 1 << 30;

fn there(s: &Subject<'_>, r: &mut Report) {
    let Some(program) = &s.program else { return };
    let named: BTreeSet<String> = blobs(program).into_iter().map(|(file, _)| file).collect();
    for file in named {
        match s.facts.files.get(&file) {
            None => r.add(
                format!("file `{file}`"),
                "the program refers to it, but it is not there",
            ),
            Some(f) if f.pointer => {
                r.add(
                    format!("file `{file}`"),
                    "a Git LFS pointer stands in its place; run `git lfs pull`",
                );
            }
            Some(_) => {}
        }
    }
}

fn size(s: &Subject<'_>, r: &mut Report) {
    for (name, f) in s.facts.files.iter().filter(|(_, f)| f.bytes >= 2 * GIB) {
        r.add(
            format!("file `{name}`"),
            format!("{} bytes, expected less than 2 GiB", f.bytes),
        );
    }
    if s.facts.model_bytes >= 2 * GIB {
        r.add(
            "model file",
            format!("{} bytes, expected less than 2 GiB", s.facts.model_bytes),
        );
    }
}

fn mappable(s: &Subject<'_>, r: &mut Report) {
    for (name, f) in s.facts.files.iter().filter(|(_, f)| f.bytes >= GIB) {
        let severity = if f.bytes >= 4 * GIB {
            Severity::Warning
        } else {
            Severity::Note
        };
        let text = format!(
            "{} bytes are mapped as a whole, which small devices refuse",
            f.bytes
        );
        r.with(severity, format!("file `{name}`"), text);
    }
}

fn records(s: &Subject<'_>, r: &mut Report) {
    for site in s.ops() {
        for (parameter, value) in values(site.op) {
            let ValueData::Blob { file, offset } = &value.data else {
                continue;
            };
            let usable = s.facts.files.get(file).is_some_and(|f| !f.pointer);
            if !usable {
                continue;
            }
            let place = || format!("{}, `{parameter}`", site.place());
            let record = match s.facts.records.get(&(file.clone(), *offset)) {
                Some(Ok(record)) => record,
                Some(Err(text)) => {
                    r.add(place(), text.clone());
                    continue;
                }
                None => continue,
            };
            let Some(t) = value.ty.as_tensor() else {
                continue;
            };
            if !t.dtype.is_stored_as(record.dtype) {
                r.add(
                    place(),
                    format!(
                        "expected {t}, found a record of {:?} at {offset}",
                        record.dtype
                    ),
                );
            } else if t.count().and_then(|n| u64::try_from(n).ok()) != Some(record.elements) {
                let text = format!(
                    "expected {t}, found a record of {} elements at {offset}",
                    record.elements
                );
                r.add(place(), text);
            }
        }
    }
}

fn manifest(s: &Subject<'_>, r: &mut Report) {
    for text in &s.facts.manifest {
        r.add("", text.clone());
    }
}
