//! Schedulers against runs of diffusers with a known fake model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_pipeline::schedulers::{Scheduler, SchedulerConfig, SchedulerKind, StepInput};
use gesso_testkit::{Golden, fixture, relative_rms};
use serde_json::Value;

/// The fake model of the goldens: sin(3x + 0.01t) in f64, rounded to f32.
fn fake(sample: &[f32], timestep: f64) -> Vec<f32> {
    sample
        .iter()
        .map(|&x| libm::sin(3.0 * f64::from(x) + 0.01 * timestep) as f32)
        .collect()
}

fn run(scheduler: &mut dyn Scheduler, golden: &Golden, n: &str) -> Vec<Vec<f32>> {
    let init = scheduler.init_noise_sigma();
    let mut sample: Vec<f32> = golden.f32("latent").iter().map(|x| x * init).collect();
    let noise = format!("n{n}.noise");
    let noises = golden.has(&noise).then(|| golden.f32(&noise));
    let mut samples = vec![sample.clone()];
    for (index, timestep) in scheduler.timesteps().to_vec().into_iter().enumerate() {
        let output = fake(&scheduler.scale_model_input(index, &sample), timestep);
        let noise = noises
            .as_ref()
            .and_then(|all| all.chunks_exact(sample.len()).nth(index));
        sample = scheduler
            .step(StepInput {
                index,
                model_output: &output,
                sample: &sample,
                noise,
            })
            .unwrap();
        samples.push(sample.clone());
    }
    samples
}

#[test]
fn every_stored_case_follows_diffusers() {
    let index = std::fs::read_to_string(fixture("goldens/schedulers/index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    let (mut cases, mut failures) = (0, Vec::new());
    for (name, case) in index["cases"].as_object().unwrap() {
        let Some(kind) = SchedulerKind::from_class_name(case["class"].as_str().unwrap()) else {
            continue;
        };
        let config = SchedulerConfig::from_json(&case["config"].to_string()).unwrap();
        let golden = Golden::open(fixture(&format!("goldens/schedulers/{name}.safetensors")));
        for (n, info) in case["runs"].as_object().unwrap() {
            let mut scheduler = kind.build(&config, n.parse().unwrap()).unwrap();
            let (_, timesteps) = golden.get(&format!("n{n}.timesteps"));
            assert_eq!(scheduler.timesteps().len(), timesteps.len(), "{name} n{n}");
            let drift = scheduler
                .timesteps()
                .iter()
                .zip(timesteps)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max);
            assert!(drift <= 2e-4, "{name} n{n}: a timestep is {drift} off");
            if !scheduler.sigmas().is_empty() {
                let (_, sigmas) = golden.get(&format!("n{n}.sigmas"));
                let error = relative_rms(sigmas, scheduler.sigmas());
                assert!(error < 1e-7, "{name} n{n}: sigmas {error:e}");
            }
            let samples = run(scheduler.as_mut(), &golden, n);
            let (_, want) = golden.get(&format!("n{n}.samples"));
            assert_eq!(samples.len() * samples[0].len(), want.len());
            let size = samples[0].len();
            let last = relative_rms(&want[want.len() - size..], samples.last().unwrap());
            let allowed = info["amplification"].as_f64().unwrap() * 1e-6;
            cases += 1;
            println!(
                "{name} n{n}: {last:.2e}, {:.3} of what is allowed",
                last / allowed
            );
            if last > allowed {
                failures.push(format!("{name} n{n}: {last:e} > {allowed:e}"));
            }
        }
    }
    assert!(cases >= 102, "only {cases} cases ran");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
