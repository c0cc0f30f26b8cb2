//! Checkpoints of our own: folders and single files of the same weights are the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_testkit::fixture;
use gesso_weights::{Checkpoint, Component, Error, Family, OpenOptions};
use std::path::PathBuf;

const ALL: [Component; 3] = [Component::Unet, Component::TextEncoder, Component::Vae];

fn sd1() -> PathBuf {
    fixture("goldens/models/sd1")
}

fn folder() -> Checkpoint {
    Checkpoint::open(sd1(), &OpenOptions::default()).unwrap()
}

fn single_file(options: &OpenOptions) -> Result<Checkpoint, Error> {
    Checkpoint::open(sd1().join("single_file.safetensors"), options)
}

fn with_configs() -> OpenOptions {
    OpenOptions {
        config_dir: Some(sd1()),
        ..OpenOptions::default()
    }
}

#[test]
fn folder_gives_every_tensor_and_configuration() {
    let c = folder();
    assert_eq!(c.family(), Some(Family::Sd1));
    assert_eq!(c.component(Component::Unet).unwrap().len(), 686);
    assert_eq!(c.component(Component::Vae).unwrap().len(), 244);
    assert_eq!(
        c.component(Component::TextEncoder).unwrap().len(),
        3 * 16 + 4
    );
    let unet = c.unet_config().unwrap();
    assert_eq!(unet.block_out_channels, [16, 24, 32, 32]);
    assert_eq!((unet.heads.as_slice(), unet.norm_groups), (&[4; 4][..], 8));
    assert_eq!(unet.down_attention, [true, true, true, false]);
    assert_eq!(c.vae_config().unwrap().norm_groups, 4);
    let text = c.text_config().unwrap();
    assert_eq!((text.bos, text.eos, text.eos_config_id), (998, 999, 2));
    assert_eq!(c.scheduler_config().prediction_type, "epsilon");
    assert_eq!(c.scheduler_config().class_name, "PNDMScheduler");
    let index = c.model_index().unwrap();
    assert_eq!(index.class_name, "StableDiffusionPipeline");
    assert_eq!(index.components["vae"].1, "AutoencoderKL");
    assert!(!index.components.contains_key("safety_checker"));
    assert!(c.unused().is_empty());
    assert!(c.tokenizer().is_none());
}

#[test]
fn single_file_is_the_folder_bit_for_bit() {
    let (a, b) = (folder(), single_file(&with_configs()).unwrap());
    assert_eq!(b.family(), Some(Family::Sd1));
    for component in ALL {
        let (a, b) = (
            a.component(component).unwrap(),
            b.component(component).unwrap(),
        );
        assert!(a.names().eq(b.names()), "{component}");
        for tensor in a.iter() {
            assert_eq!(Some(tensor), b.get(tensor.name), "{component}");
        }
    }
    assert_eq!(a.unet_config().unwrap(), b.unet_config().unwrap());
    assert_eq!(a.vae_config().unwrap(), b.vae_config().unwrap());
    assert_eq!(a.text_config().unwrap(), b.text_config().unwrap());
    assert_eq!(a.scheduler_json(), b.scheduler_json());
    assert_eq!(a.source_hash(&ALL), b.source_hash(&ALL));
    assert_ne!(a.source_hash(&ALL), a.source_hash(&[Component::Unet]));
    assert_eq!(b.unused().len(), 1);
    assert!(b.unused()[0].name.ends_with("position_ids"));
    assert_eq!(
        b.component(Component::Unet)
            .unwrap()
            .source_key("up_blocks.1.upsamplers.0.conv.bias"),
        Some("model.diffusion_model.output_blocks.5.2.conv.bias")
    );
}

#[test]
fn attention_of_the_vae_is_linear() {
    let c = single_file(&with_configs()).unwrap();
    let vae = c.component(Component::Vae).unwrap();
    let q = vae
        .get("decoder.mid_block.attentions.0.to_q.weight")
        .unwrap();
    assert_eq!(q.shape, [16, 16]);
}

