//! What a package with slots computes.

use super::*;
use gesso_convert::slots::{SlotModule, SlotTable};
use gesso_testkit::{Tolerance, snr_db};
use std::os::unix::fs::MetadataExt;

#[test]
fn a_lora_in_the_slots_follows_the_goldens() {
    let root = tempfile::tempdir().unwrap();
    let golden = golden();
    for form in ["split", "original"] {
        let out = retrofitted(&folder(root.path(), form));
        let info = FolderInfo::open(&out).unwrap();
        let asset = adapter(&fixture(LORA).join("a.safetensors"), &out);
        let factors = factors(&asset, &root.path().join(format!("{form}.parts")));
        let judge = |text: bool, run: &str, slots: Tensors| {
            let package = ["UnetAdaptable", "TextEncoderAdaptable"][usize::from(text)];
            let mut fed = inputs(&golden, text);
            fed.extend(slots);
            let found = predict(&out.join(&info.packages[package].file), &fed);
            let pairs: &[(&str, &str)] = match text {
                false => &[("noise_pred", "unet.{}.out.noise_pred")],
                true => &[
                    ("last_hidden_state", "text_encoder.{}.out.last_hidden_state"),
                    ("pooled_outputs", "text_encoder.{}.out.pooled"),
                ],
            };
            for (output, reference) in pairs {
                let (_, reference) = golden.get(&reference.replace("{}", run));
                let what = format!("{form} {package} {run} {output}");
                let found = found[*output].as_f32().unwrap();
                let db = Tolerance::Adapter.assert(&what, reference, found);
                eprintln!("{what}: {db:.1} dB");
            }
        };
        for (run, strength) in [("a_1", 1.0), ("a_0.5", 0.5), ("a_-1", -1.0)] {
            judge(
                false,
                run,
                filled(&info, "unet", &factors["unet"], strength),
            );
            let text = filled(&info, "text_encoder", &factors["text_encoder"], strength);
            judge(true, run, text);
        }
        judge(false, "base", Tensors::new());
        judge(true, "base", Tensors::new());
    }
}

#[test]
fn loras_on_convolutions_follow_the_goldens_with_slots_everywhere() {
    let root = tempfile::tempdir().unwrap();
    let golden = golden();
    for form in ["split", "original"] {
        let source = folder(root.path(), form);
        let out = source.with_extension("slots");
        let mut command = gesso();
        let command = command.args(["retrofit", "--adapter-sites", "all"]);
        succeeds(command.arg(&source).arg("-o").arg(&out));
        let info = FolderInfo::open(&out).unwrap();
        let asset = adapter(&fixture(LORA).join("b.safetensors"), &out);
        let factors = factors(&asset, &root.path().join(format!("{form}.parts")));
        let mut fed = inputs(&golden, false);
        fed.extend(filled(&info, "unet", &factors["unet"], 1.0));
        let found = predict(&out.join(&info.packages["UnetAdaptable"].file), &fed);
        let (_, reference) = golden.get("unet.b_1.out.noise_pred");
        let what = format!("{form} b_1");
        let found = found["noise_pred"].as_f32().unwrap();
        let db = Tolerance::Adapter.assert(&what, reference, found);
        eprintln!("{what}: {db:.1} dB");
    }
}

#[test]
fn empty_slots_change_nothing_and_the_weights_are_the_same_file() {
    let root = tempfile::tempdir().unwrap();
    let golden = golden();
    for form in ["split", "original", "palettized"] {
        let source = folder(root.path(), form);
        let out = retrofitted(&source);
        for (plain, twin, text) in [
            (UNET, "UnetAdaptable.mlpackage", false),
            (TEXT, "TextEncoderAdaptable.mlpackage", true),
        ] {
            let fed = inputs(&golden, text);
            let before = predict(&source.join(plain), &fed);
            let after = predict(&out.join(twin), &fed);
            assert_eq!(bits(&before), bits(&after), "{form} {twin}");
            let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
            assert_eq!(
                inode(source.join(plain).join(WEIGHTS)),
                inode(out.join(twin).join(WEIGHTS)),
                "{form} {twin}"
            );
        }
    }
}

