//! The loop with networks whose answers are known.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_pipeline::rng::{NormalSource, TorchRng};
use gesso_pipeline::schedulers::{SchedulerConfig, SchedulerKind};
use gesso_pipeline::tokenizer::CONTEXT;
use gesso_pipeline::{
    BoxError, Error, Networks, Output, Prompt, Request, Step, Tokenizer, generate,
};
use gesso_testkit::{Golden, fixture, relative_rms};
use serde_json::Value;
use std::ops::ControlFlow;

const WIDTH: usize = 3;

/// Answers sin(3x + 0.01t) for the prompt and, unless `plain`, something else for the negative prompt.
#[derive(Default)]
struct Fake {
    plain: bool,
    broken: Option<&'static str>,
    texts: Vec<Vec<i32>>,
    states: Vec<f32>,
    calls: usize,
    decoded: Vec<f32>,
}

impl Networks for Fake {
    fn encode_text(&mut self, ids: &[i32]) -> Result<Vec<f32>, BoxError> {
        if self.broken == Some("text") {
            return Err("no text today".into());
        }
        self.texts.push(ids.to_vec());
        let row = self.texts.len() as f32 * 1e6;
        // Token t, channel d: row + 10 t + d.
        let state = |i: usize| row + (10 * (i / WIDTH) + i % WIDTH) as f32;
        Ok((0..CONTEXT * WIDTH).map(state).collect())
    }

    fn predict_noise(
        &mut self,
        sample: &[f32],
        t: f32,
        states: &[f32],
    ) -> Result<Vec<f32>, BoxError> {
        self.calls += 1;
        self.states = states.to_vec();
        let (first, second) = sample.split_at(sample.len() / 2);
        assert_eq!(first, second);
        if self.broken == Some("short") {
            return Ok(vec![0.0; 5]);
        }
        if self.broken == Some("nan") && self.calls == 3 {
            return Ok(vec![f32::NAN; sample.len()]);
        }
        let cond = |x: &f32| libm::sin(3.0 * f64::from(*x) + 0.01 * f64::from(t)) as f32;
        let uncond = |x: &f32| if self.plain { cond(x) } else { 0.25 * x };
        Ok(first
            .iter()
            .map(uncond)
            .chain(second.iter().map(cond))
            .collect())
    }

    fn decode(&mut self, latent: &[f32]) -> Result<Vec<f32>, BoxError> {
        self.decoded = latent.to_vec();
        Ok(vec![0.5; latent.len() / 4 * 64 * 3])
    }
}

fn tokenizer() -> Tokenizer {
    let read =
        |name: &str| std::fs::read_to_string(fixture("shapes/base/tokenizer").join(name)).unwrap();
    Tokenizer::from_strings(&read("vocab.json"), &read("merges.txt")).unwrap()
}

fn request(golden: &Golden) -> Request {
    Request {
        height: 64,
        width: 64,
        initial_latents: Some(golden.f32("latent")),
        ..Request::new(Prompt::plain("a large red star on cream"))
    }
}

fn run(request: &Request, fake: &mut Fake) -> Result<Output, Error> {
    generate(request, &tokenizer(), fake, &mut |_| {
        ControlFlow::Continue(())
    })
}

/// With equal rows guidance changes nothing, so the loop must follow the scheduler goldens.
#[test]
fn the_loop_follows_the_scheduler_goldens() {
    let index = std::fs::read_to_string(fixture("goldens/schedulers/index.json")).unwrap();
    let index: Value = serde_json::from_str(&index).unwrap();
    for name in [
        "dpmpp2m-leading",
        "pndm-sd1",
        "euler-sd1-leading",
        "dpmpp2m-trailing-v",
    ] {
        let case = &index["cases"][name];
        let golden = Golden::open(fixture(&format!("goldens/schedulers/{name}.safetensors")));
        let wanted = golden.get("n20.samples").1;
        let mut fake = Fake {
            plain: true,
            ..Fake::default()
        };
        let request = Request {
            scheduler: SchedulerKind::from_class_name(case["class"].as_str().unwrap()).unwrap(),
            scheduler_config: SchedulerConfig::from_json(&case["config"].to_string()).unwrap(),
            scaling_factor: 0.5,
            ..request(&golden)
        };
        let allowed = case["runs"]["20"]["amplification"].as_f64().unwrap() * 1e-6;
        let mut seen = Vec::new();
        let mut progress = |step: Step<'_>| {
            seen.push((step.step, step.total));
            // The rounding of guidance and of each step may grow as far as to the end.
            let want = &wanted[step.step * 256..(step.step + 1) * 256];
            assert!(
                relative_rms(want, step.latents) <= 10.0 * allowed,
                "{name} {step:?}"
            );
            ControlFlow::Continue(())
        };
        let output = generate(&request, &tokenizer(), &mut fake, &mut progress).unwrap();
        let last = relative_rms(&wanted[wanted.len() - 256..], &output.latents);
        assert!(last <= allowed, "{name}: {last:e} > {allowed:e}");
        let total = output.timesteps.len();
        assert_eq!(seen, (1..=total).map(|s| (s, total)).collect::<Vec<_>>());
        assert_eq!(fake.calls, total);
        let doubled: Vec<f32> = output.latents.iter().map(|x| x * 2.0).collect();
        assert_eq!(
            fake.decoded, doubled,
            "the latent divided by the scaling factor"
        );
        assert_eq!(output.rgb8(), vec![191; 64 * 64 * 3]);
    }
}

