//! Weight files: byte-exact writing, real files, and hostile ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::Error;
use gesso_coreml::blob::{BlobDType, BlobFile, BlobWriter};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Every weight file of the samples that coremltools wrote.
fn sample_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for sample in fs::read_dir(gesso_testkit::fixture("formats/samples")).unwrap() {
        let folder = sample.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let file = folder.join(format!(
            "{name}.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
        ));
        if file.exists() {
            files.push(file);
        }
    }
    files.sort();
    files
}

fn rewritten(bytes: &[u8], to: &Path) -> Vec<u8> {
    let file = BlobFile::new(bytes, "sample").unwrap();
    let mut writer = BlobWriter::create(to).unwrap();
    for record in file.records() {
        let record = record.unwrap();
        let offset = writer
            .push(record.dtype, record.data, record.unused_bits)
            .unwrap();
        assert_eq!(offset, record.offset);
    }
    writer.finish().unwrap();
    fs::read(to).unwrap()
}

#[test]
fn rewriting_every_sample_gives_identical_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let files = sample_files();
    assert_eq!(files.len(), 23);
    for path in files {
        let bytes = fs::read(&path).unwrap();
        assert_eq!(
            rewritten(&bytes, &dir.path().join("w.bin")),
            bytes,
            "{}",
            path.display()
        );
    }
}

#[test]
fn records_agree_with_the_tables_made_by_coremltools() {
    for path in sample_files() {
        let table = path.ancestors().nth(5).unwrap().join("weight-entries.txt");
        let expected: Vec<(u64, u32, u64, u64, u8)> = fs::read_to_string(&table)
            .unwrap()
            .lines()
            .skip(1)
            .map(|line| {
                // "meta@64 dtype=1(f16) size=9216 data@128 padbits=0"
                let words: Vec<&str> = line.split_whitespace().collect();
                let number = |i: usize, mark: char| {
                    let text = words[i].split(mark).nth(1).unwrap();
                    text.split('(').next().unwrap().parse::<u64>().unwrap()
                };
                (
                    number(0, '@'),
                    number(1, '=') as u32,
                    number(2, '='),
                    number(3, '@'),
                    number(4, '=') as u8,
                )
            })
            .collect();
        let bytes = fs::read(&path).unwrap();
        let file = BlobFile::new(&bytes, "sample").unwrap();
        let found: Vec<_> = file
            .records()
            .map(|r| {
                let r = r.unwrap();
                (
                    r.offset,
                    r.dtype.code(),
                    r.data.len() as u64,
                    r.data_offset,
                    r.unused_bits,
                )
            })
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(found, expected, "{}", table.display());
    }
}

#[test]
fn measured_records_of_small_types() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.bin");
    let mut writer = BlobWriter::create(&path).unwrap();
    let records: [(BlobDType, &[u8], u8, u64); 6] = [
        (BlobDType::UInt4, &[0x10, 0x32, 0x04], 4, 64),
        (BlobDType::UInt3, &[0x88, 0xc6, 0x1a], 3, 192),
        (BlobDType::UInt1, &[0x05], 5, 320),
        (BlobDType::Int4, &[0x78, 0x0f], 4, 448),
        (BlobDType::UInt6, &[0x7f, 0x20, 0x00], 6, 576),
        (BlobDType::Int32, &[1, 0, 0, 0], 0, 704),
    ];
    assert!(writer.is_empty());
    for (dtype, data, unused, offset) in records {
        assert_eq!(writer.push(dtype, data, unused).unwrap(), offset);
    }
    assert_eq!(writer.len(), 772);
    writer.finish().unwrap();

    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 772);
    assert_eq!(bytes[..8], [6, 0, 0, 0, 2, 0, 0, 0]);
    assert_eq!(bytes[64..68], [0xef, 0xbe, 0xad, 0xde]);
    let file = BlobFile::new(&bytes, "w").unwrap();
    assert_eq!(file.count(), 6);
    let elements: Vec<u64> = file.records().map(|r| r.unwrap().elements()).collect();
    assert_eq!(elements, [5, 7, 3, 3, 3, 1]);
}

#[test]
fn garbage_in_reserved_fields_of_old_files_is_ignored() {
    let Some(path) = gesso_testkit::shared(
        "formats/mlpackage-samples/dtln-aec-128-part1/DTLN_AEC_128_Part1.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
    ) else {
        return;
    };
    let bytes = fs::read(path).unwrap();
    let file = BlobFile::new(&bytes, "dtln").unwrap();
    let records: Vec<_> = file.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 12);
    assert!(
        records
            .iter()
            .all(|r| r.dtype == BlobDType::Float32 && r.unused_bits == 0)
    );
    assert!(
        bytes[64 + 24..64 + 64].iter().any(|&b| b != 0),
        "the sample has no garbage after all"
    );
}

