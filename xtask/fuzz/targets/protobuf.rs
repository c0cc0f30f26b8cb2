//! A model message: decoded, made a program, verified.
#![no_main]

use gesso_coreml::proto::specification::Model;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(model) = Model::decode(bytes)
        && let Ok(program) = gesso_mil::from_model(&model)
    {
        let _ = gesso_mil::verify(&program);
    }
});
