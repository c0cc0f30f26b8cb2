//! The whole chain against diffusers: checkpoint → packages → engine → sampling loop → stored latents and images.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_convert::family::{Attention, Precision};
use gesso_convert::merged::Baked;
use gesso_convert::{Recipe, Silent, convert};
use gesso_coreml::package::Package;
use gesso_engine::{Model, RunOptions, Tensor};
use gesso_pipeline::schedulers::{SchedulerConfig, SchedulerKind};
use gesso_pipeline::{BoxError, Networks, Output, Prompt, Request, Tokenizer, generate};
use gesso_testkit::{Golden, Tolerance, fixture, snr_db};
use gesso_weights::lora::{Lora, ModuleTable, ResolveOptions};
use gesso_weights::{Checkpoint, OpenOptions};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Packages of one folder, run in fp32.
struct Packages {
    text_encoder: Model,
    unet: Model,
    decoder: Model,
    /// Latent height and width.
    size: (usize, usize),
    /// Ids to encode instead of the tokenizer's: of the prompt, and of the negative prompt.
    ids: Option<(Vec<i32>, Vec<i32>)>,
    /// Ids that the tokenizer gives for the negative prompt.
    negative: Vec<i32>,
}

impl Packages {
    fn new(folder: &Path, size: (usize, usize), tokenizer: &Tokenizer) -> Self {
        let load = |name: &str| {
            Model::load(&Package::open(&folder.join(format!("{name}.mlpackage"))).unwrap()).unwrap()
        };
        Self {
            text_encoder: load("TextEncoder"),
            unet: load("Unet"),
            decoder: load("VAEDecoder"),
            size,
            ids: None,
            negative: tokenizer.encode_77("").0.to_vec(),
        }
    }

    fn one(model: &Model, inputs: &[(&str, Tensor)], output: &str) -> Result<Vec<f32>, BoxError> {
        let inputs: BTreeMap<String, Tensor> = inputs
            .iter()
            .map(|(n, t)| (n.to_string(), t.clone()))
            .collect();
        let outputs = model.predict(None, &inputs, &RunOptions::default())?;
        Ok(outputs[output].as_f32().unwrap().to_vec())
    }
}

impl Networks for Packages {
    fn encode_text(&mut self, ids: &[i32]) -> Result<Vec<f32>, BoxError> {
        let ids = match &self.ids {
            Some((_, negative)) if ids == self.negative => negative,
            Some((prompt, _)) => prompt,
            None => ids,
        };
        let ids: Vec<f32> = ids.iter().map(|&i| i as f32).collect();
        Self::one(
            &self.text_encoder,
            &[("input_ids", Tensor::f32(&[1, 77], ids))],
            "last_hidden_state",
        )
    }

    fn predict_noise(
        &mut self,
        sample: &[f32],
        t: f32,
        states: &[f32],
    ) -> Result<Vec<f32>, BoxError> {
        let (h, w) = self.size;
        let inputs = [
            ("sample", Tensor::f32(&[2, 4, h, w], sample.to_vec())),
            ("timestep", Tensor::f32(&[2], vec![t; 2])),
            (
                "encoder_hidden_states",
                Tensor::f32(&[2, states.len() / 154, 1, 77], states.to_vec()),
            ),
        ];
        Self::one(&self.unet, &inputs, "noise_pred")
    }

    fn decode(&mut self, latent: &[f32]) -> Result<Vec<f32>, BoxError> {
        let (h, w) = self.size;
        Self::one(
            &self.decoder,
            &[("z", Tensor::f32(&[1, 4, h, w], latent.to_vec()))],
            "image",
        )
    }
}

fn shapes_tokenizer() -> Tokenizer {
    let read =
        |name: &str| std::fs::read_to_string(fixture("shapes/base/tokenizer").join(name)).unwrap();
    Tokenizer::from_strings(&read("vocab.json"), &read("merges.txt")).unwrap()
}

fn fp32(checkpoint: &Checkpoint, size: (usize, usize), lora: Option<&str>) -> tempfile::TempDir {
    let loras = lora.map(|name| {
        let file = Lora::open(fixture(&format!("shapes/lora/{name}.safetensors"))).unwrap();
        let table = ModuleTable::of_checkpoint(checkpoint);
        Baked {
            lora: file.resolve(&table, &ResolveOptions::default()).unwrap(),
            unet_strength: 1.0,
            text_encoder_strength: 1.0,
        }
    });
    let recipe = Recipe {
        precision: Precision::Fp32,
        attention: Attention::Original,
        adapter_rank: 0,
        size: Some((size.1 * 8, size.0 * 8)),
        loras: loras.into_iter().collect(),
        ..Recipe::default()
    };
    let folder = tempfile::tempdir().unwrap();
    convert(checkpoint, &recipe, folder.path(), &mut Silent).unwrap();
    folder
}

/// One row of a stored batch.
fn row(golden: &Golden, name: &str, index: usize) -> Vec<f64> {
    let (shape, data) = golden.get(name);
    let len: usize = shape[1..].iter().product();
    data[index * len..(index + 1) * len].to_vec()
}

