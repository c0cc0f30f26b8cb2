//! What Apple's Swift package reads from descriptions: names and shapes.

use super::folder::{Feature, Folder, Part};
use super::{Answers, Lookup, SWIFT};

pub(super) const LOOKUPS: &[Lookup] = &[
    Lookup {
        name: "text-input",
        apps: SWIFT,
        does: "feeds 77 tokens in a shape [1, 77]",
        check: text_input,
    },
    Lookup {
        name: "text-output",
        apps: SWIFT,
        does: "takes `last_hidden_state`; for SDXL `hidden_embeds` and `pooled_outputs`",
        check: text_output,
    },
    Lookup {
        name: "unet-inputs",
        apps: SWIFT,
        does: "feeds `sample`, `timestep`, `encoder_hidden_states`, and `time_ids`, `text_embeds` for SDXL",
        check: unet_inputs,
    },
    Lookup {
        name: "sample-shape",
        apps: SWIFT,
        does: "reads the size of the latents from `sample [B, C, h, w]`",
        check: sample_shape,
    },
    Lookup {
        name: "unet-shapes",
        apps: SWIFT,
        does: "feeds `timestep [B]` and `encoder_hidden_states [B, D, 1, 77]`",
        check: unet_shapes,
    },
    Lookup {
        name: "text-width",
        apps: SWIFT,
        does: "gives what the text encoders return to the UNet",
        check: text_width,
    },
    Lookup {
        name: "decoder-input",
        apps: SWIFT,
        does: "gives latents of the size of `sample` to the decoder",
        check: decoder_input,
    },
    Lookup {
        name: "decoder-output",
        apps: SWIFT,
        does: "makes a picture of [1, 3, H, W]",
        check: decoder_output,
    },
    Lookup {
        name: "encoder-input",
        apps: SWIFT,
        does: "compares the picture's shape with the encoder's input",
        check: encoder_input,
    },
    Lookup {
        name: "safety-checker",
        apps: SWIFT,
        does: "feeds `clip_input`, `images [1, 512, 512, 3]` and `adjustment`, takes `has_nsfw_concepts`",
        check: safety_checker,
    },
    Lookup {
        name: "control-net",
        apps: SWIFT,
        does: "feeds `controlnet_cond` and hands `additional_residual_N` to `ControlledUnet`",
        check: control_net,
    },
];

/// Tokens of a prompt.
const TOKENS: i64 = 77;

fn good(part: Option<&Part>) -> Option<&Part> {
    part.filter(|p| p.opened.is_ok())
}

fn text_input(f: &Folder, a: &mut Answers) {
    for part in ["TextEncoder", "TextEncoder2"]
        .iter()
        .filter_map(|n| good(f.part(n)))
    {
        if let [input] = part.inputs().as_slice()
            && input.shape != [1, TOKENS]
        {
            a.refuse(format!(
                "`{}`: input `{}` has shape {:?}, expected [1, 77]",
                part.file, input.name, input.shape
            ));
        }
    }
}

fn text_output(f: &Folder, a: &mut Answers) {
    let names: &[&str] = if f.is_xl() {
        &["hidden_embeds", "pooled_outputs"]
    } else {
        &["last_hidden_state"]
    };
    for part in ["TextEncoder", "TextEncoder2"]
        .iter()
        .filter_map(|n| good(f.part(n)))
    {
        for name in names
            .iter()
            .filter(|n| !part.outputs().iter().any(|o| o.name == **n))
        {
            a.refuse(format!("`{}` has no output `{name}`", part.file));
        }
    }
}

fn unet_inputs(f: &Folder, a: &mut Answers) {
    let Some((first, _)) = f.unet().filter(|(p, _)| p.opened.is_ok()) else {
        return;
    };
    let fed = [
        "sample",
        "timestep",
        "encoder_hidden_states",
        "time_ids",
        "text_embeds",
    ];
    for name in &fed[..3] {
        if first.input(name).is_none() {
            a.refuse(format!("`{}` has no input `{name}`", first.file));
        }
    }
    for input in first
        .inputs()
        .iter()
        .filter(|i| !fed.contains(&i.name.as_str()))
    {
        if input.optional {
            a.warn(format!(
                "`{}`: nobody feeds the optional input `{}`",
                first.file, input.name
            ));
        } else {
            a.refuse(format!(
                "`{}`: nobody feeds input `{}`",
                first.file, input.name
            ));
        }
    }
}

/// `sample` as [B, C, h, w].
fn sample(f: &Folder) -> Option<(Feature, [i64; 4])> {
    let input = f.unet()?.0.input("sample")?;
    let shape = input.shape.as_slice().try_into().ok()?;
    Some((input, shape))
}

fn sample_shape(f: &Folder, a: &mut Answers) {
    let Some((first, _)) = f.unet() else { return };
    let Some(input) = first.input("sample") else {
        return;
    };
    let fits = matches!(input.shape.as_slice(), [1 | 2, 4 | 9, h, w] if *h > 0 && *w > 0);
    if !fits {
        a.refuse(format!(
            "`{}`: `sample` has shape {:?}, expected [2, 4, h, w]",
            first.file, input.shape
        ));
    }
}

