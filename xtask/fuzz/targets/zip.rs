//! An adapter asset.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let _ = gesso_convert::asset::check(bytes, Path::new("style.mlmodelcassets"));
});
