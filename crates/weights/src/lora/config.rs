//! Scales that live outside the tensors: `adapter_config.json` of PEFT, `lora_adapter_metadata` of diffusers.

use crate::Component;
use crate::StFile;
use regex::Regex;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The part of a PEFT configuration that decides numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeftConfig {
    /// `LORA`, `LOHA`, `LOKR`, …
    pub(crate) kind: String,
    rank: Option<f64>,
    alpha: Option<f64>,
    rank_pattern: BTreeMap<String, f64>,
    alpha_pattern: BTreeMap<String, f64>,
    use_rslora: bool,
    /// Factors are stored transposed (GPT-2's Conv1D); no Stable Diffusion layer is of that kind.
    pub(crate) fan_in_fan_out: bool,
    /// Component that `auto_mapping.base_model_class` names.
    pub(crate) component: Option<Component>,
    /// IA3: the modules whose inputs are scaled, as ends of paths or one pattern; `None` when the configuration does not say.
    feedforward: Option<Feedforward>,
}

/// `feedforward_modules` of an IA3 configuration.
#[derive(Clone, Debug)]
enum Feedforward {
    Ends(Vec<String>),
    Pattern(Regex),
}

/// Classes that a PEFT folder may name, and the component that they are.
const CLASSES: &[(&str, Component)] = &[
    ("UNet2DConditionModel", Component::Unet),
    ("CLIPTextModel", Component::TextEncoder),
    ("CLIPTextModelWithProjection", Component::TextEncoder2),
];

impl PeftConfig {
    /// Reads the JSON object of an `adapter_config.json`.
    pub(crate) fn from_json(object: &Map<String, Value>) -> Result<Self, String> {
        let number = |key: &str| object.get(key).and_then(Value::as_f64);
        let pattern = |key: &str| -> Result<BTreeMap<String, f64>, String> {
            let entries = object.get(key).and_then(Value::as_object);
            entries
                .into_iter()
                .flatten()
                .map(|(name, value)| {
                    let value = value
                        .as_f64()
                        .ok_or_else(|| format!("`{key}` of `{name}` is not a number"))?;
                    Ok((name.clone(), value))
                })
                .collect()
        };
        let flag = |key: &str| object.get(key).and_then(Value::as_bool).unwrap_or(false);
        let feedforward = match object.get("feedforward_modules") {
            None | Some(Value::Null) => None,
            Some(Value::String(pattern)) => Some(Feedforward::Pattern(
                Regex::new(&format!("^(?:{pattern})$"))
                    .map_err(|_| format!("`feedforward_modules` is no pattern: `{pattern}`"))?,
            )),
            Some(Value::Array(ends)) => {
                let ends = ends.iter().map(|end| end.as_str().map(str::to_string));
                Some(Feedforward::Ends(ends.collect::<Option<_>>().ok_or(
                    "`feedforward_modules` holds something that is no name",
                )?))
            }
            Some(_) => return Err("`feedforward_modules` is neither names nor a pattern".into()),
        };
        let class = object
            .get("auto_mapping")
            .and_then(|m| m.get("base_model_class"))
            .and_then(Value::as_str);
        Ok(Self {
            kind: object
                .get("peft_type")
                .and_then(Value::as_str)
                .unwrap_or("LORA")
                .to_string(),
            rank: number("r"),
            alpha: number("lora_alpha").or_else(|| number("alpha")),
            rank_pattern: pattern("rank_pattern")?,
            alpha_pattern: pattern("alpha_pattern")?,
            use_rslora: flag("use_rslora"),
            fan_in_fan_out: flag("fan_in_fan_out"),
            component: CLASSES
                .iter()
                .find(|(name, _)| Some(*name) == class)
                .map(|(_, component)| *component),
            feedforward,
        })
    }

    /// Whether IA3 scales the inputs of module `path` and not its outputs; `None` when the configuration does not say.
    pub(crate) fn is_feedforward(&self, path: &str) -> Option<bool> {
        Some(match self.feedforward.as_ref()? {
            Feedforward::Ends(ends) => ends.iter().any(|end| path.ends_with(end.as_str())),
            Feedforward::Pattern(pattern) => pattern.is_match(path),
        })
    }

    /// Its alpha, the number of exceptions, and whether it is divided by the root of the rank; `None` without an alpha.
    pub(crate) fn alpha_in_words(&self) -> Option<String> {
        let mut words = self.alpha?.to_string();
        match self.alpha_pattern.len() {
            0 => {}
            n => words.push_str(&format!(", another one by {n} patterns")),
        }
        if self.use_rslora {
            words.push_str(", over the root of the rank");
        }
        Some(words)
    }

