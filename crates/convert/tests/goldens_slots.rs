//! Adapter slots: float64 goldens with LoRA merged into the weights, and what a program with slots does without an adapter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod rig;

use gesso_convert::built::Built;
use gesso_convert::family::sd1::{TextOptions, UnetOptions, text_encoder, unet};
use gesso_convert::family::{Attention, Precision};
use gesso_convert::slots::{Sites, SlotOptions};
use gesso_engine::Tensor;
use gesso_mil::ValueData;
use gesso_testkit::{Golden, Tolerance, fixture};
use rig::{MODES, Mode};
use std::collections::BTreeMap;

const FOLDER: &str = "goldens/lora/sd1";
const RANK: usize = 32;
const SLOTS: SlotOptions = SlotOptions {
    rank: RANK,
    sites: Sites::AttentionFeedForward,
};
const EVERYWHERE: SlotOptions = SlotOptions {
    rank: RANK,
    sites: Sites::All,
};

/// Every run of the golden: strengths of `a` and `b`.
const RUNS: [(&str, f64, f64); 7] = [
    ("base", 0.0, 0.0),
    ("a_0", 0.0, 0.0),
    ("a_0.5", 0.5, 0.0),
    ("a_1", 1.0, 0.0),
    ("a_-1", -1.0, 0.0),
    ("b_1", 0.0, 1.0),
    ("a_0.7_b_-0.4", 0.7, -0.4),
];

fn unet_with(slots: Option<SlotOptions>, attention: Attention, precision: Precision) -> Built {
    let options = UnetOptions {
        batch: 1,
        height: 16,
        width: 24,
        tokens: 77,
        precision,
        attention,
        slots,
        controlnet_residuals: false,
    };
    unet(&rig::sd1_unet(), &options).unwrap()
}

fn text_with(slots: Option<SlotOptions>, precision: Precision) -> Built {
    let options = TextOptions {
        tokens: 77,
        precision,
        slots,
    };
    text_encoder(&rig::sd1_text(), &options).unwrap()
}

fn unet_inputs(golden: &Golden) -> BTreeMap<String, Tensor> {
    let text = rig::text_states(golden, "unet.in.encoder_hidden_states");
    BTreeMap::from([
        ("sample".into(), rig::tensor(golden, "unet.in.sample")),
        ("timestep".into(), rig::tensor(golden, "unet.in.timestep")),
        ("encoder_hidden_states".into(), text),
    ])
}

fn text_inputs(golden: &Golden) -> BTreeMap<String, Tensor> {
    let name = "text_encoder.in.input_ids";
    BTreeMap::from([("input_ids".into(), rig::tensor(golden, name))])
}

struct Program {
    what: String,
    built: Built,
    inputs: BTreeMap<String, Tensor>,
    /// Output of the program, and the golden tensor with `{}` for the run.
    outputs: Vec<(&'static str, &'static str)>,
    golden: Golden,
}

impl Program {
    fn judge(
        &self,
        test: &str,
        run: &str,
        mode: Mode,
        tolerance: Tolerance,
        out: &BTreeMap<String, Tensor>,
    ) {
        for (output, tensor) in &self.outputs {
            let (_, reference) = self.golden.get(&tensor.replace("{}", run));
            let what = format!("{test} {} {run} {output}", self.what);
            let figure = tolerance.assert(&what, reference, out[*output].as_f32().unwrap());
            eprintln!("{what}, {mode:?}: {figure:.1} dB");
        }
    }
}

/// The UNet in both flavours, and the text encoder, with the inputs of the golden.
fn programs(golden: &Golden, slots: Option<SlotOptions>, precision: Precision) -> Vec<Program> {
    let mut programs: Vec<Program> = [Attention::Original, Attention::SplitEinsum]
        .map(|attention| Program {
            what: format!("unet {attention:?}"),
            built: unet_with(slots, attention, precision),
            inputs: unet_inputs(golden),
            outputs: vec![("noise_pred", "unet.{}.out.noise_pred")],
            golden: golden.clone(),
        })
        .into();
    programs.push(Program {
        what: "text encoder".into(),
        built: text_with(slots, precision),
        inputs: text_inputs(golden),
        outputs: vec![
            ("last_hidden_state", "text_encoder.{}.out.last_hidden_state"),
            ("pooled_outputs", "text_encoder.{}.out.pooled"),
        ],
        golden: golden.clone(),
    });
    programs
}