#[test]
fn single_file_says_what_it_assumes() {
    // The groups of these tiny models cannot be read off the tensors, and the usual 32 do not divide 16 channels.
    let text = single_file(&OpenOptions::default())
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "the unet's configuration has norm groups 32, expected a divisor of the channels (16); \
         give the right number if it was assumed"
    );
    let options = OpenOptions {
        heads: Some(4),
        text_heads: Some(4),
        norm_groups: Some(8),
        vae_norm_groups: Some(4),
        ..OpenOptions::default()
    };
    let (a, b) = (folder(), single_file(&options).unwrap());
    let mut unet = b.unet_config().unwrap().clone();
    assert_eq!(unet.sample_size, 64);
    unet.sample_size = 16;
    assert_eq!(a.unet_config().unwrap(), &unet);
    assert_eq!(a.vae_config().unwrap(), b.vae_config().unwrap());
    assert_eq!(a.text_config().unwrap(), b.text_config().unwrap());
    assert_eq!(a.scheduler_config(), b.scheduler_config());
    let notes = b.notes().join("\n");
    for part in [
        "unet: without a configuration file, 4 attention heads, 8 norm groups",
        "vae: without a configuration file, 4 norm groups and the scaling factor 0.18215",
        "text_encoder: without a configuration file, 4 attention heads",
        "998 and 999 are assumed to be the begin- and end-of-text ids",
        "scheduler: without a configuration file, that of Stable Diffusion 1 with `epsilon`",
    ] {
        assert!(notes.contains(part), "{part}\n{notes}");
    }
}

#[test]
fn the_shapes_model_brings_its_tokenizer() {
    let c = Checkpoint::open(fixture("shapes/base"), &OpenOptions::default()).unwrap();
    let text = c.text_config().unwrap();
    assert_eq!((text.bos, text.eos, text.eos_config_id), (652, 653, 653));
    let (vocab, merges) = c.tokenizer().unwrap();
    assert!(vocab.ends_with("tokenizer/vocab.json") && merges.ends_with("tokenizer/merges.txt"));
    assert!(c.notes().is_empty(), "{:?}", c.notes());
    assert_eq!(
        c.unet_config().unwrap().up_attention,
        [false, true, true, true]
    );
}

#[test]
fn a_tokenizer_is_taken_from_elsewhere() {
    let options = OpenOptions {
        tokenizer: Some(fixture("shapes/base/tokenizer")),
        ..OpenOptions::default()
    };
    let c = Checkpoint::open(sd1(), &options).unwrap();
    assert_eq!(c.text_config().unwrap().eos, 653);
    let options = OpenOptions {
        tokenizer: Some(fixture("shapes/base")),
        ..OpenOptions::default()
    };
    let text = Checkpoint::open(sd1(), &options).unwrap_err().to_string();
    assert!(text.ends_with("has no `vocab.json`"), "{text}");
    // The real CLIP vocabulary has ids that this text encoder has no rows for.
    let options = OpenOptions {
        tokenizer: Some(fixture("goldens/tokenizer")),
        ..OpenOptions::default()
    };
    let text = Checkpoint::open(sd1(), &options).unwrap_err().to_string();
    assert_eq!(
        text,
        "the text_encoder's configuration has a special token of id 49407, expected less than vocab_size (1000)"
    );
}

#[test]
fn a_lone_vae_is_a_checkpoint_without_unet() {
    let c = Checkpoint::open(fixture("goldens/models/vae"), &OpenOptions::default()).unwrap();
    assert_eq!(c.family(), None);
    assert!(c.component(Component::Unet).is_none());
    assert_eq!(c.component(Component::Vae).unwrap().len(), 240);
    let text = c.unet_config().unwrap_err().to_string();
    assert!(text.ends_with("has no unet"), "{text}");
    // The same tensors as one file in diffusers' words.
    let options = OpenOptions {
        config_dir: Some(fixture("goldens/models/vae")),
        ..OpenOptions::default()
    };
    let file = fixture("goldens/models/vae/vae/diffusion_pytorch_model.safetensors");
    let single = Checkpoint::open(file, &options).unwrap();
    assert_eq!(single.source_hash(&ALL), c.source_hash(&ALL));
}
