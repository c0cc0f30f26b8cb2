//! `gesso verify` along the depth: a damaged weight is found where it is, values are shown, probes are written.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use gesso_testkit::{Golden, fixture};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{copy, gesso, refuses, said, shapes, succeeds};

fn converted(out: &Path, bits: &str) {
    let mut convert = gesso();
    convert.arg("convert").arg(shapes()).arg("-o").arg(out);
    convert.args([
        "--bits",
        bits,
        "--format",
        "mlpackage",
        "--adapter-rank",
        "0",
    ]);
    succeeds(&mut convert);
}

fn verify(paths: &[&Path]) -> Command {
    let mut verify = gesso();
    verify.arg("verify").args(paths);
    verify
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&succeeds(command.arg("--json"))).unwrap()
}

fn sample(name: &str) -> PathBuf {
    fixture("formats/samples")
        .join(name)
        .join(format!("{name}.mlpackage"))
}

fn weights(folder: &Path) -> PathBuf {
    folder.join("Unet.mlpackage/Data/com.apple.CoreML/weights/weight.bin")
}

/// Where the fp16 bytes of a tensor of the checkpoint lie in a weight file.
fn place(file: &[u8], tensor: &str) -> std::ops::Range<usize> {
    let golden = Golden::open(shapes().join("unet/diffusion_pytorch_model.safetensors"));
    let halves = golden.f32(tensor).into_iter().map(half::f16::from_f32);
    let bytes: Vec<u8> = halves.flat_map(half::f16::to_le_bytes).collect();
    let at: Vec<usize> = (0..=file.len() - bytes.len())
        .step_by(64)
        .filter(|&i| file[i..].starts_with(&bytes))
        .collect();
    assert_eq!(at.len(), 1, "{tensor}");
    at[0]..at[0] + bytes.len()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_str().unwrap())
        .collect()
}

#[test]
fn a_damaged_weight_is_found_at_its_module() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    converted(&good, "16");
    for tensor in [
        "conv_in.weight",
        "time_embedding.linear_2.weight",
        "down_blocks.1.resnets.0.norm2.weight",
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.weight",
        "up_blocks.2.attentions.1.transformer_blocks.0.ff.net.2.weight",
        "conv_out.weight",
    ] {
        let bad = folder.path().join("bad");
        copy(&good, &bad);
        // The file may be shared with another folder by a link: write a new one.
        let mut bytes = std::fs::read(weights(&bad)).unwrap();
        std::fs::remove_file(weights(&bad)).unwrap();
        let range = place(&bytes, tensor);
        bytes[range]
            .chunks_exact_mut(2)
            .for_each(|half| half[1] ^= 0x80);
        std::fs::write(weights(&bad), bytes).unwrap();
        let module = tensor.trim_end_matches(".weight");
        for against in [&good, &shapes()] {
            let mut command = match against == &good {
                true => verify(&[&bad, &good]),
                false => {
                    // The folder comes from this checkpoint, as its source hash says; only its weights were damaged.
                    let mut command = verify(&[&bad]);
                    command
                        .arg("--against")
                        .arg(shapes())
                        .arg("--min-psnr=-100");
                    command
                }
            };
            let report = json(command.args(["--per-layer", "--components", "unet"]));
            let layers = &report["layers"]["Unet"];
            assert_eq!(names(&layers["drops"])[0], module);
            assert!(
                names(&layers["only_judged"]).is_empty()
                    && names(&layers["other_shape"]).is_empty()
            );
            let rows = layers["layers"].as_array().unwrap();
            assert!(rows.len() > 240, "{} modules", rows.len());
            // What comes before is untouched: bit for bit against the good package.
            if against == &good {
                let at = rows.iter().position(|r| r["module"] == module).unwrap();
                for row in &rows[..at] {
                    assert!(row["snr_db"].is_null(), "{row}");
                }
            }
        }
        std::fs::remove_dir_all(&bad).unwrap();
    }
    let text = said(
        &verify(&[&good, &good, Path::new("--per-layer")])
            .output()
            .unwrap(),
    );
    assert!(text.contains("Unet: no module of"), "{text}");
    assert!(text.contains("VAEDecoder: no module of"), "{text}");
}