fn as_f32(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

/// The latents after each step, and the result.
fn run(
    request: &Request,
    tokenizer: &Tokenizer,
    networks: &mut Packages,
) -> (Vec<Vec<f32>>, Output) {
    let mut steps = Vec::new();
    let output = generate(request, tokenizer, networks, &mut |step| {
        steps.push(step.latents.to_vec());
        ControlFlow::Continue(())
    })
    .unwrap();
    (steps, output)
}

#[test]
fn shapes_pictures_equal_those_of_diffusers_with_and_without_loras() {
    let golden = Golden::open(fixture("shapes/golden/end_to_end.safetensors"));
    let checkpoint = Checkpoint::open(fixture("shapes/base"), &OpenOptions::default()).unwrap();
    let tokenizer = shapes_tokenizer();
    let prompts = [
        "a large red star on cream",
        "two blue circles",
        "a green heart above a purple square",
    ];
    for style in [None, Some("sketch"), Some("pixel"), Some("watercolor")] {
        let folder = fp32(&checkpoint, (16, 16), style);
        let mut networks = Packages::new(folder.path(), (16, 16), &tokenizer);
        for (i, prompt) in prompts.iter().enumerate() {
            let request = Request {
                scheduler_config: SchedulerConfig::from_json(checkpoint.scheduler_json()).unwrap(),
                guidance: 6.0,
                height: 128,
                width: 128,
                scaling_factor: checkpoint.vae_config().unwrap().scaling_factor,
                initial_latents: Some(as_f32(&row(&golden, "initial_latents", i))),
                ..Request::new(Prompt::plain(*prompt))
            };
            let (steps, output) = run(&request, &tokenizer, &mut networks);
            let name = style.unwrap_or("base");
            let what = format!("{name}, `{prompt}`");
            let judge = Tolerance::Fp32 { recorded: None };
            let db = judge.assert(
                &what,
                &row(&golden, &format!("{name}.latents"), i),
                &output.latents,
            );
            println!("{what}: latents {db:.1} dB");
            if style.is_none() {
                for after in [1, 2, 10] {
                    let stored = row(&golden, &format!("base.after_step_{after}"), i);
                    judge.assert(&format!("{what}, step {after}"), &stored, &steps[after - 1]);
                }
                // Stored as bytes, channel by channel; ours are bytes too, pixel by pixel.
                let stored = row(&golden, "base.images", i);
                let pixels = output.rgb8();
                let far = (0..128 * 128 * 3).filter(|&p| {
                    let (channel, place) = (p / (128 * 128), p % (128 * 128));
                    (f64::from(pixels[place * 3 + channel]) - stored[p]).abs() > 1.0
                });
                assert_eq!(
                    far.count(),
                    0,
                    "{what}: pixels differ by more than one level"
                );
            }
        }
    }
}

#[test]
fn stored_pipelines_are_followed_step_by_step() {
    let checkpoint =
        Checkpoint::open(fixture("goldens/models/sd1"), &OpenOptions::default()).unwrap();
    let size = (8, 16);
    let folder = fp32(&checkpoint, size, None);
    let tokenizer = shapes_tokenizer();
    let index = std::fs::read_to_string(fixture("goldens/pipelines/index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    for (case, kind) in [
        ("sd1-dpmpp2m", SchedulerKind::DpmPp2M),
        ("sd1-pndm", SchedulerKind::Pndm),
        ("sd1-euler", SchedulerKind::Euler),
        ("sd1-ddim", SchedulerKind::Ddim),
    ] {
        let golden = Golden::open(fixture(&format!("goldens/pipelines/{case}.safetensors")));
        let entry = &index[case];
        let ids: Vec<i32> = golden
            .get("in.input_ids")
            .1
            .iter()
            .map(|&i| i as i32)
            .collect();
        let mut networks = Packages::new(folder.path(), size, &tokenizer);
        networks.ids = Some(order(&golden, &ids, &mut networks));
        let request = Request {
            scheduler: kind,
            scheduler_config: SchedulerConfig::from_json(&entry["config"].to_string()).unwrap(),
            guidance: entry["guidance"].as_f64().unwrap() as f32,
            steps: entry["steps"].as_u64().unwrap() as usize,
            height: size.0 * 8,
            width: size.1 * 8,
            scaling_factor: checkpoint.vae_config().unwrap().scaling_factor,
            initial_latents: Some(golden.f32("in.latents")),
            ..Request::new(Prompt::plain("red"))
        };
        let (steps, output) = run(&request, &tokenizer, &mut networks);
        assert_eq!(steps.len(), golden.shape("out.latents")[0], "{case}");
        let drift = entry["f64_drift"].as_f64().unwrap();
        let floor = -20.0 * (10.0 * drift).log10();
        let mut worst = f64::INFINITY;
        for (i, latents) in steps.iter().enumerate() {
            let db = snr_db(&row(&golden, "out.latents", i), latents);
            assert!(
                db >= floor,
                "{case}, step {}: {db:.1} dB, at least {floor:.1}",
                i + 1
            );
            worst = worst.min(db);
        }
        let image = snr_db(&row(&golden, "out.image", 0), &output.image);
        assert!(
            image >= floor,
            "{case}, image: {image:.1} dB, at least {floor:.1}"
        );
        println!("{case}: worst step {worst:.1} dB, image {image:.1} dB, floor {floor:.1} dB");
    }
}

/// Which of the two stored rows of ids is the prompt's: the one whose states are stored as such.
fn order(golden: &Golden, ids: &[i32], networks: &mut Packages) -> (Vec<i32>, Vec<i32>) {
    let rows = [ids[..77].to_vec(), ids[77..].to_vec()];
    let states = networks.encode_text(&rows[0]).unwrap();
    let [first, second] = rows;
    if snr_db(golden.get("in.prompt_embeds").1, &states) > 80.0 {
        (first, second)
    } else {
        (second, first)
    }
}
