//! Random numbers against NumPy, PyTorch's portable code and Philox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_pipeline::rng::{NormalSource, NumpyRng, NvidiaRng, TorchRng, philox4x32_10};
use gesso_testkit::{Golden, Tolerance, fixture};

const SEEDS: [u32; 4] = [0, 1, 42, u32::MAX];

/// Uniforms bit for bit, normal values bit for bit as f32. As f64 they may differ by the last bits of the logarithm,
/// which NumPy takes from the C library of the machine.
#[test]
fn numpy_is_exact() {
    let golden = Golden::open(fixture("goldens/rng/numpy.safetensors"));
    for seed in SEEDS {
        let (_, want) = golden.get(&format!("s{seed}.uint32"));
        let mut rng = NumpyRng::new(seed);
        assert!(want.iter().all(|&w| w == f64::from(rng.next_u32())));
        let (_, want) = golden.get(&format!("s{seed}.random_sample"));
        let mut rng = NumpyRng::new(seed);
        assert!(want.iter().all(|&w| w == rng.uniform()));
        let (_, want) = golden.get(&format!("s{seed}.n16384"));
        let mut rng = NumpyRng::new(seed);
        for (i, &w) in want.iter().enumerate() {
            let found = rng.next_normal();
            assert_eq!(found as f32, w as f32, "seed {seed}, value {i}");
            let ulps = found.to_bits().abs_diff(w.to_bits());
            assert!(ulps <= 4, "seed {seed}, value {i}: {ulps} ulp");
        }
    }
}

#[test]
fn torch_is_exactly_the_portable_code() {
    let golden = Golden::open(fixture("goldens/rng/torch_scalar.safetensors"));
    for seed in SEEDS {
        for n in [1, 15, 16, 17, 64, 4096] {
            let want = golden.f32(&format!("s{seed}.f32.n{n}"));
            let found = TorchRng::new(seed.into()).normal(n);
            let wrong = want.iter().zip(&found).filter(|(a, b)| a != b).count();
            assert_eq!(wrong, 0, "seed {seed} n {n}: {wrong} differ");
        }
    }
}

/// The file made with AVX2 differs from the portable code by rounding only.
#[test]
fn torch_follows_the_vector_code_closely() {
    let golden = Golden::open(fixture("goldens/rng/torch.safetensors"));
    for seed in SEEDS {
        for n in [1, 15, 16, 17, 64, 4096, 16384] {
            let found = TorchRng::new(seed.into()).normal(n);
            let name = format!("s{seed}.f32.n{n}");
            Tolerance::Close.assert(&name, golden.get(&name).1, &found);
        }
        for n in [5, 15, 17, 64] {
            let mut rng = TorchRng::new(seed.into());
            for call in ["first", "second"] {
                let name = format!("s{seed}.two_calls.n{n}.{call}");
                let found = rng.normal(n);
                Tolerance::Close.assert(&name, golden.get(&name).1, &found);
            }
        }
        let mut rng = TorchRng::new(seed.into());
        let (_, want) = golden.get(&format!("s{seed}.uniform.n8"));
        assert!(want.iter().all(|&w| w == f64::from(rng.uniform())));
    }
}

#[test]
fn nvidia_words_are_exact_and_values_round_to_the_same_f32() {
    let golden = Golden::open(fixture("goldens/rng/philox.safetensors"));
    for seed in SEEDS {
        let mut rng = NvidiaRng::new(seed.into());
        for call in 0..3u32 {
            let (shape, words) = golden.get(&format!("s{seed}.call{call}.words"));
            assert_eq!(shape, [4, 8]);
            for i in 0..8 {
                let block = philox4x32_10([call, 0, i as u32, 0], [seed, 0]);
                for (row, &word) in block.iter().enumerate() {
                    assert_eq!(f64::from(word), words[row * 8 + i]);
                }
            }
            let name = format!("s{seed}.call{call}.f64");
            let (_, want) = golden.get(&name);
            let found = rng.normal(want.len());
            let rounded: Vec<f64> = want.iter().map(|&w| f64::from(w as f32)).collect();
            Tolerance::Exact.assert(&name, &rounded, &found);
        }
    }
    let big = (1u64 << 40) + 12345;
    let want = golden.f32(&format!("s{big}.call0.f64"));
    assert_eq!(NvidiaRng::new(big).normal(64), want);
}