#[test]
fn four_bits_against_sixteen_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let (low, high) = (folder.path().join("4"), folder.path().join("16"));
    converted(&low, "4");
    converted(&high, "16");
    let plot = folder.path().join("plot.svg");
    let mut command = verify(&[&low, &high]);
    command.args(["--per-layer", "--plot"]).arg(&plot);
    let report = json(&mut command);
    let svg = std::fs::read_to_string(&plot).unwrap();
    let mut modules = 0;
    for model in ["TextEncoder", "Unet", "VAEDecoder", "VAEEncoder"] {
        let layers = &report["layers"][model];
        modules += layers["layers"].as_array().unwrap().len();
        assert!(svg.contains(&format!("{model}: SNR in dB")));
        let drops = names(&layers["drops"]);
        // The VAE keeps 16 bits.
        assert_eq!(
            drops.is_empty(),
            model.starts_with("VAE"),
            "{model}: {drops:?}"
        );
        for drop in drops {
            assert!(svg.contains(&format!(">{drop}</text>")), "{drop}");
        }
    }
    assert_eq!(svg.matches("<circle").count(), modules);
    assert_eq!(
        names(&report["layers"]["TextEncoder"]["drops"])[0],
        "text_model.encoder.layers.0.self_attn.q_proj"
    );
    // An existing drawing stays unless it may go.
    let mut again = verify(&[&low, &high]);
    again
        .args(["--components", "unet", "--per-layer", "--plot"])
        .arg(&plot);
    refuses(&mut again, &["plot.svg", "exists", "--force"]);
    succeeds(again.arg("--force"));
    assert_eq!(
        std::fs::read_to_string(&plot)
            .unwrap()
            .matches("<g ")
            .count(),
        1
    );
}