fn unet_shapes(f: &Folder, a: &mut Answers) {
    let (Some((first, _)), Some((_, [batch, ..]))) = (f.unet(), sample(f)) else {
        return;
    };
    if let Some(t) = first.input("timestep").filter(|t| t.shape != [batch]) {
        a.refuse(format!(
            "`{}`: `timestep` has shape {:?}, expected [{batch}]",
            first.file, t.shape
        ));
    }
    if let Some(s) = first.input("encoder_hidden_states") {
        let fits = matches!(s.shape.as_slice(), [b, d, 1, TOKENS] if *b == batch && *d > 0);
        if !fits {
            let text = format!(
                "`{}`: `encoder_hidden_states` has shape {:?}, expected [{batch}, D, 1, 77]",
                first.file, s.shape
            );
            a.refuse(text);
        }
    }
}

/// Width of what a text encoder returns.
fn width(part: &Part) -> Option<i64> {
    let names = ["last_hidden_state", "hidden_embeds"];
    let output = part
        .outputs()
        .into_iter()
        .find(|o| names.contains(&o.name.as_str()))?;
    match output.shape.as_slice() {
        [_, TOKENS, width] => Some(*width),
        _ => None,
    }
}

fn text_width(f: &Folder, a: &mut Answers) {
    let Some((first, _)) = f.unet() else { return };
    let Some(states) = first.input("encoder_hidden_states") else {
        return;
    };
    let (Some(&expected), Some(encoder)) = (states.shape.get(1), good(f.part("TextEncoder")))
    else {
        return;
    };
    let Some(mut found) = width(encoder) else {
        return;
    };
    if f.is_xl() {
        let Some(second) = good(f.part("TextEncoder2")).and_then(width) else {
            return;
        };
        found += second;
    }
    if found != expected {
        let text = format!(
            "the text encoder returns {found} values per token, but `{}` takes {expected}",
            first.file
        );
        a.refuse(text);
    }
}

fn decoder_input(f: &Folder, a: &mut Answers) {
    let (Some(part), Some((_, [_, _, h, w]))) = (good(f.part("VAEDecoder")), sample(f)) else {
        return;
    };
    if let [input] = part.inputs().as_slice()
        && input.shape != [1, 4, h, w]
    {
        let text = format!(
            "`{}`: input `{}` has shape {:?}, but `sample` has {h} × {w}",
            part.file, input.name, input.shape
        );
        a.refuse(text);
    }
}

fn decoder_output(f: &Folder, a: &mut Answers) {
    let Some(part) = good(f.part("VAEDecoder")) else {
        return;
    };
    if let [output] = part.outputs().as_slice() {
        let fits = matches!(output.shape.as_slice(), [1, 3, h, w] if *h > 0 && *w > 0);
        if !fits {
            a.refuse(format!(
                "`{}`: output `{}` has shape {:?}, expected [1, 3, H, W]",
                part.file, output.name, output.shape
            ));
        }
    }
}

fn encoder_input(f: &Folder, a: &mut Answers) {
    let (Some(encoder), Some(decoder)) = (good(f.part("VAEEncoder")), good(f.part("VAEDecoder")))
    else {
        return;
    };
    let (encoder_inputs, decoder_outputs) = (encoder.inputs(), decoder.outputs());
    if let ([input], [output]) = (encoder_inputs.as_slice(), decoder_outputs.as_slice())
        && input.shape != output.shape
    {
        let text = format!(
            "`{}`: input `{}` has shape {:?}, but pictures have {:?}",
            encoder.file, input.name, input.shape, output.shape
        );
        a.refuse(text);
    }
}

fn safety_checker(f: &Folder, a: &mut Answers) {
    let Some(part) = good(f.part("SafetyChecker")) else {
        return;
    };
    for name in ["clip_input", "images", "adjustment"] {
        if part.input(name).is_none() {
            a.refuse(format!("`{}` has no input `{name}`", part.file));
        }
    }
    if let Some(images) = part.input("images").filter(|i| i.shape != [1, 512, 512, 3]) {
        a.refuse(format!(
            "`{}`: `images` has shape {:?}, expected [1, 512, 512, 3]",
            part.file, images.shape
        ));
    }
    if !part.outputs().iter().any(|o| o.name == "has_nsfw_concepts") {
        a.refuse(format!("`{}` has no output `has_nsfw_concepts`", part.file));
    }
}

fn control_net(f: &Folder, a: &mut Answers) {
    if f.control_nets.is_empty() {
        return;
    }
    let controlled = f
        .part("ControlledUnet")
        .or_else(|| f.part("ControlledUnetChunk1"));
    let Some(controlled) = good(controlled) else {
        a.warn("`controlnet` holds models, but `ControlledUnet.mlmodelc` is missing: they cannot be used");
        return;
    };
    for net in f.control_nets.iter().filter(|p| p.opened.is_ok()) {
        for name in [
            "sample",
            "timestep",
            "encoder_hidden_states",
            "controlnet_cond",
        ] {
            if net.input(name).is_none() {
                a.refuse(format!("`controlnet/{}` has no input `{name}`", net.file));
            }
        }
        for wanted in controlled
            .inputs()
            .iter()
            .filter(|i| i.name.starts_with("additional_residual_"))
        {
            match net.outputs().iter().find(|o| o.name == wanted.name) {
                None => a.refuse(format!(
                    "`controlnet/{}` has no output `{}`",
                    net.file, wanted.name
                )),
                Some(o) if o.shape != wanted.shape => a.refuse(format!(
                    "`controlnet/{}`: `{}` has shape {:?}, but `{}` takes {:?}",
                    net.file, o.name, o.shape, controlled.file, wanted.shape
                )),
                Some(_) => {}
            }
        }
    }
}
