//! Which kind of file it is, from its keys and metadata alone.

use super::error::LoraError;
use super::part::{Key, Part, Style};
use crate::StFile;
use std::collections::BTreeSet;
use std::fmt;

/// The family of tools that wrote an adapter file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// kohya-ss/sd-scripts.
    Kohya,
    /// LyCORIS (other algorithms than LoRA, or its own prefix).
    Lycoris,
    /// diffusers, attention processors of early 2023.
    DiffusersOld,
    /// diffusers, `.lora.down` and `.lora_linear_layer.down`.
    DiffusersMid,
    /// diffusers over PEFT, `.lora_A`.
    DiffusersPeft,
    /// A folder saved by PEFT.
    PeftFolder,
    /// cloneofsimo/lora, modules by number.
    CloneOfSimo,
    /// Dotted paths behind `diffusion_model.` (ComfyUI, OneTrainer, SimpleTuner).
    Generic,
}

impl Format {
    /// The word that reports use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kohya => "kohya",
            Self::Lycoris => "lycoris",
            Self::DiffusersOld => "diffusers-old",
            Self::DiffusersMid => "diffusers-mid",
            Self::DiffusersPeft => "diffusers-peft",
            Self::PeftFolder => "peft",
            Self::CloneOfSimo => "cloneofsimo",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Kinds that are refused by name: (what a key holds, the kind). Earlier rows win.
const REFUSED: &[(&str, &str)] = &[
    ("lora_controlnet", "a Control-LoRA"),
    ("ip_adapter.", "an IP-Adapter"),
    ("to_k_ip", "an IP-Adapter"),
    ("image_proj.", "an IP-Adapter"),
    ("motion_modules", "a motion LoRA of AnimateDiff"),
    ("double_blocks", "an adapter for Flux"),
    ("single_blocks", "an adapter for Flux"),
    ("single_transformer_blocks", "an adapter for Flux"),
    ("context_embedder", "an adapter for SD3 or Flux"),
    ("joint_blocks", "an adapter for SD3"),
    ("transformer.transformer_blocks.", "an adapter for SD3"),
    ("lora_transformer_transformer_blocks_", "an adapter for SD3"),
    ("lora_te3_", "an adapter for SD3 or Flux (T5 text encoder)"),
    ("t5xxl", "an adapter for SD3 or Flux (T5 text encoder)"),
    (
        "text_encoder_3.",
        "an adapter for SD3 or Flux (T5 text encoder)",
    ),
    ("diffusion_model.blocks.", "an adapter for Wan"),
    ("noise_refiner", "an adapter for Lumina"),
    ("lora_prior_", "an adapter for Stable Cascade"),
    (".lora_A_1.", "a LoRA with wrongly renamed PEFT keys"),
    (".lora_B_1.", "a LoRA with wrongly renamed PEFT keys"),
    (".lora_embedding_", "a PEFT LoRA of an embedding table"),
    (".lora_E", "AdaLoRA"),
    (".oft_R", "OFT as PEFT writes it"),
    (".oft_r.", "OFT as PEFT writes it"),
    (".oft_blocks.", "OFT with one tensor per block"),
    (".boft_R", "BOFT as PEFT writes it"),
    ("vera_lambda", "VeRA"),
    (".q_layer.", "T-LoRA"),
    (".up_list.", "DyLoRA with one tensor per rank"),
    (".bias_indices", "an adapter with sparse biases"),
];

/// Beginnings of dotted paths of the generic form.
const GENERIC: &[&str] = &[
    "diffusion_model.",
    "model.diffusion_model.",
    "clip_",
    "text_encoders.",
];

/// Beginnings of the keys of a whole model in the LDM layout.
const CHECKPOINT: &[&str] = &[
    "model.diffusion_model.",
    "cond_stage_model.",
    "conditioner.",
    "first_stage_model.",
];

/// The format of `store`, or why it is none.
pub(crate) fn detect(store: &StFile, in_folder: bool) -> Result<Format, LoraError> {
    for (piece, kind) in REFUSED {
        if let Some(key) = store.names().find(|key| key.contains(piece)) {
            return Err(LoraError::Refused {
                file: store.path().to_path_buf(),
                kind: (*kind).to_string(),
                key: key.to_string(),
            });
        }
    }
    if store.names().any(|key| index_key(key).is_some()) {
        return Ok(Format::CloneOfSimo);
    }
    let keys: Vec<Key<'_>> = store.names().filter_map(Key::parse).collect();
    let adapts = |k: &Key<'_>| !matches!(k.part, Part::Ia3Weight | Part::Scale | Part::Alpha);
    if !keys.iter().any(adapts) {
        return Err(LoraError::NotAnAdapter {
            file: store.path().to_path_buf(),
            reason: other_kind(store),
        });
    }
    let styles: BTreeSet<Style> = keys.iter().map(|k| k.style).collect();
    let starts = |prefix: &str| keys.iter().any(|k| k.module.starts_with(prefix));
    Ok(if in_folder || starts("base_model.model.") {
        Format::PeftFolder
    } else if GENERIC.iter().any(|prefix| starts(prefix)) {
        Format::Generic
    } else if styles.contains(&Style::Peft) {
        Format::DiffusersPeft
    } else if styles.contains(&Style::DiffusersOld) {
        Format::DiffusersOld
    } else if styles.contains(&Style::DiffusersMid) {
        Format::DiffusersMid
    } else if styles.contains(&Style::Lycoris) || starts("lycoris_") {
        Format::Lycoris
    } else {
        Format::Kohya
    })
}

/// `<component>:<number>:<up|down>` taken apart.
pub(crate) fn index_key(key: &str) -> Option<(&str, usize, Part)> {
    let (component, rest) = key.split_once(':')?;
    let (number, half) = rest.split_once(':')?;
    let part = match half {
        "up" => Part::Up,
        "down" => Part::Down,
        _ => return None,
    };
    Some((component, number.parse().ok()?, part))
}

/// Widths of the text encoders that embeddings are made for.
const EMBEDDING_WIDTHS: &[usize] = &[768, 1024, 1280];

/// What a file without any adapter tensor is.
fn other_kind(store: &StFile) -> String {
    const EMBEDDINGS: &[&str] = &[
        "emb_params",
        "clip_l",
        "clip_g",
        "text_encoders_0",
        "text_encoders_1",
    ];
    let embedding = |key: &str| {
        EMBEDDINGS.contains(&key)
            || key.starts_with("bundle_emb.")
            || (key.starts_with('<') && key.ends_with('>'))
    };
    let vectors = |key: &str| {
        store.get(key).is_some_and(|t| {
            let shape = t.shape;
            shape.len() <= 2 && shape.last().is_some_and(|n| EMBEDDING_WIDTHS.contains(n))
        })
    };
    if store.is_empty() {
        "it holds no tensors".into()
    } else if store.names().all(embedding) || (store.len() <= 2 && store.names().all(vectors)) {
        "it is a textual inversion embedding".into()
    } else if let Some(key) = store
        .names()
        .find(|key| CHECKPOINT.iter().any(|start| key.starts_with(start)))
    {
        format!("it is a checkpoint of a whole model (found `{key}`)")
    } else if let Some(key) = store
        .names()
        .filter(|key| key.ends_with(".weight") && !key.contains("lora"))
        .nth(20)
    {
        format!("it holds the weights of a whole network (found `{key}`)")
    } else {
        let first = store.names().next().unwrap_or_default();
        format!("none of its tensors has the name of an adapter (found `{first}`)")
    }
}