#[test]
fn the_largest_values_and_the_first_that_overflows() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base");
    converted(&base, "16");
    // One model by itself, every module of it.
    let unet = base.join("Unet.mlpackage");
    let report = json(verify(&[&unet]).args(["--precision", "fp16"]));
    let ranges = &report["ranges"]["Unet"];
    assert!(ranges["first_non_finite"].is_null());
    let modules = ranges["modules"].as_array().unwrap();
    assert!(modules.len() > 240);
    assert!(
        modules
            .iter()
            .all(|m| m["largest"].as_f64().unwrap() < 65504.0)
    );
    // The same in every precision but for rounding.
    let strict = json(verify(&[&unet]).args(["--precision", "strict"]));
    for (a, b) in modules
        .iter()
        .zip(strict["ranges"]["Unet"]["modules"].as_array().unwrap())
    {
        let (a, b) = (
            a["largest"].as_f64().unwrap(),
            b["largest"].as_f64().unwrap(),
        );
        assert!((a - b).abs() <= 0.05 * b + 1e-3, "{a} {b}");
    }
    // A norm whose weights are the largest halves that there are: the convolution after it overflows.
    let mut bytes = std::fs::read(weights(&base)).unwrap();
    std::fs::remove_file(weights(&base)).unwrap();
    let range = place(&bytes, "down_blocks.1.resnets.0.norm2.weight");
    bytes[range]
        .chunks_exact_mut(2)
        .for_each(|h| h.copy_from_slice(&0x7bffu16.to_le_bytes()));
    std::fs::write(weights(&base), bytes).unwrap();
    let output = verify(&[&base])
        .args(["--components", "unet", "--precision", "fp16"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    let line = "Unet: first overflow in `down_blocks_1_resnets_0_norm2_weighted` (`mul`), module `down_blocks.1.resnets.0.norm2`";
    assert!(
        text.contains(line) && text.contains("Unet: an output is not finite"),
        "{text}"
    );
    // In fp32 there is no overflow.
    succeeds(verify(&[&base]).args(["--components", "unet"]));
}

/// The UNet of the sd1 goldens as we write it, with the sizes of the one in `fixtures/apple`.
fn ours(folder: &Path) -> PathBuf {
    use gesso_convert::family::sd1::{UnetOptions, unet};
    use gesso_convert::family::{Attention, Precision};
    let model = fixture("goldens/models/sd1");
    let checkpoint =
        gesso_weights::Checkpoint::open(&model, &gesso_weights::OpenOptions::default()).unwrap();
    let options = UnetOptions {
        batch: 1,
        height: 16,
        width: 24,
        tokens: 77,
        precision: Precision::Fp16,
        attention: Attention::SplitEinsum,
        slots: None,
        controlnet_residuals: false,
    };
    let built = unet(checkpoint.unet_config().unwrap(), &options).unwrap();
    let golden = Golden::open(model.join("unet/diffusion_pytorch_model.safetensors"));
    let source: BTreeMap<String, Vec<f32>> = golden
        .names()
        .map(|n| (format!("unet:{n}"), golden.f32(n)))
        .collect();
    let path = folder.join("Ours.mlpackage");
    let about = gesso_convert::About::default();
    let bits = gesso_convert::Bits::new();
    let mut progress = gesso_convert::Silent;
    gesso_convert::emit(&built, &source, &bits, &about, &path, &mut progress).unwrap();
    path
}

fn figure(layers: &Value, module: &str) -> f64 {
    let rows = layers["layers"].as_array().unwrap();
    let row = rows.iter().find(|r| r["module"] == module);
    let db = &row.unwrap_or_else(|| panic!("no module `{module}`"))["snr_db"];
    db.as_f64().unwrap_or(f64::INFINITY)
}

#[test]
fn our_modules_pair_with_those_of_another_converter() {
    let folder = tempfile::tempdir().unwrap();
    let unet = "Stable_Diffusion_version_sd1_unet.mlpackage";
    let theirs = fixture("apple").join(unet);
    let report = json(verify(&[&ours(folder.path()), &theirs]).arg("--per-layer"));
    let layers = &report["layers"]["Ours"];
    let rows = layers["layers"].as_array().unwrap();
    // Every convolution; their group norms carry no module's name.
    let convolutions = rows.iter().filter(|r| r["op"] == "conv").count();
    assert_eq!(convolutions, rows.len());
    assert!(convolutions > 200, "{convolutions}");
    let unpaired = names(&layers["only_judged"]);
    assert!(unpaired.iter().all(|m| m.contains("norm")), "{unpaired:?}");
    assert!(names(&layers["other_shape"]).is_empty());
    // Both have fp16 weights and are computed in fp32: what differs is the order of scaling and the form of the norms.
    assert!(names(&layers["drops"]).is_empty());
    assert_eq!(figure(layers, "conv_in"), f64::INFINITY);
    assert!(figure(layers, "conv_out") > 75.0);

    // Their palettized UNet against their plain one: every module has the same name, norms too.
    let palettized = fixture("apple/palettized").join(unet);
    let report = json(verify(&[&palettized, &theirs]).arg("--per-layer"));
    let layers = &report["layers"]["Stable_Diffusion_version_sd1_unet"];
    assert!(
        names(&layers["only_judged"]).is_empty() && names(&layers["only_reference"]).is_empty()
    );
    assert_eq!(figure(layers, "conv_in"), f64::INFINITY);
    assert!(figure(layers, "conv_out") < 40.0);

    // Their text encoder was traced inside another module.
    let base = folder.path().join("base");
    let mut convert = gesso();
    convert
        .arg("convert")
        .arg(fixture("goldens/models/sd1"))
        .arg("-o")
        .arg(&base);
    convert.arg("--tokenizer").arg(shapes().join("tokenizer"));
    succeeds(convert.args(["--format", "mlpackage", "--adapter-rank", "0"]));
    let encoder = fixture("apple/Stable_Diffusion_version_sd1_text_encoder.mlpackage");
    let report = json(verify(&[&base.join("TextEncoder.mlpackage"), &encoder]).arg("--per-layer"));
    let layers = &report["layers"]["TextEncoder"];
    assert!(names(&layers["drops"]).is_empty());
    assert!(figure(layers, "text_model.encoder.layers.2.mlp.fc2") > 75.0);
    assert!(names(&layers["only_reference"]).is_empty(), "{layers}");
}

#[test]
fn probes_are_what_the_program_computes() {
    let folder = tempfile::tempdir().unwrap();
    let x = folder.path().join("x.safetensors");
    let file = folder.path().join("probes.safetensors");
    let data: Vec<u8> = (0u16..1024)
        .flat_map(|i| (f32::from(i % 89) / 44.0 - 1.0).to_le_bytes())
        .collect();
    let tensor =
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 16, 8, 8], &data)
            .unwrap();
    std::fs::write(&x, safetensors::serialize([("x", tensor)], None).unwrap()).unwrap();
    let (base, lut) = (sample("base_fp16_ios16"), sample("lut8_pertensor_ios16"));
    let mut command = verify(&[&lut, &base]);
    command
        .arg("--inputs")
        .arg(&x)
        .args(["--probe", "conv1", "--probe", "act_cast_fp16"]);
    let report = json(command.arg("-o").arg(&file));
    assert_eq!(report["probes"].as_array().unwrap().len(), 4);
    let probes = Golden::open(&file);
    let name = "lut8_pertensor_ios16";
    for side in ["", ".reference"] {
        let conv = probes.f32(&format!("{name}.conv1{side}"));
        let act = probes.f32(&format!("{name}.act_cast_fp16{side}"));
        let relu: Vec<f32> = conv.iter().map(|x| x.max(0.0)).collect();
        assert_eq!(relu, act);
        assert_eq!(probes.shape(&format!("{name}.conv1{side}")), [1, 32, 8, 8]);
    }
    // The reference's values are those of `run` on the same inputs.
    let outputs = folder.path().join("out.safetensors");
    let mut run = gesso();
    run.arg("run")
        .arg(&base)
        .arg("--inputs")
        .arg(&x)
        .arg("--outputs")
        .arg(&outputs);
    succeeds(run.args(["--precision", "fp32"]));
    let pooled: Vec<f32> = probes
        .f32(&format!("{name}.act_cast_fp16.reference"))
        .chunks(64)
        .map(|c| c.iter().sum::<f32>() / 64.0)
        .collect();
    let fc = Golden::open(&outputs).f32("fc");
    assert!(fc.len() == 24 && pooled.len() == 32);
    // fc = W · pooled + b: the probe of `fc`'s weights closes the circle.
    let weights = folder.path().join("weights.safetensors");
    let mut command = verify(&[&base]);
    command.arg("--inputs").arg(&x).args([
        "--probe",
        "fc_weight_0_to_fp16",
        "--probe",
        "fc_bias_0_to_fp16",
    ]);
    succeeds(command.arg("-o").arg(&weights));
    let weights = Golden::open(&weights);
    let w = weights.f32("base_fp16_ios16.fc_weight_0_to_fp16");
    let b = weights.f32("base_fp16_ios16.fc_bias_0_to_fp16");
    for (row, (wanted, b)) in w.chunks(32).zip(fc.iter().zip(&b)) {
        let sum: f32 = row.iter().zip(&pooled).map(|(w, p)| w * p).sum();
        assert!((sum + b - wanted).abs() < 1e-4);
    }
    refuses(
        verify(&[&base]).args(["--probe", "conv2"]),
        &["no value or module `conv2`", "`conv1`"],
    );
    refuses(
        verify(&[&base]).arg("--per-layer"),
        &["--per-layer", "--against"],
    );
    refuses(
        verify(&[&base, &fixture("shapes/base")]).arg("--per-layer"),
        &["shapes/base"],
    );
}

