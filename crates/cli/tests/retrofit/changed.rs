//! Packages with changed programs, and what their layers are called without names.

use super::*;
use gesso_coreml::package::{self, WeightFile};
use gesso_coreml::proto::specification::{Model as Message, model};
use gesso_mil::{Binding, Program};

/// Changes a package's message in place.
pub(crate) fn change(package: &Path, how: impl FnOnce(&mut Message)) {
    let mut message = Package::open(package).unwrap().model;
    how(&mut message);
    let weights = package.join(WEIGHTS);
    let kept = package.with_extension("bin");
    std::fs::rename(&weights, &kept).unwrap();
    std::fs::remove_dir_all(package).unwrap();
    package::write(package, &message, WeightFile::Move(&kept)).unwrap();
}

pub(crate) fn change_program(package: &Path, how: impl FnOnce(&mut Program)) {
    change(package, |message| {
        let mut program = gesso_mil::from_model(message).unwrap();
        how(&mut program);
        message.r#type = Some(model::Type::MlProgram(
            gesso_mil::to_proto(&program).unwrap(),
        ));
    });
}

/// Gives the variables whose name `new` answers for another name.
pub(crate) fn rename(program: &mut Program, new: impl Fn(&str) -> Option<String>) {
    for function in program.functions.values_mut() {
        for op in function.blocks.values_mut().flat_map(|b| &mut b.operations) {
            for output in &mut op.outputs {
                if let Some(name) = new(&output.name) {
                    output.name = name;
                }
            }
            for binding in op.inputs.values_mut().flatten() {
                if let Binding::Name(name) = binding
                    && let Some(other) = new(name)
                {
                    *name = other;
                }
            }
        }
    }
}

#[test]
fn without_names_shapes_and_order_tell_the_modules() {
    let root = tempfile::tempdir().unwrap();
    let golden = golden();
    for form in ["split", "original", "palettized"] {
        let source = folder(root.path(), form);
        let named = retrofitted(&source);
        let info = FolderInfo::open(&named).unwrap();
        let asset = adapter(&fixture(LORA).join("a.safetensors"), &named);
        let factors = factors(&asset, &root.path().join(format!("{form}.parts")));
        for (file, component, twin, text) in [
            (UNET, "unet", "UnetAdaptable.mlpackage", false),
            (TEXT, "text_encoder", "TextEncoderAdaptable.mlpackage", true),
        ] {
            change_program(&source.join(file), |program| {
                let body = program.functions["main"].body().unwrap();
                let weights: BTreeMap<String, String> = body
                    .operations
                    .iter()
                    .filter(|op| op.kind == "const" || op.kind.starts_with("constexpr"))
                    .enumerate()
                    .map(|(i, op)| (op.outputs[0].name.clone(), format!("c{i}")))
                    .collect();
                rename(program, |name| weights.get(name).cloned());
            });
            let out = root.path().join(format!("{form}-{component}.mlpackage"));
            let mut command = gesso();
            let command = command.args(["retrofit", "--json"]).arg(source.join(file));
            let said = succeeds(command.arg("-o").arg(&out));
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            let said = &said["packages"][0];
            assert_eq!(said["named_by"], "order");
            assert_eq!(
                said["layout_hash"],
                info.slots[component].layout_hash.as_str()
            );
            let mut fed = inputs(&golden, text);
            fed.extend(filled(&info, component, &factors[component], 1.0));
            let wanted = predict(&named.join(twin), &fed);
            assert_eq!(
                bits(&wanted),
                bits(&predict(&out, &fed)),
                "{form} {component}"
            );
        }
    }
}
