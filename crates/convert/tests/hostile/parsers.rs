//! The readers under test, each as a function of bytes.

use crate::samples;
use gesso_coreml::blob::BlobFile;
use gesso_coreml::compiled::Header;
use gesso_coreml::proto::specification::Model;
use gesso_engine::{Interface, WeightSource};
use gesso_mil::TensorType;
use gesso_mil::compiled::{Parts, Source, compile, decompile};
use gesso_mil::lints::Facts;
use gesso_weights::safetensors::StFile;
use prost::Message;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

/// One reader.
pub(crate) struct Parser {
    pub(crate) name: &'static str,
    /// Unchanged files, which it accepts.
    pub(crate) samples: fn() -> Vec<Vec<u8>>,
    /// Pieces that its grammar knows.
    pub(crate) words: &'static [&'static [u8]],
    /// Reads; an error is given as its message, which is never empty.
    pub(crate) read: fn(&[u8]) -> Result<(), String>,
    /// Most bytes that reading may hold at one time: for each byte of the input,
    pub(crate) factor: usize,
    /// and besides.
    pub(crate) besides: usize,
}

pub(crate) const PARSERS: &[Parser] = &[
    Parser {
        name: "protobuf",
        samples: samples::models,
        words: &[
            b"\x0a\x00",
            b"\x12\x00",
            b"\x1a\x00",
            b"\x22\x02\x0a\x00",
            b"\xb2\x1f\x00",
            b"\x0a\xff\xff\xff\xff\x0f",
            b"main",
            b"CoreML6",
        ],
        read: model,
        factor: 400,
        besides: 256 << 10,
    },
    Parser {
        name: "lints, compiler and engine",
        samples: samples::models,
        words: &[
            b"\x0a\x00",
            b"\x1a\x00",
            b"main",
            b"const",
            b"conv",
            b"reshape",
        ],
        read: tools,
        factor: 1000,
        besides: 1 << 20,
    },
    Parser {
        name: "text",
        samples: samples::texts,
        words: &[
            b"((((((((((((((((((((((((((((((((((((((((",
            b"tensor<fp16, [",
            b"list<list<list<list<",
            b"[[[[[[[[[[[[",
            b"18446744073709551615",
            b"-9223372036854775808",
            b"0x1p+99999",
            b"\\",
            b"\"",
            b"?, ...",
            b"uint3",
            b"BLOBFILE(path = ",
            b"-> (",
        ],
        read: text,
        factor: 400,
        besides: 256 << 10,
    },
    Parser {
        name: "blob",
        samples: samples::blobs,
        words: &[b"\xef\xbe\xad\xde", b"\x02\x00\x00\x00", &[0; 64]],
        read: blob,
        factor: 1,
        besides: 4 << 10,
    },
    Parser {
        name: "coremldata",
        samples: samples::descriptions,
        words: &[
            b"\xf6\x01\x00\x00",
            b"\x07\x00\x00\x00\x00\x00\x00\x00generic",
            b"\xa2\x06\x00",
        ],
        read: description,
        factor: 256,
        besides: 64 << 10,
    },
    Parser {
        name: "zip",
        samples: samples::assets,
        words: &[b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"../"],
        read: zip,
        factor: 16,
        besides: 64 << 10,
    },
    Parser {
        name: "asset manifest",
        samples: samples::manifests,
        words: &[
            b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            b"{\"a\":",
            b"1e999",
            b"18446744073709551615",
            b"null",
            b"\"\\ud800\"",
            b"\"rows\": [],",
        ],
        read: manifest,
        factor: 64,
        besides: 64 << 10,
    },
    Parser {
        name: "delta",
        samples: samples::deltas,
        words: &[b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"../"],
        read: delta,
        factor: 16,
        besides: 64 << 10,
    },
    Parser {
        name: "delta manifest",
        samples: samples::delta_manifests,
        words: &[
            b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            b"{\"a\":",
            b"1e999",
            b"18446744073709551615",
            b"null",
            b"\"patches\": [],",
            b"\"offset\": 0,",
        ],
        read: delta_manifest,
        factor: 64,
        besides: 64 << 10,
    },
    Parser {
        name: "safetensors",
        samples: samples::safetensors,
        words: &[
            b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
            b"{\"a\":",
            b"1e999",
            b"18446744073709551615",
            b"\"__metadata__\":{},",
            b"\"BF16\"",
            b"\\u0000",
        ],
        read: safetensors,
        factor: 64,
        besides: 64 << 10,
    },
];

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn model(bytes: &[u8]) -> Result<(), String> {
    let model = Model::decode(bytes).map_err(said)?;
    let program = gesso_mil::from_model(&model).map_err(said)?;
    // What the verifier finds is no refusal; it only has to come to an end.
    for finding in gesso_mil::verify(&program) {
        assert!(!finding.to_string().is_empty());
    }
    Ok(())
}

