//! What Apple's Swift package looks for: files, numbers of features, kinds of model.

use super::folder::{Folder, Part};
use super::{Answers, Lookup, SWIFT};
use crate::opened::Form;

pub(super) const LOOKUPS: &[Lookup] = &[
    Lookup {
        name: "vocab",
        apps: SWIFT,
        does: "reads `vocab.json` for the tokenizer",
        check: vocab,
    },
    Lookup {
        name: "merges",
        apps: SWIFT,
        does: "reads `merges.txt` for the tokenizer",
        check: merges,
    },
    Lookup {
        name: "text-encoder",
        apps: SWIFT,
        does: "loads `TextEncoder.mlmodelc`, and `TextEncoder2.mlmodelc` for SDXL",
        check: text_encoder,
    },
    Lookup {
        name: "unet",
        apps: SWIFT,
        does: "loads `UnetChunk1` and `UnetChunk2` when both are there, else `Unet`",
        check: unet,
    },
    Lookup {
        name: "vae-decoder",
        apps: SWIFT,
        does: "loads `VAEDecoder.mlmodelc`",
        check: vae_decoder,
    },
    Lookup {
        name: "vae-encoder",
        apps: SWIFT,
        does: "loads `VAEEncoder.mlmodelc` when a picture is to start from another",
        check: vae_encoder,
    },
    Lookup {
        name: "compiled-only",
        apps: SWIFT,
        does: "loads compiled models; a package is never looked for",
        check: compiled_only,
    },
    Lookup {
        name: "loads",
        apps: SWIFT,
        does: "gives each model to Core ML",
        check: loads,
    },
    Lookup {
        name: "one-input",
        apps: SWIFT,
        does: "feeds the first of an unordered dictionary of inputs in text encoders, decoder and encoder",
        check: one_input,
    },
    Lookup {
        name: "one-output",
        apps: SWIFT,
        does: "takes the first of an unordered set of outputs of UNet, decoder and encoder",
        check: one_output,
    },
    Lookup {
        name: "no-states",
        apps: SWIFT,
        does: "makes no `MLState`",
        check: no_states,
    },
    Lookup {
        name: "no-flexible-shapes",
        apps: SWIFT,
        does: "reads fixed shapes from the description",
        check: no_flexible_shapes,
    },
    Lookup {
        name: "no-functions",
        apps: SWIFT,
        does: "never names a function",
        check: no_functions,
    },
];

fn vocab(f: &Folder, a: &mut Answers) {
    match std::fs::read(f.path.join("vocab.json")) {
        Err(_) => a.refuse("`vocab.json` is missing"),
        Ok(bytes) => {
            let words: Result<std::collections::BTreeMap<String, u32>, _> =
                serde_json::from_slice(&bytes);
            match words {
                Ok(words) if words.is_empty() => a.refuse("`vocab.json` holds no word"),
                Ok(_) => {}
                Err(e) => a.refuse(format!(
                    "`vocab.json` is no dictionary of words to numbers: {e}"
                )),
            }
        }
    }
}

fn merges(f: &Folder, a: &mut Answers) {
    match std::fs::read_to_string(f.path.join("merges.txt")) {
        Err(_) => a.refuse("`merges.txt` is missing"),
        Ok(text) => {
            let pairs = text
                .lines()
                .filter(|l| !l.starts_with('#') && !l.is_empty());
            if let Some(line) = pairs.clone().find(|l| l.split(' ').count() != 2) {
                a.refuse(format!(
                    "`merges.txt`: expected two words in a line, found `{line}`"
                ));
            } else if pairs.count() == 0 {
                a.refuse("`merges.txt` holds no pair");
            }
        }
    }
}

/// Refuses when a model is not there under its name.
fn require(f: &Folder, name: &str, a: &mut Answers) {
    if f.part(name).is_some() {
        return;
    }
    let other = f.parts.keys().find(|n| n.eq_ignore_ascii_case(name));
    match other {
        Some(other) => a.refuse(format!(
            "`{name}.mlmodelc` is missing; `{other}` differs in case"
        )),
        None => a.refuse(format!("`{name}.mlmodelc` is missing")),
    }
}

