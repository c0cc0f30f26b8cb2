//! Files that are broken or hostile: every refusal has its message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_weights::StFile;
use proptest::prelude::*;

/// A file with this header and `data` zero bytes behind it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn message(bytes: Vec<u8>) -> String {
    StFile::from_bytes("bad.safetensors", bytes)
        .expect_err("was read")
        .to_string()
}

const ONE: &str = r#"{"a.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}"#;

#[test]
fn the_well_formed_file_of_these_tests_is_read() {
    let st = StFile::from_bytes("x", file(ONE, 24)).unwrap();
    assert_eq!(st.get("a.weight").unwrap().shape, [2, 3]);
    assert!(st.notes().is_empty());
}

#[test]
fn shorter_than_the_header_length() {
    assert_eq!(
        message(vec![1, 2, 3]),
        "`bad.safetensors` has 3 bytes, but a safetensors file begins with an 8-byte header length"
    );
}

#[test]
fn header_beyond_the_file() {
    let mut bytes = file(ONE, 24);
    bytes[..8].copy_from_slice(&1000u64.to_le_bytes());
    assert_eq!(
        message(bytes),
        "`bad.safetensors` states a header of 1000 bytes, but at most 88 are possible\n\n\
         hint: the file is not safetensors, or the download broke off"
    );
    let mut bytes = file(ONE, 24);
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(message(bytes).contains("states a header of 18446744073709551615 bytes"));
}

#[test]
fn header_beyond_the_limit() {
    let mut bytes = 100_000_001u64.to_le_bytes().to_vec();
    bytes.resize(8 + 100_000_001, b' ');
    assert!(
        message(bytes)
            .contains("states a header of 100000001 bytes, but at most 100000000 are possible")
    );
}

#[test]
fn header_not_json() {
    assert!(
        message(file("{\"a\":", 0))
            .starts_with("the header of `bad.safetensors` is not valid: EOF")
    );
    assert!(message(file("[1, 2, 3]", 0)).contains("expected an object of tensors"));
    assert!(message(file("\u{0}\u{0}", 0)).contains("is not valid"));
    let mut bytes = file("{\"??\":1}", 0);
    bytes[10] = 0xFF;
    assert!(message(bytes).contains("invalid unicode"));
    let deep = format!("{{\"a\":{}", "[".repeat(100_000));
    assert!(message(file(&deep, 0)).contains("recursion limit"));
}

#[test]
fn unknown_dtype_names_tensor_and_dtype() {
    let header = ONE.replace("F32", "F4_E9");
    let text = message(file(&header, 24));
    assert_eq!(
        text,
        "tensor `a.weight` in `bad.safetensors` has dtype `F4_E9`, expected one of \
         F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, I16, I8, U8, BOOL"
    );
}

#[test]
fn entries_that_lack_something() {
    let cases = [
        (r#"{"a":1}"#, "tensor `a` in `bad.safetensors` has no dtype"),
        (r#"{"a":{"dtype":"F32"}}"#, "has no shape of whole numbers"),
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}"#,
            "has no shape of whole numbers",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,0]}}"#,
            "has no shape of whole numbers",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#,
            "has no pair of data offsets",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551616]}}"#,
            "has no pair of data offsets",
        ),
    ];
    for (header, expected) in cases {
        let text = message(file(header, 4));
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn wrong_byte_count_names_both_sides() {
    let header = ONE.replace("[2,3]", "[2,4]");
    assert_eq!(
        message(file(&header, 24)),
        "tensor `a.weight` in `bad.safetensors` has 24 bytes, but F32 [2, 4] needs 32"
    );
    let header = ONE.replace("[2,3]", "[4294967296,4294967296]");
    assert!(message(file(&header, 24)).ends_with("needs more than an address can count"));
}

#[test]
fn offsets_reversed_or_beyond_the_file() {
    let header = ONE.replace("[0,24]", "[24,0]");
    assert_eq!(
        message(file(&header, 24)),
        "tensor `a.weight` in `bad.safetensors` begins at byte 24 and ends at byte 0"
    );
    assert_eq!(
        message(file(ONE, 23)),
        "tensor `a.weight` in `bad.safetensors` ends at byte 24 of the data, but the file holds 23\n\n\
         hint: the file was cut short; download it again"
    );
    let far = ONE.replace("[0,24]", "[18446744073709551591,18446744073709551615]");
    assert!(message(file(&far, 24)).contains("ends at byte 18446744073709551615"));
}

#[test]
fn overlapping_tensors() {
    let header = r#"{"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]},
        "a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
    assert_eq!(
        message(file(header, 6)),
        "tensors `a` and `b` in `bad.safetensors` share the bytes from 2 on"
    );
}

#[test]
fn duplicate_names() {
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
        "a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    assert_eq!(
        message(file(header, 2)),
        "tensor `a` stands twice in `bad.safetensors`"
    );
}

#[test]
fn holes_and_trailing_bytes_are_noted() {
    let header = r#"{"__metadata__":{"k":"v","n":3},
        "a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},
        "empty":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},
        "b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}}"#;
    let st = StFile::from_bytes("x", file(header, 9)).unwrap();
    let notes: Vec<_> = st.notes().iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "1 bytes from 0 on belong to no tensor: skipped",
            "3 bytes from 2 on belong to no tensor: skipped",
            "3 bytes behind the last tensor, from 6 on: skipped"
        ]
    );
    assert_eq!(st.names().collect::<Vec<_>>(), ["a", "b", "empty"]);
    assert_eq!(st.metadata()["k"], "v");
    assert_eq!(st.metadata()["n"], "3");
}

#[test]
fn other_kinds_of_file_get_a_way_out() {
    for magic in [b"PK\x03\x04".as_slice(), b"\x80\x02}q\x00.", b"\x80\x05"] {
        let mut bytes = magic.to_vec();
        bytes.resize(64, 7);
        let text = message(bytes);
        assert!(text.contains("a pickled PyTorch file"), "{text}");
        assert!(
            text.contains("hint: get the .safetensors version"),
            "{text}"
        );
    }
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
    assert_eq!(
        message(pointer.to_vec()),
        "`bad.safetensors` is a git-lfs pointer; the file itself was not downloaded\n\n\
         hint: run `git lfs pull` in its repository"
    );
    assert!(message(b"<!DOCTYPE html><p>log in".to_vec()).contains("a web page"));
}

#[test]
fn a_header_length_that_looks_like_another_kind_is_read() {
    // 0x0280 = 640: the bytes 80 02, as of a pickle.
    let header = format!("{ONE:<640}");
    assert!(StFile::from_bytes("x", file(&header, 24)).is_ok());
}

#[test]
fn a_missing_file_is_named() {
    let error = StFile::open("no/such.safetensors").unwrap_err();
    assert_eq!(error.to_string(), "cannot open `no/such.safetensors`");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// Whatever is changed in a file, it is read or refused; what is read lies within the file.
    #[test]
    fn changed_files_never_break_the_reader(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let header = r#"{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},
            "b":{"dtype":"F8_E4M3","shape":[5],"data_offsets":[12,17]}}"#;
        let mut bytes = file(header, 17);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(length.index(bytes.len()));
        }
        let size = bytes.len();
        if let Ok(st) = StFile::from_bytes("x", bytes) {
            for tensor in st.tensors() {
                prop_assert!(tensor.bytes.len() < size);
                let elements: usize = tensor.shape.iter().product();
                prop_assert_eq!(tensor.to_f32().len(), elements);
            }
        }
    }
}
