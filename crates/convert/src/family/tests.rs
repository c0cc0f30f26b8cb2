//! Slots of single layers against the merged weight, convolved by the definition.

use super::adapted::{Input, Layer};
use super::features::built;
use super::graph::{Graph, Kernel};
use super::{Precision, adapted};
use crate::built::Built;
use crate::describe::About;
use crate::emit::{Silent, emit};
use crate::place::Bits;
use crate::slots::{Role, Sites, SlotOptions, SlotTable};
use adapted::Channels;
use gesso_coreml::package::Package;
use gesso_engine::{Model, RunOptions, Tensor};
use gesso_mil::DType;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A convolution `x [B, I, H, W]` → `[B, O, H', W']`.
#[derive(Clone, Debug)]
struct Case {
    batch: usize,
    inputs: usize,
    outputs: usize,
    size: [usize; 2],
    kernel: usize,
    stride: usize,
    pad: [usize; 4],
    rank: usize,
    /// Rank of the adapter, at most that of the slots.
    used: usize,
    seed: u64,
}

impl Case {
    fn kernel(&self) -> Kernel {
        Kernel {
            size: self.kernel,
            stride: self.stride as i32,
            pad: self.pad.map(|p| p as i32),
        }
    }

    fn built(&self, slots: bool) -> Built {
        let options = slots.then_some(SlotOptions {
            rank: self.rank,
            sites: Sites::All,
        });
        let assemble = |table: Option<&SlotTable>| {
            let mut g = Graph::with_slots("unet", Precision::Fp32, options);
            let shape = [self.batch, self.inputs, self.size[0], self.size[1]];
            let x = g.input("x", DType::Fp32, &shape, "x");
            g.declare_slots(table);
            let layer = Layer::conv("c", "y", self.outputs, self.kernel());
            assert_eq!(layer.channels, Channels::Second);
            let y = g.adaptable(layer, &mut Input::from(&x))?;
            g.output("y", &y, "y")?;
            Ok(g)
        };
        built(options, assemble).unwrap()
    }

    /// `Σ W[o, i, u, v] · x[b, i, y·s + u − top, x·s + v − left] + bias`, in f64.
    fn convolved(&self, x: &[f32], weight: &[f64], bias: &[f32]) -> Vec<f64> {
        let (k, s, [h, w]) = (self.kernel, self.stride, self.size);
        let [top, bottom, left, right] = self.pad;
        let rows = (h + top + bottom - k) / s + 1;
        let columns = (w + left + right - k) / s + 1;
        let mut out = Vec::new();
        for b in 0..self.batch {
            for o in 0..self.outputs {
                for row in 0..rows {
                    for column in 0..columns {
                        let mut sum = f64::from(bias[o]);
                        for i in 0..self.inputs {
                            for u in 0..k {
                                for v in 0..k {
                                    let at = (row * s + u).checked_sub(top);
                                    let across = (column * s + v).checked_sub(left);
                                    let (Some(at), Some(across)) = (at, across) else {
                                        continue;
                                    };
                                    if at < h && across < w {
                                        let from = ((b * self.inputs + i) * h + at) * w + across;
                                        sum += weight[((o * self.inputs + i) * k + u) * k + v]
                                            * f64::from(x[from]);
                                    }
                                }
                            }
                        }
                        out.push(sum);
                    }
                }
            }
        }
        out
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let sides = (1usize..3, 1usize..6, 1usize..6, 3usize..8, 3usize..8);
    let kernel = (prop::sample::select(vec![1usize, 3]), 1usize..3);
    let pads = [0usize..2, 0usize..2, 0usize..2, 0usize..2];
    (sides, kernel, pads, 1usize..6, 1usize..6, any::<u64>()).prop_map(
        |((batch, inputs, outputs, h, w), (kernel, stride), pad, rank, used, seed)| Case {
            batch,
            inputs,
            outputs,
            size: [h, w],
            kernel,
            stride,
            pad: if kernel == 1 { [0; 4] } else { pad },
            rank: rank.max(used),
            used,
            seed,
        },
    )
}

fn noise(n: usize, seed: &mut u64) -> Vec<f32> {
    (0..n)
        .map(|_| {
            *seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

fn predict(built: &Built, weights: &BTreeMap<String, Vec<f32>>, fed: Inputs) -> Vec<f32> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.mlpackage");
    let about = About::default();
    emit(built, weights, &Bits::new(), &about, &path, &mut Silent).unwrap();
    let model = Model::load(&Package::open(&path).unwrap()).unwrap();
    let out = model.predict(None, &fed, &RunOptions::default()).unwrap();
    out["y"].as_f32().unwrap().to_vec()
}

type Inputs = BTreeMap<String, Tensor>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn slots_equal_the_merged_convolution_and_empty_ones_the_base(case in cases()) {
        let mut seed = case.seed;
        let (taps, width) = (case.kernel * case.kernel, case.inputs);
        let weight = noise(case.outputs * width * taps, &mut seed);
        let bias = noise(case.outputs, &mut seed);
        let x = noise(case.batch * width * case.size[0] * case.size[1], &mut seed);
        // As files have them: down [r, I, k²], up [O, r].
        let down = noise(case.used * width * taps, &mut seed);
        let up = noise(case.outputs * case.used, &mut seed);
        let weights = BTreeMap::from([
            ("unet:c.weight".to_string(), weight.clone()),
            ("unet:c.bias".to_string(), bias.clone()),
        ]);
        let shape = [case.batch, width, case.size[0], case.size[1]];
        let fed = Inputs::from([("x".to_string(), Tensor::f32(&shape, x.clone()))]);

        let plain = predict(&case.built(false), &weights, fed.clone());
        let slotted = case.built(true);
        prop_assert_eq!(&predict(&slotted, &weights, fed.clone()), &plain);

        let table = slotted.slots.as_ref().unwrap();
        let mut rows: BTreeMap<usize, Vec<f32>> = table
            .widths()
            .into_iter()
            .map(|(w, n)| (w, vec![0.0; n * case.rank * w]))
            .collect();
        for slot in table.rows() {
            let tensor = rows.get_mut(&slot.width).unwrap();
            let first = slot.row * case.rank * slot.width;
            for r in 0..case.used {
                for t in 0..slot.taps {
                    for c in 0..slot.width {
                        tensor[first + (r * slot.taps + t) * slot.width + c] = match slot.role {
                            Role::Down => down[(r * width + c) * taps + t],
                            Role::Up => up[c * case.used + r],
                        };
                    }
                }
            }
        }
        let mut adapted = fed;
        for (w, data) in rows {
            let shape = [table.widths()[&w], case.rank, w];
            adapted.insert(SlotTable::input_name(w), Tensor::f32(&shape, data));
        }
        let found = predict(&slotted, &weights, adapted);
        let merged: Vec<f64> = (0..weight.len())
            .map(|at| {
                let (o, rest) = (at / (width * taps), at % (width * taps));
                let product = (0..case.used)
                    .map(|r| f64::from(up[o * case.used + r]) * f64::from(down[r * width * taps + rest]));
                f64::from(weight[at]) + product.sum::<f64>()
            })
            .collect();
        let wanted = case.convolved(&x, &merged, &bias);
        prop_assert_eq!(found.len(), wanted.len());
        let snr = gesso_testkit::snr_db(&wanted, &found);
        prop_assert!(snr >= 110.0, "{snr} dB");
    }
}
