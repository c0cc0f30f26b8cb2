//! Entries about scales and formulas.

use crate::lora_files::{
    Desk, Numbers, conv, files, message, module, pair, pattern, relative_error, resolved, scale,
    sd1, write_raw,
};
use gesso_weights::Component;
use gesso_weights::lora::{Adapter, ModuleTable};
use safetensors::Dtype;

const K: &str = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q";
const D: &str = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q";

/// Lengths of the rows of W + dW, W being `pattern(shape)`.
fn row_lengths(adapter: &Adapter, shape: &[usize]) -> Vec<f32> {
    let (_, base) = pattern(shape);
    let delta = adapter.delta(&base, shape).unwrap();
    let columns = base.len() / shape[0];
    let merged: Vec<f32> = base.iter().zip(delta).map(|(w, d)| w + d).collect();
    merged
        .chunks(columns)
        .map(|row| row.iter().map(|x| x * x).sum::<f32>().sqrt())
        .collect()
}

/// A PEFT DoRA file with a plain vector of magnitudes 1, 2, 3, …
fn peft_dora(name: &str, outputs: usize, inputs: usize) -> Vec<(String, Numbers)> {
    let magnitudes = (1..=outputs).map(|i| i as f32).collect();
    vec![
        (format!("unet.{name}.lora_A.weight"), pattern(&[2, inputs])),
        (format!("unet.{name}.lora_B.weight"), pattern(&[outputs, 2])),
        (
            format!("unet.{name}.lora_magnitude_vector"),
            (vec![outputs], magnitudes),
        ),
    ]
}

fn assert_lengths(lengths: &[f32]) {
    for (i, length) in lengths.iter().enumerate() {
        let wanted = (i + 1) as f32;
        assert!((length - wanted).abs() < 1e-4 * wanted, "row {i}: {length}");
    }
}

#[test]
fn known_failure_01_alpha_ignored_or_used_raw() {
    let lora = files(&pair(K, 320, 320, 64, Some(8.0)), &sd1());
    assert_eq!(scale(&lora, Component::Unet, D), 0.125);
}

#[test]
fn known_failure_02_mixed_ranks_without_alpha() {
    let to_k = K.replace("to_q", "to_k");
    let tensors = [pair(K, 320, 320, 4, None), pair(&to_k, 320, 320, 8, None)].concat();
    let lora = files(&tensors, &sd1());
    assert_eq!(scale(&lora, Component::Unet, D), 1.0);
    assert_eq!(
        scale(&lora, Component::Unet, &D.replace("to_q", "to_k")),
        1.0
    );
    assert_eq!(
        lora.ranks().into_iter().collect::<Vec<_>>(),
        [(4, 1), (8, 1)]
    );
}

#[test]
fn known_failure_03_alpha_on_some_modules_only() {
    let resnet = "lora_unet_down_blocks_0_resnets_0_conv1";
    let tensors = [
        pair(K, 320, 320, 4, Some(2.0)),
        conv(resnet, 320, 320, 4, 3),
    ]
    .concat();
    let lora = files(&tensors, &sd1());
    assert_eq!(scale(&lora, Component::Unet, D), 0.5);
    assert_eq!(
        scale(&lora, Component::Unet, "down_blocks.0.resnets.0.conv1"),
        1.0
    );
}

#[test]
fn known_failure_06_peft_dora_vector_broadcast_as_a_row() {
    for (outputs, inputs) in [(8, 4), (4, 4)] {
        let table = ModuleTable::new([module("mid_block.x", &[outputs, inputs])]);
        let lora = files(&peft_dora("mid_block.x", outputs, inputs), &table);
        let adapter = lora.adapter(Component::Unet, "mid_block.x").unwrap();
        assert_lengths(&row_lengths(adapter, &[outputs, inputs]));
    }
}