#[test]
fn a_palettized_unet_takes_the_same_adapter() {
    let root = tempfile::tempdir().unwrap();
    let golden = golden();
    let out = retrofitted(&folder(root.path(), "palettized"));
    let info = FolderInfo::open(&out).unwrap();
    let asset = adapter(&fixture(LORA).join("a.safetensors"), &out);
    let factors = factors(&asset, &root.path().join("parts"));
    let mut fed = inputs(&golden, false);
    let twin = out.join("UnetAdaptable.mlpackage");
    let base = predict(&twin, &fed);
    fed.extend(filled(&info, "unet", &factors["unet"], 1.0));
    let adapted = predict(&twin, &fed);
    // The palettes move base and adapted output alike, so the difference is the adapter's.
    let of = |name: &str| golden.get(&format!("unet.{name}.out.noise_pred")).1;
    let wanted: Vec<f64> = of("a_1")
        .iter()
        .zip(of("base"))
        .map(|(a, b)| a - b)
        .collect();
    let (a, b) = (&adapted["noise_pred"], &base["noise_pred"]);
    let pairs = a.as_f32().unwrap().iter().zip(b.as_f32().unwrap());
    let found: Vec<f32> = pairs.map(|(a, b)| a - b).collect();
    let (db, nothing) = (
        snr_db(&wanted, &found),
        snr_db(&wanted, &vec![0.0; wanted.len()]),
    );
    eprintln!("palettized: the adapter's difference has {db:.1} dB, no difference {nothing:.1} dB");
    assert!(db > 10.0, "{db}");
}

#[test]
fn sites_choose_the_layers() {
    let root = tempfile::tempdir().unwrap();
    let sites = |sites: &str, out: &Path| {
        let mut command = gesso();
        command.args(["retrofit", "--json", "--adapter-sites", sites]);
        command.arg(fixture("apple").join(UNET)).arg("-o").arg(out);
        command
    };
    let out = root.path().join("out.mlpackage");
    let said = succeeds(&mut sites("attention", &out));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["packages"][0]["modules"], 16 * 8);
    let golden = golden();
    let fed = inputs(&golden, false);
    let before = predict(&fixture("apple").join(UNET), &fed);
    assert_eq!(bits(&before), bits(&predict(&out, &fed)));
    // Everywhere: residual blocks of down, middle and up with their shortcuts; samplers; ends; time.
    let all = root.path().join("all.mlpackage");
    let said = succeeds(&mut sites("all", &all));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let blocks = 8 + 2 + 12;
    assert_eq!(
        said["packages"][0]["modules"],
        16 * 12 + 3 * blocks + shortcuts() + 2 * 3 + 2 + 2
    );
    assert_eq!(bits(&before), bits(&predict(&all, &fed)));
}

/// Residual blocks of the seeded UNet that change the width.
fn shortcuts() -> usize {
    let weights = fixture("goldens/models/sd1/unet/diffusion_pytorch_model.safetensors");
    let weights = Golden::open(weights);
    let names = weights.names();
    names
        .filter(|n| n.ends_with("conv_shortcut.weight"))
        .count()
}

#[test]
fn the_rows_are_those_that_the_modules_have() {
    let root = tempfile::tempdir().unwrap();
    let info = FolderInfo::open(&retrofitted(&folder(root.path(), "split"))).unwrap();
    // 16 transformers with proj_in, ten layers and proj_out; three layers with six.
    assert_eq!(info.slots["unet"].modules.len(), 16 * 12);
    assert_eq!(info.slots["text_encoder"].modules.len(), 3 * 6);
    let one = SlotModule {
        component: "unet".into(),
        module: "up_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k".into(),
        inputs: 32,
        outputs: 24,
        kernel: 1,
    };
    assert!(info.slots["unet"].modules.contains(&one));
    let table = SlotTable::new(32, info.slots["unet"].modules.clone());
    let twin = &info.packages["UnetAdaptable"];
    for (width, rows) in table.widths() {
        let name = SlotTable::input_name(width);
        let input = twin.inputs.iter().find(|i| i.name == name).unwrap();
        assert_eq!((&*input.dtype, input.default), ("fp16", Some(0.0)));
        assert_eq!(input.shape, [rows, 32, width]);
    }
}
