//! Rows of the page's table of formats that no other test holds, and the table itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod lora_files;

use gesso_testkit::fixture;
use gesso_weights::Component;
use gesso_weights::lora::{Format, ModuleTable};
use lora_files::{
    Desk, Numbers, family, files, message, module, pair, pattern, resolve, resolved, scalar, scale,
    sd1, write_raw,
};
use safetensors::Dtype;
use std::collections::BTreeSet;
use std::path::Path;

const K: &str = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
const M: &str = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
const TEXT: &str = "text_model.encoder.layers.0.self_attn.q_proj";

/// Names of all functions that are tests below `folder`.
fn tests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = source.lines().map(str::trim).collect();
            for pair in lines.windows(2).filter(|pair| pair[0] == "#[test]") {
                let name = pair[1]
                    .strip_prefix("fn ")
                    .and_then(|l| l.split('(').next());
                found.extend(name.map(str::to_string));
            }
        }
    }
}

#[test]
fn every_row_of_the_page_names_a_test() {
    let root = fixture("..");
    let page = std::fs::read_to_string(root.join("docs/lora.md")).unwrap();
    let start = page.find("## Formats").unwrap();
    let section = &page[start..];
    let section = &section[..section[3..].find("\n## ").unwrap() + 3];
    let mut known = BTreeSet::new();
    for crate_name in ["weights", "convert", "cli"] {
        tests(
            &root.join("crates").join(crate_name).join("tests"),
            &mut known,
        );
        tests(
            &root.join("crates").join(crate_name).join("src"),
            &mut known,
        );
    }
    let mut rows = 0;
    for line in section.lines().filter(|l| l.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, _, names] = cells[..] else {
            panic!("{line}");
        };
        if names == "test" {
            continue;
        }
        for name in names.split(", ") {
            let name = name.trim_matches('`');
            assert!(known.contains(name), "no test `{name}`: {line}");
        }
        rows += 1;
    }
    assert!(rows >= 40, "{rows} rows");
}

#[test]
fn oft_of_kohya_has_a_prefix_of_its_own() {
    let name = K.replacen("lora_unet", "oft_unet", 1);
    let tensors = vec![
        (format!("{name}.oft_blocks"), pattern(&[320, 4, 4])),
        (format!("{name}.alpha"), scalar(0.001)),
    ];
    let lora = files(&tensors, &sd1());
    let adapter = lora.adapter(Component::Unet, M).unwrap();
    assert_eq!((adapter.algorithm(), adapter.rank()), ("oft", Some(4)));
    assert_eq!(lora.applied, 2);
}

#[test]
fn text_encoders_behind_dotted_prefixes() {
    let (l, g) = ("clip_l.transformer", "clip_g.transformer");
    for prefix in ["", "text_encoders."] {
        let tensors = [(l, 768), (g, 1280)]
            .into_iter()
            .flat_map(|(clip, width)| {
                pair(
                    &format!("{prefix}{clip}.{TEXT}"),
                    width,
                    width,
                    4,
                    Some(2.0),
                )
            })
            .collect::<Vec<_>>();
        let lora = files(&tensors, &family("sdxl"));
        assert_eq!(lora.format, Format::Generic);
        for component in [Component::TextEncoder, Component::TextEncoder2] {
            assert_eq!(scale(&lora, component, TEXT), 0.5, "{prefix} {component}");
        }
    }
    // SD 2's encoder is called clip_h.
    let tensors = pair(&format!("clip_h.transformer.{TEXT}"), 1024, 1024, 4, None);
    assert_eq!(files(&tensors, &family("sd2")).modules.len(), 1);
}

#[test]
fn the_wrapper_of_lycoris_marks_no_component() {
    let text = TEXT.replace('.', "_");
    let tensors = [
        pair(
            &format!("lycoris_{}", M.replace('.', "_")),
            1280,
            1280,
            4,
            None,
        ),
        pair(
            "lycoris_middle_block_1_transformer_blocks_0_attn1_to_k",
            1280,
            1280,
            4,
            None,
        ),
        pair(&format!("lycoris_{text}"), 768, 768, 4, None),
    ]
    .concat();
    let lora = files(&tensors, &sd1());
    assert_eq!(lora.format, Format::Lycoris);
    let found: Vec<_> = lora.modules.keys().map(|(c, p)| (*c, p.as_str())).collect();
    let key = M.replace("to_q", "to_k");
    assert_eq!(
        found,
        [
            (Component::Unet, key.as_str()),
            (Component::Unet, M),
            (Component::TextEncoder, TEXT)
        ]
    );
}

