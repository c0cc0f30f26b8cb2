//! `gesso doctor`: a converted folder that every loader takes, and one broken variant per look-up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use gesso_coreml::compiled;
use gesso_coreml::package::Package;
use gesso_coreml::proto::specification::array_feature_type::{ShapeFlexibility, ShapeRange};
use gesso_coreml::proto::specification::{
    ArrayFeatureType, FeatureDescription, FunctionDescription, Model, ModelDescription, SizeRange,
    StateFeatureType, feature_type, state_feature_type,
};
use gesso_mil::compiled::{Source, compile};
use std::collections::BTreeMap;
use std::path::Path;
use support::{copy, gesso, lora, said, shapes, succeeds};

const MODELS: [&str; 4] = ["TextEncoder", "Unet", "VAEDecoder", "VAEEncoder"];

/// Writes `NAME.mlmodelc` into `folder` from a package, with changes.
fn compiled_as(
    packages: &Path,
    from: &str,
    folder: &Path,
    name: &str,
    change: impl Fn(&mut Model),
) {
    let mut package = Package::open(&packages.join(format!("{from}.mlpackage"))).unwrap();
    change(&mut package.model);
    let made = compile(
        &package.model,
        &Source {
            name,
            model_name: "model",
            model_hash: [0; 32],
        },
    )
    .unwrap();
    let beside = package.model_file.parent().unwrap();
    let weights: BTreeMap<_, _> = made
        .weights
        .iter()
        .map(|(to, from)| (to.clone(), beside.join(from)))
        .collect();
    let target = folder.join(format!("{name}.mlmodelc"));
    if target.exists() {
        std::fs::remove_dir_all(&target).unwrap();
    }
    compiled::write(&target, &made.files, &weights).unwrap();
}

/// A converted folder (`packages`) and the same with compiled models (`good`).
fn folders(root: &Path) {
    let packages = root.join("packages");
    succeeds(
        gesso()
            .args(["convert", "--format", "mlpackage", "--bits", "4", "-o"])
            .arg(&packages)
            .arg(shapes()),
    );
    copy(&packages, &root.join("good"));
    for name in MODELS {
        compiled_as(&packages, name, &root.join("good"), name, |_| {});
        std::fs::remove_dir_all(root.join(format!("good/{name}.mlpackage"))).unwrap();
    }
}

/// Exit code and document of the doctor.
fn doctor(folder: &Path, app: &str) -> (i32, serde_json::Value) {
    let output = gesso()
        .args(["doctor", "--json", "--app", app])
        .arg(folder)
        .output()
        .unwrap();
    let code = output.status.code().unwrap();
    assert!(code < 2, "{}", said(&output));
    (code, serde_json::from_slice(&output.stdout).unwrap())
}

fn description(m: &mut Model) -> &mut ModelDescription {
    m.description.as_mut().unwrap()
}

fn array(f: &mut FeatureDescription) -> &mut ArrayFeatureType {
    match f.r#type.as_mut().unwrap().r#type.as_mut().unwrap() {
        feature_type::Type::MultiArrayType(a) => a,
        _ => panic!("no array"),
    }
}

fn input<'a>(m: &'a mut Model, name: &str) -> &'a mut FeatureDescription {
    description(m)
        .input
        .iter_mut()
        .find(|f| f.name == name)
        .unwrap()
}

fn second(list: &mut Vec<FeatureDescription>) {
    let mut copy = list[0].clone();
    copy.name = "second".into();
    list.push(copy);
}

/// A folder to break: where the packages are and where the compiled models are.
struct Case<'a> {
    packages: &'a Path,
    folder: &'a Path,
}

impl Case<'_> {
    fn model(&self, name: &str, change: impl Fn(&mut Model)) {
        compiled_as(self.packages, name, self.folder, name, change);
    }

    fn remove(&self, name: &str) {
        let path = self.folder.join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    /// Changes `gesso.json`.
    fn info(&self, change: impl Fn(&mut serde_json::Value)) {
        let path = self.folder.join("gesso.json");
        let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        change(&mut value);
        std::fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
    }
}

