//! Which tensor of an adapted module a key names: the end of the key, looked up in a table.

/// The tensors that a module of an adapter file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Down,
    Up,
    Mid,
    UpBias,
    Alpha,
    Scale,
    DoraScale,
    /// PEFT's DoRA vector: always along the outputs.
    Magnitude,
    Diff,
    DiffBias,
    SetWeight,
    NormWeight,
    NormBias,
    HadaW1A,
    HadaW1B,
    HadaT1,
    HadaW2A,
    HadaW2B,
    HadaT2,
    LokrW1,
    LokrW1A,
    LokrW1B,
    LokrW2,
    LokrW2A,
    LokrW2B,
    LokrT2,
    OftBlocks,
    OftDiag,
    Rescale,
    GloraA1,
    GloraA2,
    GloraB1,
    GloraB2,
    Ia3Weight,
    Ia3OnInput,
    Ia3L,
}

/// Families of spellings that a suffix belongs to, for the name of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Style {
    /// `.lora_down.weight`
    Kohya,
    /// `.lora.down.weight`, `.lora_linear_layer.down.weight`
    DiffusersMid,
    /// `_lora.down.weight`
    DiffusersOld,
    /// `.lora_A.weight`
    Peft,
    /// `.hada_w1_a`, `.w_norm`, …
    Lycoris,
    /// Says nothing about the format.
    Any,
}

/// Ends of keys. The longest that matches wins.
const SUFFIXES: &[(&str, Part, Style)] = &[
    (".lora_down.weight", Part::Down, Style::Kohya),
    (".lora_up.weight", Part::Up, Style::Kohya),
    (".lora_mid.weight", Part::Mid, Style::Lycoris),
    (".lora.down.weight", Part::Down, Style::DiffusersMid),
    (".lora.up.weight", Part::Up, Style::DiffusersMid),
    (".lora.alpha", Part::Alpha, Style::DiffusersMid),
    (
        ".lora_linear_layer.down.weight",
        Part::Down,
        Style::DiffusersMid,
    ),
    (
        ".lora_linear_layer.up.weight",
        Part::Up,
        Style::DiffusersMid,
    ),
    (".lora_linear_layer.alpha", Part::Alpha, Style::DiffusersMid),
    ("_lora.down.weight", Part::Down, Style::DiffusersOld),
    ("_lora.up.weight", Part::Up, Style::DiffusersOld),
    ("_lora.alpha", Part::Alpha, Style::DiffusersOld),
    (".alpha", Part::Alpha, Style::Any),
    (".scale", Part::Scale, Style::Any),
    (".dora_scale", Part::DoraScale, Style::Any),
    (".diff", Part::Diff, Style::Lycoris),
    (".diff_b", Part::DiffBias, Style::Lycoris),
    (".set_weight", Part::SetWeight, Style::Lycoris),
    (".w_norm", Part::NormWeight, Style::Lycoris),
    (".b_norm", Part::NormBias, Style::Lycoris),
    (".oft_blocks", Part::OftBlocks, Style::Lycoris),
    (".oft_diag", Part::OftDiag, Style::Lycoris),
    (".rescale", Part::Rescale, Style::Lycoris),
    (".a1.weight", Part::GloraA1, Style::Lycoris),
    (".a2.weight", Part::GloraA2, Style::Lycoris),
    (".b1.weight", Part::GloraB1, Style::Lycoris),
    (".b2.weight", Part::GloraB2, Style::Lycoris),
    (".on_input", Part::Ia3OnInput, Style::Lycoris),
    (".weight", Part::Ia3Weight, Style::Any),
];

