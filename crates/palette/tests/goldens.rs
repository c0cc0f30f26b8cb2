//! Palettes against the optimal costs that kmeans1d found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_palette::{Error, QUANTIZERS, kmeans, pack, unpack};
use half::f16;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeSet;

/// Two computations of one sum of squares in f64.
const SAME_COST: f64 = 1e-9;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME_COST * b.abs()
}

fn weights() -> Vec<(String, Vec<f16>)> {
    let file = gesso_testkit::Golden::open(gesso_testkit::fixture(
        "goldens/palettization/weights.safetensors",
    ));
    file.names()
        .map(|name| {
            let values = file.f32(name).into_iter().map(f16::from_f32).collect();
            (name.to_owned(), values)
        })
        .collect()
}

#[test]
fn costs_are_those_of_the_goldens() {
    let path = gesso_testkit::fixture("goldens/palettization/costs.json");
    let costs: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut compared = 0;
    for (name, values) in weights() {
        for bits in [1, 2, 3, 4, 6, 8] {
            let expected = &costs[&name]["costs"][format!("k{}", 1 << bits)];
            let palette = kmeans(&values, bits).unwrap();
            let optimal = expected["optimal"].as_f64().unwrap();
            let rounded = expected["f16_lut"].as_f64().unwrap();
            assert!(
                close(palette.optimal_cost, optimal),
                "{name} {bits}: {} instead of {optimal}",
                palette.optimal_cost
            );
            assert!(
                close(palette.cost, rounded),
                "{name} {bits}: {} instead of {rounded}",
                palette.cost
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 12 * 6);
}

#[test]
fn tables_are_the_rounded_centroids_of_the_goldens() {
    let centroids = gesso_testkit::Golden::open(gesso_testkit::fixture(
        "goldens/palettization/centroids.safetensors",
    ));
    // Where several tables are equally good another one may be right as well; these distributions have one.
    for (name, values) in weights() {
        if !["normal_linear", "student_t_linear", "five_values_linear"].contains(&name.as_str()) {
            continue;
        }
        for bits in [2, 4, 8] {
            let (_, expected) = centroids.get(&format!("{name}.k{}", 1 << bits));
            let found: BTreeSet<u16> = kmeans(&values, bits)
                .unwrap()
                .lut
                .iter()
                .map(|v| v.to_bits())
                .collect();
            let expected: BTreeSet<u16> = expected
                .iter()
                .map(|&v| f16::from_f64(v).to_bits())
                .collect();
            assert_eq!(found, expected, "{name} {bits}");
        }
    }
}

/// Code, table and cost agree with the values, element by element.
fn check(values: &[f16], bits: u8) {
    let palette = kmeans(values, bits).unwrap();
    assert_eq!(palette.lut.len(), 1 << bits);
    assert!(palette.lut.is_sorted());
    assert_eq!(palette.indices.len(), values.len());
    let mut cost = 0.0;
    for (value, &code) in values.iter().zip(&palette.indices) {
        let distance = |entry: &f16| (entry.to_f64() - value.to_f64()).abs();
        let chosen = distance(&palette.lut[usize::from(code)]);
        let first = palette
            .lut
            .iter()
            .position(|entry| distance(entry) <= chosen)
            .unwrap();
        assert_eq!(
            first,
            usize::from(code),
            "{value} has a nearer or lower entry"
        );
        cost += chosen * chosen;
    }
    assert!(
        close(palette.cost, cost),
        "{} instead of {cost}",
        palette.cost
    );
    // The optimum was summed in another order.
    assert!(palette.cost >= palette.optimal_cost * (1.0 - SAME_COST));
}

#[test]
fn codes_name_the_nearest_entry() {
    for (_, values) in weights() {
        for bits in [1, 3, 8] {
            check(&values, bits);
        }
    }
}

#[test]
fn few_values_are_kept_and_the_last_is_repeated() {
    let values = [3.0, -0.0, 0.0, -1.5, 3.0].map(f16::from_f32);
    let palette = kmeans(&values, 2).unwrap();
    assert_eq!(palette.lut, [-1.5, 0.0, 3.0, 3.0].map(f16::from_f32));
    assert!(palette.lut[1].is_sign_positive());
    assert_eq!(palette.indices, [2, 1, 1, 0, 2]);
    assert_eq!((palette.cost, palette.optimal_cost), (0.0, 0.0));

    let palette = kmeans(&[f16::MIN, f16::MAX], 1).unwrap();
    assert_eq!(palette.lut, [f16::MIN, f16::MAX]);
    let palette = kmeans(&[f16::from_f32(-0.0)], 1).unwrap();
    assert_eq!(palette.lut, [f16::ZERO, f16::ZERO]);
    assert_eq!(palette.indices, [0]);
}

#[test]
fn what_is_refused() {
    let one = [f16::ONE];
    for bits in [0, 5, 7, 9, 255] {
        assert_eq!(kmeans(&one, bits), Err(Error::Bits { found: bits }));
        assert_eq!(pack(&[0], bits), Err(Error::Bits { found: bits }));
        assert_eq!(unpack(&[0], bits, 1), Err(Error::Bits { found: bits }));
    }
    assert_eq!(kmeans(&[], 4), Err(Error::Empty));
    for value in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY] {
        assert!(matches!(
            kmeans(&[f16::ONE, value, f16::ONE], 4),
            Err(Error::NotFinite { index: 1, .. })
        ));
    }
    assert_eq!(
        pack(&[3, 4], 2),
        Err(Error::Code {
            index: 1,
            code: 4,
            bits: 2
        })
    );
    for (bytes, count) in [(1, 3), (2, 2), (0, 1), (1, 0), (0, usize::MAX)] {
        assert!(matches!(
            unpack(&vec![0; bytes], 4, count),
            Err(Error::PackedLength { .. })
        ));
    }
}

#[test]
fn packed_bytes_measured_with_coremltools() {
    assert_eq!(pack(&[0, 1, 2, 3, 4], 4).unwrap(), [0x10, 0x32, 0x04]);
    assert_eq!(pack(&[0, 1, 2, 3, 4, 5, 6], 3).unwrap(), [0x88, 0xc6, 0x1a]);
    assert_eq!(pack(&[1, 0, 1], 1).unwrap(), [0x05]);
    assert_eq!(pack(&[63, 1, 2], 6).unwrap(), [0x7f, 0x20, 0x00]);
    assert_eq!(pack(&[7, 255], 8).unwrap(), [7, 255]);
}

#[test]
fn every_quantizer_makes_every_width_it_names() {
    let values: Vec<f16> = (0..1000).map(|i| f16::from_f32(i as f32 / 7.0)).collect();
    for quantizer in QUANTIZERS {
        for &bits in quantizer.bits {
            let palette = (quantizer.palette)(&values, bits).unwrap();
            assert_eq!(palette.lut.len(), 1 << bits, "{}", quantizer.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn packing_round_trip(
        width in 0..6_usize,
        codes in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let bits = gesso_palette::BITS[width];
        let codes: Vec<u8> = codes.into_iter().map(|code| code >> (8 - bits)).collect();
        let packed = pack(&codes, bits).unwrap();
        prop_assert_eq!(packed.len(), (codes.len() * usize::from(bits)).div_ceil(8));
        prop_assert_eq!(unpack(&packed, bits, codes.len()).unwrap(), codes);
    }

    #[test]
    fn any_finite_values(
        values in prop::collection::vec(0..0x7c00_u16, 1..200),
        width in 0..6_usize,
    ) {
        // Every other one negative.
        let values: Vec<f16> = values
            .into_iter()
            .enumerate()
            .map(|(i, bits)| f16::from_bits(bits | (i as u16 & 1) << 15))
            .collect();
        check(&values, gesso_palette::BITS[width]);
    }

    #[test]
    fn order_does_not_matter(
        mut values in prop::collection::vec(-100..100_i32, 1..200),
        width in 0..6_usize,
    ) {
        let bits = gesso_palette::BITS[width];
        let half = |values: &[i32]| -> Vec<f16> {
            values.iter().map(|&v| f16::from_f32(v as f32 / 64.0)).collect()
        };
        let one = kmeans(&half(&values), bits).unwrap();
        values.reverse();
        let other = kmeans(&half(&values), bits).unwrap();
        prop_assert_eq!(&one.lut, &other.lut);
        prop_assert_eq!(one.cost, other.cost);
    }
}