#[test]
fn negative_comes_first_and_states_are_transposed() {
    let golden = Golden::open(fixture("goldens/schedulers/pndm-sd1.safetensors"));
    let mut fake = Fake::default();
    let request = Request {
        steps: 1,
        negative: Prompt::plain("two blue circles"),
        prompt: Prompt::plain("star ".repeat(80)),
        ..request(&golden)
    };
    let output = run(&request, &mut fake).unwrap();
    assert_eq!(
        fake.texts,
        [output.negative.ids.clone(), output.prompt.ids.clone()]
    );
    assert!(output.prompt.truncated && !output.negative.truncated);
    // [2, D, 1, 77]: row 1, channel 2, token 5.
    assert_eq!(fake.states.len(), 2 * WIDTH * CONTEXT);
    assert_eq!(fake.states[(WIDTH + 2) * CONTEXT + 5], 2e6 + 52.0);
}

/// One Euler step in f64, written out.
#[test]
fn guidance_combines_both_rows() {
    let golden = Golden::open(fixture("goldens/schedulers/euler-sd1-leading.safetensors"));
    for (guidance, weight) in [(7.5f32, 7.5f64), (1.0, 1.0), (0.0, 1.0)] {
        let request = Request {
            steps: 1,
            guidance,
            scheduler: SchedulerKind::Euler,
            ..request(&golden)
        };
        let output = run(&request, &mut Fake::default()).unwrap();
        assert_eq!(output.timesteps, [1.0]);
        let sigma = golden.get("n1.sigmas").1[0];
        let scale = (sigma * sigma + 1.0).sqrt();
        let want: Vec<f64> = golden
            .get("latent")
            .1
            .iter()
            .map(|latent| {
                let x = latent * scale;
                let (u, c) = (0.25 * latent, (3.0 * latent + 0.01).sin());
                x - sigma * (u + weight * (c - u))
            })
            .collect();
        let error = relative_rms(&want, &output.latents);
        assert!(error < 1e-6, "guidance {guidance}: {error:e}");
    }
}

#[test]
fn random_latents_come_from_the_asked_generator() {
    let golden = Golden::open(fixture("goldens/schedulers/pndm-sd1.safetensors"));
    let mut request = Request {
        initial_latents: None,
        rng: gesso_pipeline::rng::RngKind::Torch,
        seed: 42,
        steps: 4,
        ..request(&golden)
    };
    let random = run(&request, &mut Fake::default()).unwrap();
    request.initial_latents = Some(TorchRng::new(42).normal(256));
    let given = run(&request, &mut Fake::default()).unwrap();
    assert_eq!(random.latents, given.latents);
}

#[test]
fn failures_say_what_failed() {
    let golden = Golden::open(fixture("goldens/schedulers/pndm-sd1.safetensors"));
    let good = request(&golden);
    let broken = |broken| Fake {
        broken: Some(broken),
        ..Fake::default()
    };
    let message =
        |request: &Request, mut fake: Fake| run(request, &mut fake).unwrap_err().to_string();
    assert_eq!(
        message(&good, broken("text")),
        "text encoder: no text today"
    );
    assert_eq!(
        message(&good, broken("short")),
        "noise prediction: 5 elements, expected 512"
    );
    assert_eq!(
        message(&good, broken("nan")),
        "noise prediction of step 2 has a value that is not finite"
    );
    let requests = [
        (
            Request {
                height: 60,
                ..good.clone()
            },
            "`height` is 60, expected a multiple of 8 from 8 to 16384",
        ),
        (
            Request {
                width: 0,
                ..good.clone()
            },
            "`width` is 0, expected a multiple of 8 from 8 to 16384",
        ),
        (
            Request {
                steps: 0,
                ..good.clone()
            },
            "0 steps asked, expected 1 to 1000",
        ),
        (
            Request {
                steps: 1001,
                ..good.clone()
            },
            "1001 steps asked, expected 1 to 1000",
        ),
        (
            Request {
                guidance: f32::NAN,
                ..good.clone()
            },
            "`guidance` is NaN, expected a finite number",
        ),
        (
            Request {
                scaling_factor: 0.0,
                ..good.clone()
            },
            "`scaling_factor` is 0, expected a positive number",
        ),
        (
            Request {
                seed: 1 << 32,
                ..good.clone()
            },
            "`seed` is 4294967296, expected at most 4294967295 for the numpy generator",
        ),
        (
            Request {
                initial_latents: Some(vec![0.0]),
                ..good.clone()
            },
            "initial latents: 1 elements, expected 256",
        ),
    ];
    for (request, want) in requests {
        assert_eq!(message(&request, Fake::default()), want);
    }
}

#[test]
fn progress_can_stop_the_run() {
    let golden = Golden::open(fixture("goldens/schedulers/pndm-sd1.safetensors"));
    let mut fake = Fake::default();
    let mut stop = |step: Step<'_>| match step.step {
        3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let found = generate(&request(&golden), &tokenizer(), &mut fake, &mut stop);
    assert!(matches!(
        found,
        Err(Error::Cancelled { step: 3, total: 20 })
    ));
    assert_eq!(fake.calls, 3);
    assert!(fake.decoded.is_empty());
}