type Break = fn(&Case<'_>);

/// App, look-up, part of the reason, what breaks it.
const VARIANTS: &[(&str, &str, &str, Break)] = &[
    ("apple", "vocab", "`vocab.json` is missing", |c| {
        c.remove("vocab.json")
    }),
    ("apple", "vocab", "no dictionary", |c| {
        c.write("vocab.json", "[1]")
    }),
    ("apple", "merges", "`merges.txt` is missing", |c| {
        c.remove("merges.txt")
    }),
    ("apple", "merges", "expected two words", |c| {
        c.write("merges.txt", "a b c\n")
    }),
    (
        "apple",
        "text-encoder",
        "`TextEncoder.mlmodelc` is missing",
        |c| c.remove("TextEncoder.mlmodelc"),
    ),
    ("apple", "unet", "`Unet.mlmodelc` is missing", |c| {
        c.remove("Unet.mlmodelc")
    }),
    ("apple", "unet", "`UnetChunk2.mlmodelc` is missing", |c| {
        std::fs::rename(
            c.folder.join("Unet.mlmodelc"),
            c.folder.join("UnetChunk1.mlmodelc"),
        )
        .unwrap();
    }),
    (
        "apple",
        "vae-decoder",
        "`VAEDecoder.mlmodelc` is missing",
        |c| c.remove("VAEDecoder.mlmodelc"),
    ),
    (
        "apple",
        "compiled-only",
        "`Unet.mlpackage` must be compiled",
        |c| {
            c.remove("Unet.mlmodelc");
            copy(
                &c.packages.join("Unet.mlpackage"),
                &c.folder.join("Unet.mlpackage"),
            );
        },
    ),
    ("apple", "loads", "weights-there", |c| {
        c.remove("Unet.mlmodelc/weights/weight.bin")
    }),
    ("apple", "loads", "model.mil", |c| {
        c.write("Unet.mlmodelc/model.mil", "program(1.0)\n{")
    }),
    ("apple", "one-input", "has 2 inputs", |c| {
        c.model("TextEncoder", |m| second(&mut description(m).input))
    }),
    ("apple", "one-output", "has 2 outputs", |c| {
        c.model("VAEDecoder", |m| second(&mut description(m).output))
    }),
    ("apple", "no-states", "has state `memory`", |c| {
        c.model("Unet", |m| {
            let a = array(input(m, "sample")).clone();
            let mut state = input(m, "sample").clone();
            state.name = "memory".into();
            state.r#type.as_mut().unwrap().r#type =
                Some(feature_type::Type::StateType(StateFeatureType {
                    r#type: Some(state_feature_type::Type::ArrayType(a)),
                }));
            description(m).state.push(state);
        });
    }),
    (
        "apple",
        "no-flexible-shapes",
        "`sample` has a flexible shape",
        |c| {
            c.model("Unet", |m| {
                let a = array(input(m, "sample"));
                let range = |n: &i64| SizeRange {
                    lower_bound: 1,
                    upper_bound: *n,
                };
                let size_ranges = a.shape.iter().map(range).collect();
                a.shape_flexibility =
                    Some(ShapeFlexibility::ShapeRange(ShapeRange { size_ranges }));
            });
        },
    ),
    ("apple", "no-functions", "has 1 functions", |c| {
        c.model("Unet", |m| {
            m.specification_version = 9;
            let d = description(m);
            d.functions = vec![FunctionDescription {
                name: "main".into(),
                input: std::mem::take(&mut d.input),
                output: std::mem::take(&mut d.output),
                ..Default::default()
            }];
            d.default_function_name = "main".into();
        });
    }),
    ("apple", "text-input", "expected [1, 77]", |c| {
        c.model("TextEncoder", |m| {
            array(&mut description(m).input[0]).shape = vec![1, 78]
        });
    }),
    (
        "apple",
        "text-output",
        "no output `last_hidden_state`",
        |c| {
            c.model("TextEncoder", |m| {
                for f in &mut description(m).output {
                    f.name = f.name.replace("last_hidden_state", "hidden");
                }
            });
        },
    ),
    ("apple", "unet-inputs", "no input `timestep`", |c| {
        c.model("Unet", |m| input(m, "timestep").name = "time".into());
    }),
    ("apple", "unet-inputs", "nobody feeds input `second`", |c| {
        c.model("Unet", |m| second(&mut description(m).input));
    }),
    ("apple", "sample-shape", "expected [2, 4, h, w]", |c| {
        c.model("Unet", |m| {
            array(input(m, "sample")).shape = vec![4, 16, 16]
        });
    }),
    ("apple", "unet-shapes", "`timestep` has shape [3]", |c| {
        c.model("Unet", |m| array(input(m, "timestep")).shape = vec![3]);
    }),
    ("apple", "text-width", "values per token", |c| {
        c.model("Unet", |m| {
            array(input(m, "encoder_hidden_states")).shape[1] += 1
        });
    }),
    ("apple", "decoder-input", "but `sample` has", |c| {
        c.model("VAEDecoder", |m| {
            array(&mut description(m).input[0]).shape[2] += 1
        });
    }),
    ("apple", "decoder-output", "expected [1, 3, H, W]", |c| {
        c.model("VAEDecoder", |m| {
            array(&mut description(m).output[0]).shape[1] = 4
        });
    }),
    ("apple", "encoder-input", "but pictures have", |c| {
        c.model("VAEEncoder", |m| {
            array(&mut description(m).input[0]).shape[2] += 8
        });
    }),
    ("apple", "safety-checker", "no input `clip_input`", |c| {
        compiled_as(c.packages, "VAEEncoder", c.folder, "SafetyChecker", |_| {});
    }),
    ("apple", "control-net", "no input `controlnet_cond`", |c| {
        compiled_as(c.packages, "Unet", c.folder, "ControlledUnet", |_| {});
        compiled_as(
            c.packages,
            "Unet",
            &c.folder.join("controlnet"),
            "Canny",
            |_| {},
        );
    }),
    ("mochi", "metadata", "has no `metadata.json`", |c| {
        c.remove("Unet.mlmodelc/metadata.json")
    }),
    ("mochi", "metadata-form", "no array with one object", |c| {
        c.write("Unet.mlmodelc/metadata.json", "[]")
    }),
    (
        "guernika",
        "histogram",
        "mlProgramOperationTypeHistogram",
        |c| {
            c.write("Unet.mlmodelc/metadata.json", "[{}]");
        },
    ),
    ("gesso", "gesso.json", "`gesso.json` is missing", |c| {
        c.remove("gesso.json")
    }),
    ("gesso", "gesso.json", "`schema` is 99", |c| {
        c.info(|v| v["schema"] = 99.into())
    }),
    (
        "gesso",
        "packages",
        "`VAEEncoder.mlpackage` is listed",
        |c| c.remove("VAEEncoder.mlmodelc"),
    ),
    ("gesso", "features", "is listed as fp16", |c| {
        c.info(|v| v["packages"]["Unet"]["inputs"][0]["shape"][0] = 7.into());
    }),
    ("gesso", "slots", "layout hash", |c| {
        c.info(|v| v["slots"]["unet"]["layout_hash"] = "00".into());
    }),
    ("gesso", "tokenizer", "`vocab.json` is missing", |c| {
        c.remove("vocab.json")
    }),
    ("gesso", "adapters", "broken.mlmodelcassets", |c| {
        c.write("broken.mlmodelcassets", "PK")
    }),
];

#[test]
fn each_broken_look_up_is_named() {
    let root = tempfile::tempdir().unwrap();
    folders(root.path());
    let (packages, good) = (root.path().join("packages"), root.path().join("good"));

    let output = gesso().arg("doctor").arg(&good).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for app in ["apple", "mochi", "guernika", "gesso"] {
        assert!(text.contains(&format!("{app}: yes\n")), "{text}");
    }

    for (i, (app, lookup, reason, break_it)) in VARIANTS.iter().enumerate() {
        let folder = root.path().join(format!("variant-{i}"));
        copy(&good, &folder);
        break_it(&Case {
            packages: &packages,
            folder: &folder,
        });
        let (code, document) = doctor(&folder, app);
        assert_eq!(code, 1, "{lookup}: {document:#}");
        assert_eq!(document["loads"][app], false, "{lookup}");
        let named = document["reasons"].as_array().unwrap().iter().any(|r| {
            r["lookup"] == *lookup
                && r["refuses"] == true
                && r["text"].as_str().unwrap().contains(reason)
        });
        assert!(named, "{lookup}: no `{reason}` in {document:#}");
    }
}

#[test]
fn packages_load_in_gesso_and_are_to_be_compiled_for_others() {
    let root = tempfile::tempdir().unwrap();
    folders(root.path());
    let packages = root.path().join("packages");
    assert_eq!(doctor(&packages, "gesso").0, 0);
    let (code, document) = doctor(&packages, "apple");
    let refusals: Vec<&str> = document["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["refuses"] == true)
        .map(|r| r["lookup"].as_str().unwrap())
        .collect();
    assert_eq!((code, refusals), (1, vec!["compiled-only"]));
    let memory = &document["memory"];
    let (all, one) = (
        memory["resident"].as_u64().unwrap(),
        memory["one_at_a_time"].as_u64().unwrap(),
    );
    assert!(all > one && one > 0, "{memory}");

    // An adapter of this folder is taken, and one that cannot be read is not.
    let asset = packages.join("green.mlmodelcassets");
    succeeds(
        gesso()
            .args(["adapter", "--base"])
            .arg(&packages)
            .arg("-o")
            .arg(&asset)
            .arg(lora("sketch")),
    );
    assert_eq!(doctor(&packages, "gesso").0, 0);
}

#[test]
fn every_app_takes_what_convert_writes() {
    let root = tempfile::tempdir().unwrap();
    for (name, options) in [
        ("split", vec!["--bits", "8"]),
        ("original", vec!["--bits", "4", "--attention", "original"]),
        ("fp32", vec!["--precision", "fp32", "--adapter-rank", "0"]),
        ("compiled", vec!["--format", "mlmodelc"]),
    ] {
        let out = root.path().join(name);
        succeeds(
            gesso()
                .arg("convert")
                .arg(shapes())
                .arg("-o")
                .arg(&out)
                .args(options),
        );
        for app in ["apple", "mochi", "guernika", "gesso"] {
            let (code, document) = doctor(&out, app);
            assert_eq!(code, 0, "{name}, {app}: {document}");
        }
    }
}