/// Segments after which PEFT may put an adapter's name (`.default`) and `.weight` or `.bias`.
const SEGMENTS: &[(&str, Part, Style)] = &[
    ("lora_A", Part::Down, Style::Peft),
    ("lora_B", Part::Up, Style::Peft),
    ("lora_magnitude_vector", Part::Magnitude, Style::Peft),
    ("ia3_l", Part::Ia3L, Style::Peft),
    ("hada_w1_a", Part::HadaW1A, Style::Lycoris),
    ("hada_w1_b", Part::HadaW1B, Style::Lycoris),
    ("hada_t1", Part::HadaT1, Style::Lycoris),
    ("hada_w2_a", Part::HadaW2A, Style::Lycoris),
    ("hada_w2_b", Part::HadaW2B, Style::Lycoris),
    ("hada_t2", Part::HadaT2, Style::Lycoris),
    ("lokr_w1", Part::LokrW1, Style::Lycoris),
    ("lokr_w1_a", Part::LokrW1A, Style::Lycoris),
    ("lokr_w1_b", Part::LokrW1B, Style::Lycoris),
    ("lokr_w2", Part::LokrW2, Style::Lycoris),
    ("lokr_w2_a", Part::LokrW2A, Style::Lycoris),
    ("lokr_w2_b", Part::LokrW2B, Style::Lycoris),
    ("lokr_t2", Part::LokrT2, Style::Lycoris),
];

/// A key taken apart: the module as it is written, and the tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key<'a> {
    pub(crate) module: &'a str,
    pub(crate) part: Part,
    pub(crate) style: Style,
}

impl<'a> Key<'a> {
    /// Takes `key` apart; `None` when its end is in no table.
    pub(crate) fn parse(key: &'a str) -> Option<Self> {
        segment(key).or_else(|| suffix(key))
    }
}

fn suffix(key: &str) -> Option<Key<'_>> {
    SUFFIXES
        .iter()
        .filter_map(|&(end, part, style)| {
            let module = key.strip_suffix(end)?;
            (!module.is_empty()).then_some(Key {
                module,
                part,
                style,
            })
        })
        .min_by_key(|k| k.module.len())
}

fn segment(key: &str) -> Option<Key<'_>> {
    let mut start = 0;
    for piece in key.split('.') {
        let end = start + piece.len();
        if start > 0 {
            let row = SEGMENTS.iter().find(|(name, ..)| *name == piece);
            if let Some(&(_, part, style)) = row {
                let is_bias = match rest(key.get(end..)?)? {
                    "bias" if part == Part::Up => true,
                    "bias" => return None,
                    _ => false,
                };
                return Some(Key {
                    module: key.get(..start - 1)?,
                    part: if is_bias { Part::UpBias } else { part },
                    style,
                });
            }
        }
        start = end + 1;
    }
    None
}

/// What stands behind such a segment: nothing, `weight`, `bias`, or an adapter's name before one of these.
fn rest(tail: &str) -> Option<&str> {
    let pieces: Vec<&str> = tail.split('.').skip(1).collect();
    match *pieces.as_slice() {
        [] => Some(""),
        [kind @ ("weight" | "bias")] => Some(kind),
        [_name] => Some(""),
        [_name, kind @ ("weight" | "bias")] => Some(kind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(key: &str) -> Option<(&str, Part)> {
        Key::parse(key).map(|k| (k.module, k.part))
    }

    #[test]
    fn every_pair_of_halves() {
        for (key, part) in [
            ("m.lora_down.weight", Part::Down),
            ("m.lora.up.weight", Part::Up),
            ("m_lora.down.weight", Part::Down),
            ("m.lora_linear_layer.up.weight", Part::Up),
            ("m.lora_A.weight", Part::Down),
            ("m.lora_B.default.weight", Part::Up),
            ("m.lora_A", Part::Down),
            ("m.lora_B.my_style", Part::Up),
            ("m.lora_B.bias", Part::UpBias),
            ("m.lora_B.default.bias", Part::UpBias),
            ("m.lora_magnitude_vector", Part::Magnitude),
            ("m.lora_magnitude_vector.default.weight", Part::Magnitude),
            ("m.hada_w1_a", Part::HadaW1A),
            ("m.alpha", Part::Alpha),
            ("m.a1.weight", Part::GloraA1),
            ("m.weight", Part::Ia3Weight),
        ] {
            assert_eq!(parsed(key), Some(("m", part)), "{key}");
        }
    }

    #[test]
    fn botched_ends_have_no_meaning() {
        assert_eq!(parsed("m.lora_A_1.default_0.bias"), None);
        assert_eq!(parsed("m.lora_A.bias"), None);
        assert_eq!(parsed("lora_A"), None);
    }
}