#[test]
fn trailing_zeros_after_the_last_record_are_fine() {
    let mut bytes = one_record();
    bytes.resize(192, 0);
    let file = BlobFile::new(&bytes, "w").unwrap();
    assert_eq!(file.records().map(Result::unwrap).count(), 1);
}

/// A file with one record of two half precision numbers.
fn one_record() -> Vec<u8> {
    let mut bytes = vec![0; 132];
    bytes[0] = 1;
    bytes[4] = 2;
    bytes[64..68].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
    bytes[68] = 1;
    bytes[72] = 4;
    bytes[80] = 128;
    bytes
}

/// The error of the record at 64 after some bytes of [`one_record`] were replaced.
fn error_with(at: usize, replacement: &[u8]) -> Error {
    let mut bytes = one_record();
    bytes[at..at + replacement.len()].copy_from_slice(replacement);
    BlobFile::new(&bytes, "w").unwrap().record(64).unwrap_err()
}

#[test]
fn the_untouched_record_is_fine() {
    let bytes = one_record();
    let record = BlobFile::new(&bytes, "w").unwrap().record(64).unwrap();
    assert_eq!((record.dtype, record.data.len()), (BlobDType::Float16, 4));
}

#[test]
fn hostile_headers() {
    for length in [0, 3, 7, 8, 63] {
        let bytes = one_record();
        assert!(matches!(
            BlobFile::new(&bytes[..length], "w"),
            Err(Error::BlobHeader { found, .. }) if found == length as u64
        ));
    }
    let mut bytes = one_record();
    bytes[4] = 1;
    assert!(matches!(
        BlobFile::new(&bytes, "w"),
        Err(Error::BlobVersion { found: 1, .. })
    ));
}

#[test]
fn hostile_offsets() {
    let bytes = one_record();
    let file = BlobFile::new(&bytes, "w").unwrap();
    for offset in [0, 1, 65, u64::MAX] {
        assert!(matches!(
            file.record(offset),
            Err(Error::BlobAlignment { .. })
        ));
    }
    for offset in [128, 1 << 40, u64::MAX - 63] {
        assert!(matches!(file.record(offset), Err(Error::BlobBounds { .. })));
    }
}

#[test]
fn hostile_records() {
    assert!(matches!(
        error_with(64, &[0]),
        Error::BlobSentinel {
            found: 0xdead_be00,
            ..
        }
    ));
    for code in [0, 18, 255] {
        assert!(matches!(error_with(68, &[code]), Error::BlobCode { .. }));
    }
    // Data that overlaps the header, its own record, or is not aligned.
    for start in [0_u64, 64, 127] {
        assert!(matches!(
            error_with(80, &start.to_le_bytes()),
            Error::BlobDataOffset { expected: 128, .. }
        ));
    }
    assert!(matches!(
        error_with(80, &129_u64.to_le_bytes()),
        Error::BlobAlignment { offset: 129, .. }
    ));
    // Data beyond the end, and sums that overflow.
    for size in [6_u64, 1 << 50, u64::MAX] {
        assert!(matches!(
            error_with(72, &size.to_le_bytes()),
            Error::BlobBounds { found: 132, .. }
        ));
    }
    assert!(matches!(
        error_with(80, &(u64::MAX - 63).to_le_bytes()),
        Error::BlobBounds { .. }
    ));
    // Three bytes are no whole number of half precision elements.
    assert!(matches!(
        error_with(72, &[3]),
        Error::BlobSize { bytes: 3, .. }
    ));
}

#[test]
fn hostile_unused_bits() {
    let with = |dtype: BlobDType, unused: u64| {
        let mut bytes = one_record();
        bytes[68] = dtype.code() as u8;
        bytes[88..96].copy_from_slice(&unused.to_le_bytes());
        BlobFile::new(&bytes, "w")
            .unwrap()
            .record(64)
            .map(|r| r.elements())
    };
    assert_eq!(with(BlobDType::UInt4, 4).unwrap(), 7);
    assert_eq!(with(BlobDType::UInt3, 2).unwrap(), 10);
    assert_eq!(with(BlobDType::UInt8, 77).unwrap(), 4);
    for (dtype, unused) in [
        (BlobDType::UInt4, 8),
        (BlobDType::UInt4, 2),
        (BlobDType::UInt3, 3),
        (BlobDType::UInt1, u64::MAX),
    ] {
        assert!(matches!(with(dtype, unused), Err(Error::BlobSize { .. })));
    }
}

