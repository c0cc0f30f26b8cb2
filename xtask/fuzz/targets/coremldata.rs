//! The description of a compiled model.
#![no_main]

use gesso_coreml::compiled::Header;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let _ = Header::read(bytes, Path::new("coremldata.bin"));
});