fn text_encoder(f: &Folder, a: &mut Answers) {
    require(f, "TextEncoder", a);
    if f.is_xl() {
        require(f, "TextEncoder2", a);
    }
}

fn unet(f: &Folder, a: &mut Answers) {
    if f.unet().is_some() {
        return;
    }
    let chunks = ["UnetChunk1", "UnetChunk2"].map(|name| f.part(name).is_some());
    match chunks {
        [true, false] => a.refuse("`UnetChunk1` is there, but `UnetChunk2.mlmodelc` is missing"),
        [false, true] => a.refuse("`UnetChunk2` is there, but `UnetChunk1.mlmodelc` is missing"),
        _ => require(f, "Unet", a),
    }
}

fn vae_decoder(f: &Folder, a: &mut Answers) {
    require(f, "VAEDecoder", a);
}

fn vae_encoder(f: &Folder, a: &mut Answers) {
    if f.part("VAEEncoder").is_none() {
        a.warn("`VAEEncoder.mlmodelc` is missing: no picture can start from another");
    }
}

fn compiled_only(f: &Folder, a: &mut Answers) {
    let packages = f
        .used()
        .chain(&f.control_nets)
        .filter(|p| p.form == Form::Package);
    let names: Vec<String> = packages.map(|p| format!("`{}`", p.file)).collect();
    if !names.is_empty() {
        let text = format!(
            "{} must be compiled to `.mlmodelc` first; run `gesso compile`",
            names.join(", ")
        );
        a.refuse(text);
    }
}

fn loads(f: &Folder, a: &mut Answers) {
    for part in f.used().chain(&f.control_nets) {
        for error in &part.errors {
            a.refuse(format!("`{}`: {error}", part.file));
        }
    }
}

/// Those of `names` that are there and open.
fn open<'f>(f: &'f Folder, names: &'f [&str]) -> impl Iterator<Item = &'f Part> {
    names
        .iter()
        .filter_map(|name| f.part(name))
        .filter(|p| p.opened.is_ok())
}

fn one_input(f: &Folder, a: &mut Answers) {
    for part in open(
        f,
        &["TextEncoder", "TextEncoder2", "VAEDecoder", "VAEEncoder"],
    ) {
        let count = part.inputs().len();
        if count != 1 {
            a.refuse(format!(
                "`{}` has {count} inputs, expected exactly one",
                part.file
            ));
        }
    }
}

fn one_output(f: &Folder, a: &mut Answers) {
    let unet = f.unet().map(|(_, last)| last);
    for part in open(f, &["VAEDecoder", "VAEEncoder"]).chain(unet.filter(|p| p.opened.is_ok())) {
        let count = part.outputs().len();
        if count != 1 {
            a.refuse(format!(
                "`{}` has {count} outputs, expected exactly one",
                part.file
            ));
        }
    }
}

fn no_states(f: &Folder, a: &mut Answers) {
    for part in f.used() {
        if let Some(state) = part.states().first() {
            a.refuse(format!(
                "`{}` has state `{}`, which the app does not make",
                part.file, state.name
            ));
        }
    }
}

fn no_flexible_shapes(f: &Folder, a: &mut Answers) {
    for part in f.used() {
        if let Some(feature) = part.inputs().iter().find(|i| i.flexible) {
            a.refuse(format!(
                "`{}`: input `{}` has a flexible shape",
                part.file, feature.name
            ));
        }
    }
}

fn no_functions(f: &Folder, a: &mut Answers) {
    for part in f.used().filter(|p| p.functions() > 0) {
        a.refuse(format!(
            "`{}` has {} functions, which the app cannot name",
            part.file,
            part.functions()
        ));
    }
}