/// What looks at a whole model before it runs. Lints find things, which is no refusal.
fn tools(bytes: &[u8]) -> Result<(), String> {
    let model = Model::decode(bytes).map_err(said)?;
    for finding in gesso_mil::lints::run(&model, &Facts::default()) {
        assert!(!finding.text.is_empty());
    }
    let source = Source {
        name: "sample",
        model_name: "model",
        model_hash: [7; 32],
    };
    let compiled = compile(&model, &source).map(drop).map_err(said);
    if let Ok(program) = gesso_mil::from_model(&model) {
        let interface = Interface {
            default_function: "main".into(),
            ..Interface::default()
        };
        let loaded = gesso_engine::Model::from_program(&program, &interface, Arc::new(NoWeights));
        if let Err(error) = loaded {
            assert!(!error.to_string().is_empty());
        }
    }
    // Enumerated shapes are not compiled, even of an unchanged sample.
    match compiled {
        Err(reason) if reason.contains("numerated") => Ok(()),
        answer => answer,
    }
}

/// A source that knows no weight.
#[derive(Debug)]
struct NoWeights;

impl WeightSource for NoWeights {
    fn blob(&self, _: &str, _: u64, _: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        Err("there are no weights".into())
    }
}

fn text(bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    let (program, style) = gesso_mil::text::parse(&text).map_err(said)?;
    // What is read can be written, and read again.
    if let Ok(printed) = gesso_mil::text::print(&program, style) {
        let again = gesso_mil::text::parse(&printed).expect("what is printed can be read");
        assert_eq!(again.1, style);
    }
    for finding in gesso_mil::verify(&program) {
        assert!(!finding.to_string().is_empty());
    }
    let description = Default::default();
    let parts = Parts {
        text: &text,
        specification_version: 9,
        description: &description,
        functions: program.functions.len(),
    };
    decompile(&parts).map(drop).map_err(said)
}

fn blob(bytes: &[u8]) -> Result<(), String> {
    let file = BlobFile::new(bytes, "weight.bin").map_err(said)?;
    for record in file.records() {
        let record = record.map_err(said)?;
        assert!(record.data.len() <= bytes.len());
        assert!(record.elements() <= bytes.len() as u64 * 8);
    }
    Ok(())
}

fn description(bytes: &[u8]) -> Result<(), String> {
    Header::read(bytes, Path::new("coremldata.bin"))
        .map(drop)
        .map_err(said)
}

fn zip(bytes: &[u8]) -> Result<(), String> {
    gesso_convert::asset::check(bytes, Path::new("style.mlmodelcassets"))
        .map(drop)
        .map_err(said)
}

fn manifest(bytes: &[u8]) -> Result<(), String> {
    zip(&samples::asset(bytes))
}

fn delta(bytes: &[u8]) -> Result<(), String> {
    let manifest =
        gesso_convert::delta::check(bytes, Path::new("style.mlmodelcassets")).map_err(said)?;
    // What applying relies on.
    for file in &manifest.files {
        let mut free = 0;
        for patch in &file.patches {
            assert!(patch.length > 0 && patch.offset >= free);
            free = patch.offset + patch.length;
        }
        assert!(free <= file.size);
        assert!(file.patched().unwrap() <= bytes.len() as u64);
    }
    Ok(())
}

fn delta_manifest(bytes: &[u8]) -> Result<(), String> {
    delta(&samples::delta(bytes))
}

fn safetensors(bytes: &[u8]) -> Result<(), String> {
    let file = StFile::from_bytes("style.safetensors", bytes.to_vec()).map_err(said)?;
    for tensor in file.tensors() {
        assert!(tensor.bytes.len() <= bytes.len());
        assert!(tensor.to_f32().len() <= bytes.len());
    }
    Ok(())
}