#[test]
fn known_failure_07_dora_norm_taken_from_the_base() {
    let shape = [6, 5];
    let table = ModuleTable::new([module("conv_in", &shape)]);
    let mut tensors = pair("lora_unet_conv_in", 6, 5, 2, Some(200.0));
    let magnitudes = (1..=6).map(|i| i as f32).collect();
    tensors.push((
        "lora_unet_conv_in.dora_scale".into(),
        (vec![6, 1], magnitudes),
    ));
    let lora = files(&tensors, &table);
    let adapter = lora.adapter(Component::Unet, "conv_in").unwrap();
    assert_lengths(&row_lengths(adapter, &shape));
}

#[test]
fn known_failure_08_dora_scale_dropped() {
    let shape = [6, 5];
    let table = ModuleTable::new([module("conv_out", &shape)]);
    let plain = pair("lora_unet_conv_out", 6, 5, 2, None);
    let mut dora = plain.clone();
    dora.push((
        "lora_unet_conv_out.dora_scale".into(),
        (vec![6, 1], vec![3.0; 6]),
    ));
    let (_, base) = pattern(&shape);
    let [plain, dora] = [plain, dora].map(|tensors| {
        let lora = files(&tensors, &table);
        let adapter = lora.adapter(Component::Unet, "conv_out").unwrap().clone();
        (
            adapter.is_dora(),
            adapter.low_rank().is_some(),
            adapter.delta(&base, &shape).unwrap(),
        )
    });
    assert_eq!((plain.0, plain.1), (false, true));
    assert_eq!((dora.0, dora.1), (true, false));
    assert_ne!(plain.2, dora.2);
}

#[test]
fn known_failure_10_tucker_core_rejected_or_ignored() {
    let name = "lora_unet_down_blocks_0_resnets_0_conv1";
    let mut tensors = conv(name, 320, 320, 4, 1);
    let complaint = message(&tensors, &sd1());
    assert!(complaint.contains("do not fit the model"), "{complaint}");
    assert!(complaint.contains("[320, 320, 3, 3]"), "{complaint}");
    tensors.push((format!("{name}.lora_mid.weight"), pattern(&[4, 4, 3, 3])));
    let lora = files(&tensors, &sd1());
    assert_eq!(
        lora.algorithms().into_keys().collect::<Vec<_>>(),
        ["locon-tucker"]
    );
}

#[test]
fn known_failure_11_loha_with_cores() {
    let name = "lora_unet_down_blocks_0_downsamplers_0_conv";
    let half = |n: u8, core: bool| {
        let mut tensors = vec![
            (
                format!("{name}.hada_w{n}_a"),
                pattern(if core { &[4, 320] } else { &[320, 4] }),
            ),
            (
                format!("{name}.hada_w{n}_b"),
                pattern(if core { &[4, 320] } else { &[4, 2880] }),
            ),
        ];
        if core {
            tensors.push((format!("{name}.hada_t{n}"), pattern(&[4, 4, 3, 3])));
        }
        tensors
    };
    let words = |core| {
        let lora = files(&[half(1, core), half(2, core)].concat(), &sd1());
        lora.algorithms().into_keys().collect::<Vec<_>>()
    };
    assert_eq!(words(true), ["loha-tucker"]);
    assert_eq!(words(false), ["loha"]);
    let complaint = message(&[half(1, true), half(2, false)].concat(), &sd1());
    assert!(complaint.contains("hada_t"), "{complaint}");
}

