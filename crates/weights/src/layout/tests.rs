//! The tables against the published names and shapes of Stable Diffusion 1.

use super::*;
use crate::{TextActivation, TextConfig, UnetConfig, VaeConfig};
use std::io::Read;

struct Line {
    component: String,
    name: String,
    ldm: String,
    shape: Vec<usize>,
    ldm_shape: Vec<usize>,
}

fn lines() -> Vec<Line> {
    let file = std::fs::File::open(gesso_testkit::fixture("lora/maps/sd1.tsv.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    let shape = |s: &str| s.split('x').map(|n| n.parse().unwrap()).collect();
    text.lines()
        .skip(1)
        .map(|line| {
            let f: Vec<_> = line.split('\t').collect();
            Line {
                component: f[0].into(),
                name: f[1].into(),
                ldm: f[2].into(),
                shape: shape(f[3]),
                ldm_shape: shape(f[4]),
            }
        })
        .collect()
}

fn unet() -> UnetConfig {
    UnetConfig {
        in_channels: 4,
        out_channels: 4,
        block_out_channels: vec![320, 640, 1280, 1280],
        layers_per_block: 2,
        down_attention: vec![true, true, true, false],
        up_attention: vec![false, true, true, true],
        transformer_depth: vec![1; 4],
        heads: vec![8; 4],
        cross_attention_dim: 768,
        norm_groups: 32,
        norm_eps: 1e-5,
        use_linear_projection: false,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
        sample_size: 64,
        mid_attention: true,
    }
}

fn vae() -> VaeConfig {
    VaeConfig {
        in_channels: 3,
        out_channels: 3,
        latent_channels: 4,
        block_out_channels: vec![128, 256, 512, 512],
        layers_per_block: 2,
        norm_groups: 32,
        scaling_factor: 0.18215,
    }
}

fn text() -> TextConfig {
    TextConfig {
        vocab_size: 49408,
        hidden: 768,
        intermediate: 3072,
        layers: 12,
        heads: 12,
        max_positions: 77,
        activation: TextActivation::QuickGelu,
        eps: 1e-5,
        bos: 49406,
        eos: 49407,
        eos_config_id: 2,
    }
}

/// Every row of the table against every line of the map, both ways.
fn compare(component: &str, prefix: &str, rows: &[Row], count: usize) {
    let lines: BTreeMap<_, _> = lines()
        .into_iter()
        .filter(|l| l.component == component)
        .map(|l| (l.name.clone(), l))
        .collect();
    assert_eq!(lines.len(), count, "{component}: lines of the map");
    assert_eq!(rows.len(), count, "{component}: rows");
    for row in rows {
        let line = lines
            .get(&row.name)
            .unwrap_or_else(|| panic!("{component}: `{}` is not in the map", row.name));
        assert_eq!(format!("{prefix}{}", row.ldm), line.ldm, "{}", row.name);
        match row.fit {
            Fit::Exact | Fit::Linear => assert_eq!(row.shape, line.shape, "{}", row.name),
            // The rows give projections as [O, I].
            Fit::Pointwise => {
                let tail = if line.shape.len() == 4 {
                    &[1, 1][..]
                } else {
                    &[]
                };
                assert_eq!([&row.shape, tail].concat(), line.shape, "{}", row.name);
            }
        }
    }
}

#[test]
fn unet_rows_are_the_map() {
    compare("unet", "model.diffusion_model.", &unet_rows(&unet()), 686);
    let parameters: usize = unet_rows(&unet())
        .iter()
        .map(|r| r.shape.iter().product::<usize>())
        .sum();
    assert_eq!(parameters, 859_520_964);
}

#[test]
fn vae_rows_are_the_map() {
    compare("vae", "first_stage_model.", &vae_rows(&vae()), 248);
}

#[test]
fn text_rows_are_the_map() {
    compare(
        "text_encoder",
        "cond_stage_model.transformer.",
        &text_rows(&text()),
        196,
    );
}

/// Shapes of a component by the names of one naming.
fn shapes(
    lines: &[Line],
    component: &str,
    naming: Naming,
    prefix: &str,
) -> Vec<(String, Vec<usize>)> {
    lines
        .iter()
        .filter(|l| l.component == component)
        .map(|l| match naming {
            Naming::Diffusers => (l.name.clone(), l.shape.clone()),
            Naming::Ldm => (
                l.ldm.strip_prefix(prefix).unwrap().to_string(),
                l.ldm_shape.clone(),
            ),
        })
        .collect()
}

fn view(owned: &[(String, Vec<usize>)]) -> Shapes<'_> {
    Shapes(
        owned
            .iter()
            .map(|(k, s)| (k.as_str(), s.as_slice()))
            .collect(),
    )
}

#[test]
fn configurations_are_read_off_the_keys_of_either_naming() {
    let lines = lines();
    for naming in [Naming::Diffusers, Naming::Ldm] {
        let s = shapes(&lines, "unet", naming, "model.diffusion_model.");
        assert_eq!(unet_config(&view(&s), naming, 8, 32).unwrap(), unet());
        let s = shapes(&lines, "vae", naming, "first_stage_model.");
        assert_eq!(vae_config(&view(&s), naming, 32).unwrap(), vae());
        let s = shapes(
            &lines,
            "text_encoder",
            naming,
            "cond_stage_model.transformer.",
        );
        assert_eq!(
            text_config(&view(&s), None, TextActivation::QuickGelu).unwrap(),
            text()
        );
    }
}

#[test]
fn other_structures_round_trip_through_names_alone() {
    let mut odd = unet();
    odd.block_out_channels = vec![48, 64, 32];
    odd.layers_per_block = 1;
    odd.down_attention = vec![false, true, true];
    odd.up_attention = vec![true, true, false];
    odd.transformer_depth = vec![1, 2, 3];
    odd.heads = vec![2; 3];
    odd.cross_attention_dim = 24;
    odd.norm_groups = 16;
    odd.use_linear_projection = true;
    for naming in [Naming::Diffusers, Naming::Ldm] {
        let s: Vec<_> = unet_rows(&odd)
            .into_iter()
            .map(|row| match naming {
                Naming::Diffusers => (row.name, row.shape),
                Naming::Ldm => (row.ldm, row.shape),
            })
            .collect();
        let names: std::collections::BTreeSet<_> = s.iter().map(|(n, _)| n).collect();
        assert_eq!(names.len(), s.len(), "every name stands once");
        assert_eq!(unet_config(&view(&s), naming, 2, 16).unwrap(), odd);
    }
}

#[test]
fn unequal_levels_are_refused() {
    let s = vec![
        ("input_blocks.0.0.weight".to_string(), vec![8, 4, 3, 3]),
        ("input_blocks.3.0.op.weight".to_string(), vec![8, 8, 3, 3]),
        (
            "input_blocks.4.0.in_layers.2.weight".to_string(),
            vec![8, 8, 3, 3],
        ),
    ];
    let found = unet_config(&view(&s), Naming::Ldm, 8, 32);
    assert!(matches!(found, Err(NoConfig::Odd { .. })), "{found:?}");
}