#[test]
fn old_names_of_the_text_encoders_attention() {
    let old =
        |name: &str| format!("text_encoder.text_model.encoder.layers.0.self_attn.{name}_lora");
    let tensors: Vec<(String, Numbers)> = ["to_q", "to_k", "to_v", "to_out"]
        .iter()
        .flat_map(|name| {
            [
                (format!("{}.down.weight", old(name)), pattern(&[4, 768])),
                (format!("{}.up.weight", old(name)), pattern(&[768, 4])),
            ]
        })
        .collect();
    let lora = files(&tensors, &sd1());
    let found: Vec<&str> = lora.modules.keys().map(|(_, p)| p.as_str()).collect();
    let names = ["k_proj", "out_proj", "q_proj", "v_proj"];
    assert_eq!(found.len(), 4);
    assert!(
        found.iter().zip(names).all(|(f, n)| f.ends_with(n)),
        "{found:?}"
    );
}

#[test]
fn a_weight_may_be_replaced() {
    let table = ModuleTable::new([module("conv_in", &[4, 3])]);
    let tensors = vec![("lora_unet_conv_in.set_weight".to_string(), pattern(&[4, 3]))];
    let lora = files(&tensors, &table);
    let adapter = lora.adapter(Component::Unet, "conv_in").unwrap();
    assert_eq!(
        (adapter.algorithm(), adapter.reads_base()),
        ("set-weight", true)
    );
    let base: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let delta = adapter.delta(&base, &[4, 3]).unwrap();
    let new: Vec<f32> = base.iter().zip(delta).map(|(b, d)| b + d).collect();
    let (_, wanted) = pattern(&[4, 3]);
    for (n, w) in new.iter().zip(wanted) {
        assert!((n - w).abs() < 1e-5, "{n} {w}");
    }
}

#[test]
fn glora_that_fits_both_orders_is_taken_as_todays_with_a_warning() {
    let table = ModuleTable::new([module("conv_in", &[4, 4])]);
    let tensors: Vec<(String, Numbers)> = ["a1", "a2", "b1", "b2"]
        .iter()
        .map(|part| (format!("lora_unet_conv_in.{part}.weight"), pattern(&[4, 4])))
        .collect();
    let lora = files(&tensors, &table);
    assert_eq!(lora.warnings.len(), 1);
    assert!(
        lora.warnings[0].contains("both orders of GLoRA"),
        "{:?}",
        lora.warnings
    );
}

#[test]
fn factors_and_alphas_of_every_type() {
    let bf16 = |x: f32| half::bf16::from_f32(x).to_le_bytes().to_vec();
    let f16 = |x: f32| half::f16::from_f32(x).to_le_bytes().to_vec();
    // 1 and −2 in each type.
    let types: [(Dtype, Vec<u8>, Vec<u8>); 5] = [
        (
            Dtype::F32,
            1f32.to_le_bytes().into(),
            (-2f32).to_le_bytes().into(),
        ),
        (Dtype::F16, f16(1.0), f16(-2.0)),
        (Dtype::BF16, bf16(1.0), bf16(-2.0)),
        (Dtype::F8_E4M3, vec![0x38], vec![0xc0]),
        (Dtype::F8_E5M2, vec![0x3c], vec![0xc0]),
    ];
    let alphas: [(Dtype, Vec<usize>, Vec<u8>); 5] = [
        (Dtype::F32, vec![], 4f32.to_le_bytes().into()),
        (Dtype::BF16, vec![1], bf16(4.0)),
        (Dtype::F16, vec![], f16(4.0)),
        (Dtype::I64, vec![], 4i64.to_le_bytes().into()),
        (Dtype::I32, vec![1], 4i32.to_le_bytes().into()),
    ];
    let table = ModuleTable::new([module("conv_in", &[1, 2])]);
    for (dtype, one, two) in &types {
        for (alpha_type, alpha_shape, alpha) in &alphas {
            let down = [one.clone(), two.clone()].concat();
            let tensors = [
                (
                    "lora_unet_conv_in.lora_down.weight".to_string(),
                    *dtype,
                    vec![1, 2],
                    down,
                ),
                (
                    "lora_unet_conv_in.lora_up.weight".to_string(),
                    *dtype,
                    vec![1, 1],
                    two.clone(),
                ),
                (
                    "lora_unet_conv_in.alpha".to_string(),
                    *alpha_type,
                    alpha_shape.clone(),
                    alpha.clone(),
                ),
            ];
            let desk = Desk::new();
            let path = desk.path("case.safetensors");
            write_raw(&path, &tensors, &[]);
            let lora = resolved(&path, &table);
            let adapter = lora.adapter(Component::Unet, "conv_in").unwrap();
            let delta = adapter.delta(&[0.0; 2], &[1, 2]).unwrap();
            assert_eq!(delta, [-8.0, 16.0], "{dtype:?} {alpha_type:?}");
        }
    }
}