#[test]
fn functions_and_states_are_compared() {
    let several = sample("multifunction_ios18");
    let report = json(verify(&[&several, &several]).arg("--per-layer"));
    assert!(
        report["losses"][0]["psnr_db"].is_null(),
        "the same function twice"
    );
    // `alpha` is the default; the sample's two functions are the same.
    let mut command = verify(&[&several]);
    let alpha = json(&mut command);
    let mut command = verify(&[&several]);
    let beta = json(command.args(["--function", "beta"]));
    assert_eq!(alpha["ranges"], beta["ranges"]);
    refuses(
        verify(&[&several]).args(["--function", "gamma"]),
        &["no function `gamma`", "`alpha`", "`beta`"],
    );
    let stateful = sample("stateful_ios18");
    let report = json(&mut verify(&[&stateful, &stateful]));
    assert!(report["losses"][0]["psnr_db"].is_null());
}

#[test]
fn a_state_is_kept_between_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let file = |name: &str, tensor: &str, values: [f32; 8]| {
        let data: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1, 8], &data)
            .unwrap();
        std::fs::write(
            at(name),
            safetensors::serialize([(tensor, view)], None).unwrap(),
        )
        .unwrap();
    };
    file("x", "x", [0.5, -1.0, 0.0, 2048.0, 0.1, 3.0, 4.0, 5.0]);
    let run = |more: &[&str]| {
        let mut run = gesso();
        run.arg("run").arg(sample("stateful_ios18")).arg("--force");
        run.arg("--inputs")
            .arg(at("x"))
            .arg("--outputs")
            .arg(at("y"));
        run.args(more);
        run
    };
    let state = at("state");
    let state = state.to_str().unwrap();
    // acc += x; y = 2 acc, from zeros.
    succeeds(&mut run(&["--repeat", "3", "--state-output", state]));
    let thrice = |x: f32| {
        let f16 = |x: f32| half::f16::from_f32(x).to_f32();
        f16(f16(f16(x) + x) + x)
    };
    let x = [0.5, -1.0, 0.0, 2048.0, 0.1, 3.0, 4.0, 5.0];
    let acc = x.map(thrice);
    assert_eq!(Golden::open(at("state")).f32("acc"), acc);
    assert_eq!(Golden::open(at("y")).f32("y"), acc.map(|a| 2.0 * a));
    // Three in one go are one and two over a file.
    succeeds(&mut run(&["--state-output", state]));
    succeeds(&mut run(&[
        "--state",
        state,
        "--repeat",
        "2",
        "--state-output",
        state,
    ]));
    assert_eq!(Golden::open(at("state")).f32("acc"), acc);
    let text = succeeds(&mut run(&[]));
    assert!(text.contains("acc"), "{text}");

    file("other", "akk", [0.0; 8]);
    let other = at("other");
    refuses(
        &mut run(&["--state", other.to_str().unwrap()]),
        &["no state `akk`", "`acc`"],
    );
    let mut stateless = gesso();
    stateless.arg("run").arg(sample("base_fp16_ios16"));
    stateless
        .arg("--inputs")
        .arg(at("x"))
        .arg("--outputs")
        .arg(at("z"))
        .args(["--state", state]);
    refuses(&mut stateless, &["has no states"]);
    assert!(!at("z").exists());
}
