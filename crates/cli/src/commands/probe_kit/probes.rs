//! The probes: each decides one claim about Apple's systems.

use super::models;
use super::numbers::{numbers, scaled};
use std::path::{Path, PathBuf};

/// One probe.
pub(super) struct Probe {
    /// Name, also the first cell of its row in `docs/apple-evidence.md`.
    pub(super) id: &'static str,
    /// What is claimed.
    pub(super) claim: &'static str,
    /// Lowest iOS version that the package says it needs; macOS is two or three below.
    pub(super) ios: u32,
    /// Writes its packages, in the order in which they run: outputs of one are inputs of the next.
    pub(super) build: fn(&Path, &Probe) -> anyhow::Result<Vec<PathBuf>>,
    /// Runs to make.
    pub(super) cases: fn() -> Vec<Case>,
}

/// One run.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Function to run, in packages with several.
    pub(super) function: Option<&'static str>,
    pub(super) inputs: Vec<Given>,
    /// Contents of the states before the run.
    pub(super) states: Vec<Given>,
}

/// An fp16 array that the caller gives.
pub(super) struct Given {
    pub(super) name: &'static str,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "optional-zero",
        claim: "an optional fp16 input of specification version 7 is zero when it is missing",
        ios: 16,
        build: models::optional_zero,
        cases: || {
            let x = || given("x", &[1, 64], 1);
            vec![
                case("missing", vec![x()]),
                case("given", vec![x(), given("delta", &[1, 64], 2)]),
            ]
        },
    },
    Probe {
        id: "slots-rank-16",
        claim: "slots of rank 16: slices and products whose factors have batch 1 and whose activations have batch 2",
        ios: 16,
        build: |dir, probe| models::slots(dir, probe, 16),
        cases: || slot_cases(16),
    },
    Probe {
        id: "slots-rank-32",
        claim: "slots of rank 32, likewise",
        ios: 16,
        build: |dir, probe| models::slots(dir, probe, 32),
        cases: || slot_cases(32),
    },
    Probe {
        id: "slots-rank-64",
        claim: "slots of rank 64, as for two stacked adapters of rank 32",
        ios: 16,
        build: |dir, probe| models::slots(dir, probe, 64),
        cases: || slot_cases(64),
    },
    Probe {
        id: "runtime-conv-weight",
        claim: "a convolution whose weight is an input",
        ios: 16,
        build: models::runtime_conv_weight,
        cases: || {
            vec![case(
                "one",
                vec![
                    given("x", &[1, 64, 1, 32], 1),
                    given("weight", &[64, 64, 1, 1], 2),
                ],
            )]
        },
    },
    Probe {
        id: "state-read-only",
        claim: "a state that the program only reads carries the factors of a slot",
        ios: 18,
        build: models::state_read_only,
        cases: || {
            let x = || given("x", &[2, 64, 1, 32], 1);
            let mut filled = case("filled", vec![x()]);
            filled.states = vec![given("adapter_64", &[2, 32, 64], 3)];
            let mut zero = case("zero", vec![x()]);
            zero.states = vec![Given {
                values: vec![0.0; 2 * 32 * 64],
                ..given("adapter_64", &[2, 32, 64], 3)
            }];
            vec![filled, zero]
        },
    },
    Probe {
        id: "row-scaled-output",
        claim: "palettized rows of unit size, the output times a scale per channel",
        ios: 16,
        build: models::row_scaled_output,
        cases: one_image,
    },
    Probe {
        id: "lut-ios16",
        claim: "the text of a palette in its iOS 16 form",
        ios: 16,
        build: models::lut_16,
        cases: one_image,
    },
    Probe {
        id: "lut-ios18",
        claim: "the text of a palette in its iOS 18 form, one table for each 8 output channels",
        ios: 18,
        build: models::lut_18,
        cases: one_image,
    },
    Probe {
        id: "compiled-twin",
        claim: "our compiled model of a plain fp16 program behaves like Apple's of its package",
        ios: 16,
        build: models::plain,
        cases: one_image,
    },
    Probe {
        id: "two-functions",
        claim: "two functions over one weight",
        ios: 18,
        build: models::two_functions,
        cases: || {
            ["alpha", "beta"]
                .map(|function| Case {
                    function: Some(function),
                    ..case(function, vec![given("x", &[1, 64, 1, 32], 1)])
                })
                .into()
        },
    },
    Probe {
        id: "chunk-pair",
        claim: "two packages of which the second takes what the first gives",
        ios: 16,
        build: models::chunk_pair,
        cases: one_image,
    },
    Probe {
        id: "fp32-island",
        claim: "a sum beyond the range of fp16 between two casts stays fp32",
        ios: 16,
        build: models::fp32_island,
        cases: || {
            let x = Given {
                values: scaled(1, 64 * 32, 128.0),
                ..given("x", &[1, 64, 1, 32], 1)
            };
            vec![case("one", vec![x])]
        },
    },
];

fn given(name: &'static str, shape: &[usize], seed: u64) -> Given {
    Given {
        name,
        shape: shape.to_vec(),
        values: numbers(seed, shape.iter().product()),
    }
}

fn case(name: &'static str, inputs: Vec<Given>) -> Case {
    Case {
        name,
        function: None,
        inputs,
        states: Vec::new(),
    }
}

fn one_image() -> Vec<Case> {
    vec![case("one", vec![given("x", &[1, 64, 1, 32], 1)])]
}

fn slot_cases(rank: usize) -> Vec<Case> {
    let x = || given("x", &[2, 64, 1, 32], 1);
    vec![
        case("missing", vec![x()]),
        case("given", vec![x(), given("adapter_64", &[2, rank, 64], 3)]),
    ]
}
