//! The text of a program: parsed, verified, printed and parsed again.
#![no_main]

use gesso_mil::text::{parse, print};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok((program, style)) = parse(text) {
        let _ = gesso_mil::verify(&program);
        if let Ok(printed) = print(&program, style) {
            assert!(parse(&printed).is_ok());
        }
    }
});