    /// alpha / rank of module `path`; `rank` is that of the tensors, used wherever they tell it. `None` without an alpha.
    pub(crate) fn scale(&self, path: &str, rank: Option<usize>) -> Option<f64> {
        let alpha = matching(&self.alpha_pattern, path).or(self.alpha)?;
        let rank = match rank {
            Some(rank) => rank as f64,
            None => matching(&self.rank_pattern, path).or(self.rank)?,
        };
        Some(if self.use_rslora {
            alpha / rank.sqrt()
        } else {
            alpha / rank
        })
    }
}

/// The entry whose key is `path`, ends it at a dot, or matches it as a regular expression up to its end, as PEFT has it.
/// Of several the longest key wins.
fn matching(pattern: &BTreeMap<String, f64>, path: &str) -> Option<f64> {
    let fits = |key: &str| {
        key == path || Regex::new(&format!("^(?:.*\\.)?(?:{key})$")).is_ok_and(|r| r.is_match(path))
    };
    if let Some(&exact) = pattern.get(path) {
        return Some(exact);
    }
    pattern
        .iter()
        .filter(|(key, _)| fits(key))
        .max_by_key(|(key, _)| key.len())
        .map(|(_, value)| *value)
}

/// The configurations in a header's `lora_adapter_metadata`, whose keys are `<component>.<field>`.
pub(crate) fn from_header(store: &StFile) -> Result<BTreeMap<Component, PeftConfig>, String> {
    let Some(text) = store.metadata().get("lora_adapter_metadata") else {
        return Ok(BTreeMap::new());
    };
    let value: Value = serde_json::from_str(text)
        .map_err(|e| format!("`lora_adapter_metadata` is not JSON: {e}"))?;
    let object = value
        .as_object()
        .ok_or("`lora_adapter_metadata` is not an object")?;
    let components = [
        Component::Unet,
        Component::TextEncoder,
        Component::TextEncoder2,
    ];
    let mut configs = BTreeMap::new();
    for component in components {
        let fields: Map<String, Value> = object
            .iter()
            .filter_map(|(key, value)| {
                let field = key.strip_prefix(component.as_str())?.strip_prefix('.')?;
                Some((field.to_string(), value.clone()))
            })
            .collect();
        if !fields.is_empty() {
            configs.insert(component, PeftConfig::from_json(&fields)?);
        }
    }
    Ok(configs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> PeftConfig {
        let value: Value = serde_json::from_str(json).unwrap();
        PeftConfig::from_json(value.as_object().unwrap()).unwrap()
    }

    #[test]
    fn patterns_win_over_the_general_numbers() {
        let c = config(
            r#"{"r": 4, "lora_alpha": 8, "alpha_pattern": {"attn1.to_q": 1, "^mid_block.*to_k": 3, "to_q": 16}}"#,
        );
        assert_eq!(c.scale("a.attn2.to_v", Some(4)), Some(2.0));
        assert_eq!(c.scale("a.attn1.to_q", Some(4)), Some(0.25));
        assert_eq!(c.scale("a.attn2.to_q", Some(4)), Some(4.0));
        assert_eq!(c.scale("a.attn2.into_q", Some(4)), Some(2.0));
        assert_eq!(c.scale("mid_block.b.to_k", Some(6)), Some(0.5));
    }

    #[test]
    fn feedforward_modules_are_ends_or_a_pattern() {
        let c = config(r#"{"peft_type": "IA3", "feedforward_modules": ["ff.net.2", "proj_in"]}"#);
        assert_eq!(c.is_feedforward("a.0.ff.net.2"), Some(true));
        assert_eq!(c.is_feedforward("a.0.attn1.to_k"), Some(false));
        let c = config(r#"{"feedforward_modules": ".*net\\.2"}"#);
        assert_eq!(c.is_feedforward("a.ff.net.2"), Some(true));
        assert_eq!(c.is_feedforward("a.ff.net.20"), Some(false));
        assert_eq!(config("{}").is_feedforward("a"), None);
        let bad: Value = serde_json::from_str(r#"{"feedforward_modules": [1]}"#).unwrap();
        assert!(PeftConfig::from_json(bad.as_object().unwrap()).is_err());
    }

    #[test]
    fn rslora_divides_by_the_root() {
        let c = config(r#"{"r": 16, "lora_alpha": 8, "use_rslora": true}"#);
        assert_eq!(c.scale("x", None), Some(2.0));
        assert_eq!(config("{}").scale("x", Some(4)), None);
    }
}