#[test]
fn factors_in_the_slots_equal_merged_weights() {
    let golden = Golden::open(fixture(FOLDER).join("golden.safetensors"));
    let weights = rig::weights("goldens/models/sd1");
    let a = rig::kohya(&format!("{FOLDER}/a.safetensors"), &weights);
    let b = rig::kohya(&format!("{FOLDER}/b.safetensors"), &weights);
    for (precision, modes) in MODES {
        for slots in [SLOTS, EVERYWHERE] {
            for program in programs(&golden, Some(slots), precision) {
                let model = rig::model(&program.built, &weights);
                let table = program.built.slots.as_ref().unwrap();
                for (run, of_a, of_b) in RUNS {
                    if of_b != 0.0 && slots == SLOTS {
                        // `b` changes convolutions.
                        continue;
                    }
                    let mut fed = rig::adapter_inputs(table, &[(&a, of_a), (&b, of_b)]);
                    fed.extend(program.inputs.clone());
                    for mode in modes.into_iter().filter(|m| m.with_slots()) {
                        let out = rig::predict(&model, &fed, mode, &[]);
                        let tolerance = match mode {
                            Mode::Fp16Weights | Mode::Fp16Strict => Tolerance::Adapter,
                            _ => mode.tolerance(None),
                        };
                        let test = format!("slots {}", slots.sites.word());
                        program.judge(&test, run, mode, tolerance, &out);
                    }
                }
            }
        }
    }
}

#[test]
fn merged_weights_follow_the_goldens() {
    let golden = Golden::open(fixture(FOLDER).join("golden.safetensors"));
    let weights = rig::weights("goldens/models/sd1");
    let a = rig::kohya(&format!("{FOLDER}/a.safetensors"), &weights);
    let b = rig::kohya(&format!("{FOLDER}/b.safetensors"), &weights);
    for (run, of_a, of_b) in RUNS {
        let merged = rig::merged(&weights, &[(&a, of_a), (&b, of_b)]);
        for program in programs(&golden, None, Precision::Fp32) {
            let (mode, model) = (Mode::Fp32, rig::model(&program.built, &merged));
            let out = rig::predict(&model, &program.inputs, mode, &[]);
            program.judge("merged", run, mode, mode.tolerance(None), &out);
        }
    }
}

#[test]
fn without_an_adapter_nothing_changes() {
    let golden = Golden::open(fixture(FOLDER).join("golden.safetensors"));
    let weights = rig::weights("goldens/models/sd1");
    let bits = |out: &BTreeMap<String, Tensor>| -> Vec<u32> {
        let values = out.values().flat_map(|t| t.as_f32().unwrap());
        values.map(|x| x.to_bits()).collect()
    };
    for (precision, modes) in MODES {
        let plain = programs(&golden, None, precision);
        for sites in Sites::ALL {
            let slots = Some(SlotOptions { rank: RANK, sites });
            for (plain, slotted) in plain.iter().zip(programs(&golden, slots, precision)) {
                let a = rig::model(&plain.built, &weights);
                let b = rig::model(&slotted.built, &weights);
                for mode in modes.into_iter().filter(|m| m.with_slots()) {
                    let a = rig::predict(&a, &plain.inputs, mode, &[]);
                    let b = rig::predict(&b, &plain.inputs, mode, &[]);
                    assert_eq!(bits(&a), bits(&b), "{} in {mode:?}", plain.what);
                    if mode != Mode::Fp16Emulated {
                        plain.judge("plain", "base", mode, mode.tolerance(None), &a);
                    }
                }
            }
        }
    }
}

/// Keys of the weights in program order.
fn keys(built: &Built) -> Vec<String> {
    let body = built.function.body().unwrap();
    body.operations
        .iter()
        .filter_map(|op| match &op.attributes.get("val")?.data {
            ValueData::External { key } => Some(key.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn slots_leave_the_weights_alone() {
    let golden = Golden::open(fixture(FOLDER).join("golden.safetensors"));
    let plain = programs(&golden, None, Precision::Fp16);
    let slotted = [SLOTS, EVERYWHERE].map(|s| programs(&golden, Some(s), Precision::Fp16));
    for (plain, slotted) in plain.iter().cycle().zip(slotted.into_iter().flatten()) {
        assert_eq!(keys(&plain.built), keys(&slotted.built), "{}", plain.what);
        assert_eq!(plain.built.generated, slotted.built.generated);
        let table = slotted.built.slots.unwrap();
        for (width, rows) in table.widths() {
            let name = format!("adapter_{width}");
            let input = slotted
                .built
                .inputs
                .iter()
                .find(|f| f.name == name)
                .unwrap();
            assert_eq!(input.shape, [rows, RANK, width]);
            assert_eq!(input.default, Some(0.0));
        }
    }
}