#[test]
fn trailing_ones_of_a_shape_do_not_matter() {
    let name = "lora_unet_conv_in";
    let flat = |shape: &[usize], down: &[usize], up: &[usize]| {
        let table = ModuleTable::new([module("conv_in", shape)]);
        let tensors = vec![
            (format!("{name}.lora_down.weight"), pattern(down)),
            (format!("{name}.lora_up.weight"), pattern(up)),
        ];
        let lora = files(&tensors, &table);
        let adapter = lora.adapter(Component::Unet, "conv_in").unwrap();
        let base = vec![0.0; shape.iter().product()];
        adapter.delta(&base, shape).unwrap()
    };
    let plain = flat(&[6, 5], &[2, 5], &[6, 2]);
    assert_eq!(plain, flat(&[6, 5, 1, 1], &[2, 5], &[6, 2]));
    assert_eq!(plain, flat(&[6, 5], &[2, 5, 1, 1], &[6, 2, 1, 1]));
    assert_eq!(plain, flat(&[6, 5, 1, 1], &[2, 5, 1, 1], &[6, 2, 1, 1]));
}

#[test]
fn every_kind_that_is_refused_is_named_with_its_tensor() {
    for (key, kind) in [
        ("lora_controlnet", "a Control-LoRA"),
        ("ip_adapter.1.to_v_ip.weight", "an IP-Adapter"),
        (
            "down_blocks.0.attn2.processor.to_k_ip.weight",
            "an IP-Adapter",
        ),
        ("image_proj.proj.weight", "an IP-Adapter"),
        (
            "down_blocks.0.motion_modules.0.x.to_q.lora_A.weight",
            "a motion LoRA of AnimateDiff",
        ),
        (
            "double_blocks.0.processor.qkv_lora1.down.weight",
            "an adapter for Flux",
        ),
        (
            "lora_unet_single_blocks_0_linear1.lora_down.weight",
            "an adapter for Flux",
        ),
        (
            "lora_unet_joint_blocks_0_x.lora_down.weight",
            "an adapter for SD3",
        ),
        (
            "lora_transformer_transformer_blocks_0_attn_to_q.alpha",
            "an adapter for SD3",
        ),
        ("text_encoder_3.encoder.x.lora_A.weight", "T5 text encoder"),
        (
            "text_encoders.t5xxl.transformer.x.lora_A.weight",
            "T5 text encoder",
        ),
        (
            "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
            "an adapter for Wan",
        ),
        ("lora_prior_unet_x.alpha", "an adapter for Stable Cascade"),
        ("m.lora_B_1.default_0.weight", "wrongly renamed PEFT keys"),
        (
            "base_model.model.m.lora_embedding_A",
            "a PEFT LoRA of an embedding table",
        ),
        ("base_model.model.m.lora_E", "AdaLoRA"),
        ("base_model.model.m.oft_r.default", "OFT as PEFT writes it"),
        (
            "oft_unet_mid_block.oft_blocks.0",
            "OFT with one tensor per block",
        ),
        ("base_model.model.m.boft_R", "BOFT as PEFT writes it"),
        ("base_model.model.m.vera_lambda_d", "VeRA"),
        ("lora_unet_mid_block_x.q_layer.weight", "T-LoRA"),
        (
            "lora_unet_mid_block_x.up_list.0",
            "DyLoRA with one tensor per rank",
        ),
        (
            "lora_unet_mid_block_x.bias_indices",
            "an adapter with sparse biases",
        ),
    ] {
        let said = message(&[(key.to_string(), pattern(&[4, 320]))], &sd1());
        for part in [kind, "not supported", key] {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    }
}

#[test]
fn a_vector_on_a_square_convolution_needs_peft_configuration() {
    let table = ModuleTable::new([module("conv_in", &[4, 4, 3, 3])]);
    let key = "base_model.model.conv_in.ia3_l";
    let tensors = [(key, pattern(&[1, 4, 1, 1]))];
    let desk = Desk::new();
    let path = desk.file("case.safetensors", &tensors, &[]);
    let said = resolve(&path, &table).unwrap_err().to_string();
    assert!(
        said.contains(key) && said.contains("feedforward_modules"),
        "{said}"
    );
    // Other numbers of inputs and outputs tell the side.
    let table = ModuleTable::new([module("conv_in", &[4, 2, 3, 3])]);
    assert!(resolve(&path, &table).is_ok());
}

/// A LoRA over every linear and convolution of SD 1's UNet blocks, as few-step releases are, and the same without some.
fn release(
    name: &str,
    keep: impl Fn(&str) -> bool,
    metadata: &[(&str, &str)],
) -> (Desk, std::path::PathBuf) {
    let table = sd1();
    let tensors: Vec<(String, Numbers)> = table
        .modules()
        .iter()
        .filter(|m| m.component == Component::Unet && m.weight_shape.len() > 1)
        .filter(|m| m.path.contains("_block") && keep(&m.path))
        .flat_map(|m| {
            let written = format!("lora_unet_{}", m.path.replace('.', "_"));
            let mut down = m.weight_shape.clone();
            down[0] = 1;
            [
                (format!("{written}.lora_down.weight"), pattern(&down)),
                (
                    format!("{written}.lora_up.weight"),
                    pattern(&[m.weight_shape[0], 1]),
                ),
                (format!("{written}.alpha"), scalar(1.0)),
            ]
        })
        .collect();
    let tensors: Vec<(&str, Numbers)> = tensors
        .iter()
        .map(|(k, v)| (k.as_str(), v.clone()))
        .collect();
    let desk = Desk::new();
    let path = desk.file(name, &tensors, metadata);
    (desk, path)
}

#[test]
fn few_step_releases_are_known_by_name_and_structure_together() {
    let all = |_: &str| true;
    let (_desk, path) = release("lcm-lora-sdv1-5.safetensors", all, &[]);
    let lora = resolved(&path, &sd1());
    assert_eq!(lora.modules.len(), 278);
    let speed = lora.release.speed.unwrap();
    assert_eq!(speed.kind.as_str(), "LCM-LoRA");
    assert_eq!(speed.sampler().scheduler, "lcm");
    assert_eq!(speed.evidence, "the file's name (`lcm-lora-sdv1-5`)");

    // Metadata comes before the file's name, and diffusers' own file name stands for its folder.
    let title = [("modelspec.title", "Hyper-SD15-4steps-lora")];
    let (_desk, path) = release("lcm.safetensors", all, &title);
    let speed = resolved(&path, &sd1()).release.speed.unwrap();
    assert_eq!(
        (speed.kind.as_str(), speed.sampler().steps),
        ("Hyper-SD", 4)
    );
    assert!(
        speed.evidence.starts_with("`modelspec.title`"),
        "{}",
        speed.evidence
    );
    let (desk, path) = release("pytorch_lora_weights.safetensors", all, &[]);
    let folder = desk.path("sdxl_lightning_4step");
    std::fs::create_dir(&folder).unwrap();
    let moved = folder.join("pytorch_lora_weights.safetensors");
    std::fs::rename(path, &moved).unwrap();
    for path in [&folder, &moved] {
        let lora = resolved(path, &sd1());
        assert_eq!(lora.name(), "sdxl_lightning_4step");
        assert_eq!(
            lora.release.speed.unwrap().sampler().timestep_spacing,
            Some("trailing")
        );
    }

    // A style that is only called so.
    let attention = |path: &str| path.contains("attn");
    let (_desk, path) = release("turbo style.safetensors", attention, &[]);
    let lora = resolved(&path, &sd1());
    assert_eq!(lora.release.speed, None);
    assert!(
        lora.warnings
            .iter()
            .any(|w| w.contains("Turbo") && w.contains("residual blocks")),
        "{:?}",
        lora.warnings
    );
    let (_desk, path) = release("plain.safetensors", all, &[]);
    let lora = resolved(&path, &sd1());
    assert_eq!((lora.release.speed, lora.warnings.len()), (None, 0));
}