#[test]
fn iteration_ends_after_an_error_and_never_runs_past_the_count() {
    let mut bytes = one_record();
    bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let file = BlobFile::new(&bytes, "w").unwrap();
    let found: Vec<bool> = file.records().map(|r| r.is_ok()).collect();
    assert_eq!(found, [true, false]);
}

#[test]
fn streamed_records_equal_pushed_ones_and_wrong_lengths_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let mut one = BlobWriter::create(&a).unwrap();
    one.push(BlobDType::Int8, &[1, 2, 3], 0).unwrap();
    one.push(BlobDType::Float16, &[], 0).unwrap();
    one.finish().unwrap();
    let mut two = BlobWriter::create(&b).unwrap();
    two.begin(BlobDType::Int8, 3, 0).unwrap();
    two.write(&[1]).unwrap();
    two.write(&[2, 3]).unwrap();
    two.begin(BlobDType::Float16, 0, 0).unwrap();
    two.finish().unwrap();
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());

    let mut writer = BlobWriter::create(&a).unwrap();
    assert!(matches!(
        writer.write(&[1]),
        Err(Error::BlobLength { expected: 0, .. })
    ));
    writer.begin(BlobDType::Int8, 3, 0).unwrap();
    assert!(matches!(
        writer.write(&[0; 4]),
        Err(Error::BlobLength {
            expected: 3,
            found: 4,
            ..
        })
    ));
    writer.write(&[1]).unwrap();
    assert!(matches!(
        writer.finish(),
        Err(Error::BlobLength { found: 1, .. })
    ));
    let unfinished = fs::read(&a).unwrap();
    assert!(matches!(
        BlobFile::new(&unfinished, "a"),
        Err(Error::BlobHeader { .. } | Error::BlobVersion { .. })
    ));

    let mut writer = BlobWriter::create(&a).unwrap();
    for (dtype, length, unused) in [
        (BlobDType::Float16, 3, 0),
        (BlobDType::UInt8, 3, 1),
        (BlobDType::UInt3, 2, 3),
        (BlobDType::UInt4, 0, 4),
    ] {
        assert!(matches!(
            writer.begin(dtype, length, unused),
            Err(Error::BlobSize { .. })
        ));
    }
}

#[test]
fn a_full_disk_is_an_error_of_its_own() {
    let full = Path::new("/dev/full");
    let mut writer = BlobWriter::create(full).unwrap();
    writer.push(BlobDType::Int8, &[0; 10], 0).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(
        matches!(&error, Error::DiskFull { path, .. } if path == full),
        "{error:?}"
    );

    let mut writer = BlobWriter::create(full).unwrap();
    let large = vec![0; 4 << 20];
    assert!(matches!(
        writer.push(BlobDType::Int8, &large, 0),
        Err(Error::DiskFull { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn round_trip(records in prop::collection::vec((0..17_usize, 0..200_u64), 0..8)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        let mut writer = BlobWriter::create(&path).unwrap();
        let mut written = Vec::new();
        for (i, (dtype, elements)) in records.into_iter().enumerate() {
            let dtype = BlobDType::ALL[dtype];
            let (length, unused) = dtype.packed_len(elements).unwrap();
            let data: Vec<u8> = (0..length).map(|k| (k as u8).wrapping_mul(37) ^ i as u8).collect();
            let offset = writer.push(dtype, &data, unused).unwrap();
            prop_assert_eq!(offset % 64, 0);
            written.push((dtype, elements, unused, data, offset));
        }
        let length = writer.len();
        writer.finish().unwrap();
        let bytes = fs::read(&path).unwrap();
        prop_assert_eq!(bytes.len() as u64, length);
        let file = BlobFile::new(&bytes, "w").unwrap();
        let read: Vec<_> = file.records().map(|r| r.unwrap()).map(|r| {
            (r.dtype, r.elements(), r.unused_bits, r.data.to_vec(), r.offset)
        }).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        keep in any::<bool>(),
        offset in 0..8_u64,
    ) {
        if keep && bytes.len() >= 132 {
            bytes[..80].copy_from_slice(&one_record()[..80]);
        }
        if let Ok(file) = BlobFile::new(&bytes, "w") {
            let _ = file.record(offset * 64);
            let _ = file.records().take(100).count();
        }
    }
}
