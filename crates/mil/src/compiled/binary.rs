//! The `coremldata.bin` files. Little-endian throughout; a string is its length in 8 bytes and its bytes.

use super::Source;
use gesso_coreml::proto::specification::ModelDescription;
use prost::Message;

/// Field number of `mlProgram` in the model, which stands for its kind.
const ML_PROGRAM: u32 = 502;
/// Field number of `pipeline`.
const PIPELINE: u32 = 202;

/// The file of an ML Program: a root, or a member of a pipeline.
///
/// | offset | size | value |
/// |---|---|---|
/// | 0x00 | 4 | 502 |
/// | 0x04 | 4 | version class: 5 for specification versions 6 and 7, else the version |
/// | 0x08 | 20 | zero |
/// | 0x1C | 8 + 7 | the string `generic` |
/// | 0x2B | 4 | specification version |
/// | 0x2F | 28 | zero |
/// | 0x4B | 8 + L | length and the serialized description; at a root its `metadata` is always present |
/// | 0x53 + L | 16 each | per function: 502, 0 |
pub(super) fn program(version: i32, description: &ModelDescription, functions: usize) -> Vec<u8> {
    let class = if version <= 7 { 5 } else { version };
    let mut out = head(ML_PROGRAM, class, 0, "generic", version, description);
    for _ in 0..functions {
        out.extend(u64::from(ML_PROGRAM).to_le_bytes());
        out.extend(0u64.to_le_bytes());
    }
    out
}

/// The root file of a pipeline: as [`program`] with 202, class 1, 1 at offset 0x14, a longer string, and after the
/// description the number of models and 202.
pub(super) fn pipeline(version: i32, description: &ModelDescription, members: usize) -> Vec<u8> {
    let mut name = String::new();
    for i in 0..members {
        name.push_str(&format!("generic.model{i}v{version}.0.0"));
    }
    name.push_str("generic");
    let mut out = head(PIPELINE, 1, 1, &name, version, description);
    out.extend((members as u64).to_le_bytes());
    out.extend(u64::from(PIPELINE).to_le_bytes());
    out
}

/// A description as it stands at a root: with metadata, be it empty.
pub(super) fn with_metadata(mut description: ModelDescription) -> ModelDescription {
    description.metadata.get_or_insert_default();
    description
}

fn head(
    kind: u32,
    class: i32,
    flag: u32,
    name: &str,
    version: i32,
    description: &ModelDescription,
) -> Vec<u8> {
    let description = description.encode_to_vec();
    let mut out = Vec::with_capacity(description.len() + name.len() + 128);
    out.extend(kind.to_le_bytes());
    out.extend(class.to_le_bytes());
    out.extend([0; 12]);
    out.extend(flag.to_le_bytes());
    out.extend([0; 4]);
    string(&mut out, name);
    out.extend(version.to_le_bytes());
    out.extend([0; 28]);
    out.extend((description.len() as u64).to_le_bytes());
    out.extend(description);
    out
}

/// The names of a pipeline's models: a count and the strings.
pub(super) fn model_names(names: &[String]) -> Vec<u8> {
    let mut out = (names.len() as u64).to_le_bytes().to_vec();
    names.iter().for_each(|name| string(&mut out, name));
    out
}

/// A section of an analytics file: its name, and pairs of a key and a value.
pub(super) type Section<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// First section of an ML Program.
pub(super) const PROGRAM_DETAILS: Section<'static> = (
    "NeuralNetworkModelDetails",
    &[("containsCustomLayer", "0"), ("modelDimension", "0")],
);

/// The analytics file: a first section, and one about the source where there is one.
pub(super) fn analytics(details: Section<'_>, source: Option<&Source<'_>>) -> Vec<u8> {
    let mut out = Vec::new();
    section(&mut out, details);
    if let Some(source) = source {
        let hash = base64(&source.model_hash);
        let pairs = [
            ("modelHash", hash.as_str()),
            ("modelName", source.model_name),
        ];
        section(&mut out, ("SpecificationDetails", &pairs));
    }
    out
}

fn section(out: &mut Vec<u8>, (name, pairs): Section<'_>) {
    string(out, name);
    out.extend((pairs.len() as u64).to_le_bytes());
    for (key, value) in pairs {
        string(out, key);
        string(out, value);
    }
}

fn string(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

/// Base64 with padding (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |w, &b| w << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_known_strings() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
