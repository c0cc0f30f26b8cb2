//! GFLOP per second of the clock, and per second of CPU time, of three GEMM crates on Stable Diffusion's shapes, turn by turn in one process: `gemm` through the engine,
//! `faer`, and `matrixmultiply` through `ndarray`. `cargo xtask bench gemm` builds and runs it.
//!
//! usage: gesso-gemm-bench THREADS TURNS, with `MATMUL_NUM_THREADS` set to THREADS

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use rustix::time::{ClockId, clock_gettime};
use std::time::Instant;

/// (what, [m, k, n]).
const SHAPES: &[(&str, [usize; 3])] = &[
    ("product of 2048 × 2048", [2048, 2048, 2048]),
    ("convolution 1×1, 320→320 at 64×64", [320, 320, 4096]),
    (
        "convolution 3×3, 320→320 at 64×64, unfolded",
        [320, 2880, 4096],
    ),
    (
        "convolution 3×3, 1280→1280 at 8×8, two samples, unfolded",
        [1280, 11520, 128],
    ),
    ("text encoder, 77 tokens, 768→768", [77, 768, 768]),
    ("text encoder, 77 tokens, 768→3072", [77, 768, 3072]),
    (
        "attention scores, a band of 128 queries, 4096 keys of 40",
        [4096, 40, 128],
    ),
    ("attention values, the same band", [40, 4096, 128]),
];

fn noise(n: usize) -> Vec<f32> {
    (0..n).map(|i| (i * 7 % 97) as f32 / 97.0 - 0.5).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let arguments: Vec<usize> = std::env::args()
        .skip(1)
        .map(|a| a.parse())
        .collect::<Result<_, _>>()?;
    let [threads, turns] = arguments[..] else {
        return Err("usage: gesso-gemm-bench THREADS TURNS".into());
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()?;
    pool.install(|| {
        SHAPES
            .iter()
            .try_for_each(|shape| measure(shape, threads, turns))
    })
}

type Product<'a> = Box<dyn FnMut(&mut [f32]) + 'a>;

fn measure(
    (what, [m, k, n]): &(&str, [usize; 3]),
    threads: usize,
    turns: usize,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (m, k, n) = (*m, *k, *n);
    let (a, b) = (noise(m * k), noise(k * n));
    let (left, right) = (
        ArrayView2::from_shape((m, k), &a)?,
        ArrayView2::from_shape((k, n), &b)?,
    );
    let mut result = Array2::<f32>::zeros((m, n));
    let par = if threads == 1 {
        Par::Seq
    } else {
        Par::rayon(threads)
    };
    let mut products: [Product<'_>; 3] = [
        Box::new(|c| gesso_engine::kernels::product(c, [m, k, n], &a, &b)),
        Box::new(|c| {
            let c = MatMut::from_row_major_slice_mut(c, m, n);
            let a = MatRef::from_row_major_slice(&a, m, k);
            matmul(
                c,
                Accum::Replace,
                a,
                MatRef::from_row_major_slice(&b, k, n),
                1.0,
                par,
            );
        }),
        Box::new(|c| {
            general_mat_mul(1.0, &left, &right, 0.0, &mut result);
            // Only so that the results can be compared; the first element says that it ran.
            c[0] = result[[0, 0]];
        }),
    ];
    let mut best = [(f64::INFINITY, f64::INFINITY); 3];
    let mut out = vec![0f32; m * n];
    let mut firsts = [0f32; 3];
    // Some tens of milliseconds per turn.
    let calls = (5e9 / (m * k * n) as f64).ceil() as usize;
    for _ in 0..turns {
        for ((product, best), first) in products.iter_mut().zip(&mut best).zip(&mut firsts) {
            let (start, cpu) = (Instant::now(), cpu_seconds());
            for _ in 0..calls {
                product(&mut out);
            }
            best.0 = best.0.min(start.elapsed().as_secs_f64() / calls as f64);
            best.1 = best.1.min((cpu_seconds() - cpu) / calls as f64);
            *first = out[0];
        }
    }
    let wrong = firsts
        .iter()
        .any(|x| (x - firsts[0]).abs() > 1e-3 * firsts[0].abs().max(1.0));
    if wrong {
        return Err(format!("{what}: the crates disagree: {firsts:?}").into());
    }
    let rate = |seconds: f64| 2.0 * (m * k * n) as f64 / seconds / 1e9;
    let rates = best.map(|(wall, cpu)| format!("{:.0} / {:.0}", rate(wall), rate(cpu)));
    println!(
        "| {what}, {m} × {k} × {n} | {threads} | {} |",
        rates.join(" | ")
    );
    Ok(())
}

/// CPU time of this process so far.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
