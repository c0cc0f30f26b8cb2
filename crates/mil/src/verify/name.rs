//! Names in the text form of programs.

/// Words that no variable may have as its name: keywords, types and constants of the text form.
const RESERVED: &[&str] = &[
    "BLOBFILE",
    "any",
    "bf16",
    "bool",
    "dict",
    "false",
    "fp16",
    "fp32",
    "fp64",
    "fp8e4m3fn",
    "fp8e5m2",
    "func",
    "inf",
    "int16",
    "int32",
    "int4",
    "int64",
    "int8",
    "list",
    "nan",
    "program",
    "state",
    "string",
    "tensor",
    "true",
    "tuple",
    "uint1",
    "uint16",
    "uint2",
    "uint3",
    "uint32",
    "uint4",
    "uint6",
    "uint64",
    "uint8",
];

/// Whether a name is a reserved word.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Whether a name matches `[A-Za-z_][A-Za-z0-9_@]*`.
pub(super) fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '@')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_and_reserved_words() {
        for good in ["x", "_", "var_12", "a@b", "Tensor"] {
            assert!(is_identifier(good) && !is_reserved(good), "{good}");
        }
        for bad in ["", "1a", "a-b", "@a", "a b", "ä"] {
            assert!(!is_identifier(bad), "{bad}");
        }
        assert!(is_reserved("tensor") && is_reserved("fp16"));
    }
}
