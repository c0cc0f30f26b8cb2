//! A delta.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let _ = gesso_convert::delta::check(bytes, Path::new("style.mlmodelcassets"));
});
