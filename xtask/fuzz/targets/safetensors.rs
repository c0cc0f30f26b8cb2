//! A safetensors file and all its tensors.
#![no_main]

use gesso_weights::safetensors::StFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = StFile::from_bytes("style.safetensors", bytes.to_vec()) {
        for tensor in file.tensors() {
            assert!(tensor.to_f32().len() <= bytes.len());
        }
    }
});