#[test]
fn known_failure_12_f16_underflow() {
    let table = ModuleTable::new([module("conv_in", &[3, 5])]);
    let rank = 128;
    let (up, down) = (half::f16::from_f32(2e-5), half::f16::from_f32(1e-3));
    let f16 = |x: half::f16, shape: [usize; 2]| {
        let bytes = (0..shape[0] * shape[1])
            .flat_map(|_| x.to_le_bytes())
            .collect();
        (Dtype::F16, shape.to_vec(), bytes)
    };
    let (d, u) = (f16(down, [rank, 5]), f16(up, [3, rank]));
    let a = (Dtype::F16, vec![], half::f16::ONE.to_le_bytes().to_vec());
    let desk = Desk::new();
    let path = desk.path("half.safetensors");
    let rows: Vec<_> = [("lora_down.weight", d), ("lora_up.weight", u), ("alpha", a)]
        .into_iter()
        .map(|(end, (dtype, shape, bytes))| {
            (format!("lora_unet_conv_in.{end}"), dtype, shape, bytes)
        })
        .collect();
    write_raw(&path, &rows, &[]);
    let lora = resolved(&path, &table);
    let adapter = lora.adapter(Component::Unet, "conv_in").unwrap();
    let delta = adapter.delta(&[0.0; 15], &[3, 5]).unwrap();
    // 128 equal terms over a scale of 1/128.
    let wanted = f64::from(up) * f64::from(down);
    assert!(relative_error(&[wanted; 15], &delta) < 1e-5);
}

#[test]
fn known_failure_13_nan_is_refused_by_name() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut tensors = pair(K, 320, 320, 4, None);
        tensors[1].1.1[17] = bad;
        let complaint = message(&tensors, &sd1());
        assert!(
            complaint.contains(&format!("`{K}.lora_up.weight`")),
            "{complaint}"
        );
        assert!(complaint.contains("not finite (element 17)"), "{complaint}");
    }
}

#[test]
fn known_failure_25_alphas_that_differ_in_one_block() {
    let block = "lora_unet_down_blocks_0_attentions_0";
    let feed_forward = format!("{block}_transformer_blocks_0_ff_net_2");
    let tensors = [
        pair(K, 320, 320, 4, Some(1.0)),
        pair(&feed_forward, 320, 1280, 4, Some(8.0)),
        pair(&format!("{block}_proj_in"), 320, 320, 4, Some(8.0)),
    ]
    .concat();
    let lora = files(&tensors, &sd1());
    let attention = "down_blocks.0.attentions.0";
    assert_eq!(scale(&lora, Component::Unet, D), 0.25);
    for path in ["transformer_blocks.0.ff.net.2", "proj_in"] {
        assert_eq!(
            scale(&lora, Component::Unet, &format!("{attention}.{path}")),
            2.0
        );
    }
}

#[test]
fn known_failure_26_scaled_fp8_read_without_its_scale() {
    let table = ModuleTable::new([module("conv_in", &[2, 2])]);
    let desk = Desk::new();
    let path = desk.path("fp8.safetensors");
    let name = "lora_unet_conv_in";
    let f32 = |x: f32| (Dtype::F32, vec![], x.to_le_bytes().to_vec());
    // 0x38 is 1, 0x40 is 2, 0xb8 is −1.
    let fp8 = (Dtype::F8_E4M3, vec![2, 2], vec![0x38, 0x40, 0xb8, 0x38]);
    let rows: Vec<_> = [
        ("lora_down.weight", fp8.clone()),
        ("lora_down.scale_weight", f32(0.5)),
        ("lora_down.scale_input", f32(9.0)),
        ("lora_up.weight", fp8),
        ("lora_up.weight_scale", f32(0.0013)),
    ]
    .into_iter()
    .map(|(end, (dtype, shape, bytes))| (format!("{name}.{end}"), dtype, shape, bytes))
    .collect();
    write_raw(&path, &rows, &[]);
    let lora = resolved(&path, &table);
    let adapter = lora.adapter(Component::Unet, "conv_in").unwrap();
    let delta = adapter.delta(&[0.0; 4], &[2, 2]).unwrap();
    // [[1, 2], [−1, 1]]² = [[−1, 4], [−2, −1]], times both scales.
    let wanted = [-1.0, 4.0, -2.0, -1.0].map(|x| x * 0.5 * 0.0013);
    assert!(relative_error(&wanted, &delta) < 1e-6);
    assert_eq!((lora.applied, lora.ignored.len()), (4, 1));
}
