//! A weight file and all its records.
#![no_main]

use gesso_coreml::blob::BlobFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = BlobFile::new(bytes, "weight.bin") {
        for record in file.records().flatten() {
            assert!(record.elements() <= bytes.len() as u64 * 8);
        }
    }
});
