//! What a file says about itself: name, trigger words, author, licence.

use super::speed::Speed;
use crate::StFile;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Facts from the file's metadata, for manifests and reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// `ss_output_name`, `modelspec.title`, or the name of the file without its extension; of a file that has a name which
    /// every such file has, the name of its folder.
    pub name: String,
    /// `modelspec.trigger_phrase`, cut at commas.
    pub trigger_words: Vec<String>,
    /// The ten most frequent training tags (`ss_tag_frequency`) and how often each occurs.
    pub frequent_tags: Vec<(String, u64)>,
    /// `modelspec.author`.
    pub author: Option<String>,
    /// `modelspec.license`.
    pub licence: Option<String>,
    /// What the file calls its base model: `ss_base_model_version` or `modelspec.architecture`.
    pub base_model: Option<String>,
    /// Few-step release that a name says and the tensors bear out, which needs a sampler of its own.
    pub speed: Option<Speed>,
    /// Said when a name has the word of such a release and the tensors do not bear it out.
    pub speed_note: Option<String>,
    /// All metadata of the file.
    pub metadata: BTreeMap<String, String>,
}

const FREQUENT_TAGS: usize = 10;

/// Names that say nothing, since PEFT and diffusers give them to every file.
const NAMELESS: &[&str] = &["adapter_model", "pytorch_lora_weights"];

impl Release {
    pub(crate) fn of(store: &StFile, path: &Path) -> Self {
        let text = |key: &str| {
            store
                .metadata()
                .get(key)
                .map(|t| t.trim())
                .filter(|t| !t.is_empty() && *t != "None")
                .map(str::to_string)
        };
        let stem = stem(path);
        let title = text("modelspec.title");
        let output = text("ss_output_name");
        let names = [
            ("`ss_output_name`", output.as_ref()),
            ("`modelspec.title`", title.as_ref()),
            ("the file's name", Some(&stem)),
        ];
        let names = names
            .into_iter()
            .filter_map(|(place, name)| Some((place, name?.as_str())));
        let found = Speed::of(store, names);
        Self {
            speed: found.speed,
            speed_note: found.note,
            name: output.or(title).unwrap_or(stem),
            trigger_words: text("modelspec.trigger_phrase")
                .iter()
                .flat_map(|phrase| phrase.split(','))
                .map(|word| word.trim().to_string())
                .filter(|word| !word.is_empty())
                .collect(),
            frequent_tags: frequent_tags(store.metadata().get("ss_tag_frequency")),
            author: text("modelspec.author"),
            licence: text("modelspec.license"),
            base_model: text("ss_base_model_version").or_else(|| text("modelspec.architecture")),
            metadata: store.metadata().clone(),
        }
    }
}

/// The name of a file without its extension, or of its folder when the file is called like every other.
fn stem(path: &Path) -> String {
    let name = |path: &Path| {
        path.file_stem()
            .map(|s| s.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    let own = name(path);
    // `Path::parent` of a bare file name is empty, and so is its name.
    match path.parent().and_then(Path::file_name) {
        Some(folder) if NAMELESS.contains(&own.as_str()) => folder.to_string_lossy().into_owned(),
        _ => own,
    }
}

/// The tags of all training folders together, most frequent first, equal ones by name.
fn frequent_tags(json: Option<&String>) -> Vec<(String, u64)> {
    let value: Option<Value> = json.and_then(|j| serde_json::from_str(j).ok());
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (_, tags) in value.iter().filter_map(Value::as_object).flatten() {
        for (tag, n) in tags.as_object().into_iter().flatten() {
            let total = counts.entry(tag.trim().to_string()).or_default();
            *total = total.saturating_add(n.as_u64().unwrap_or(0));
        }
    }
    let mut sorted: Vec<(String, u64)> = counts.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sorted.truncate(FREQUENT_TAGS);
    sorted
}
