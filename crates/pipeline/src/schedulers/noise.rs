//! The training noise schedule: ᾱ and sigma of every timestep, in float32 as diffusers keeps them.

use super::config::{BetaSchedule, SchedulerConfig};
use crate::{Error, Result};

/// ᾱ of the last timestep when the schedule is rescaled to zero SNR (2^-24: diffusers avoids an infinite sigma).
const ALMOST_NO_SIGNAL: f32 = 1.0 / 16_777_216.0;

/// ᾱ (`alphas_cumprod`) per training timestep.
///
/// Source: diffusers 0.35.2, scheduler constructors; torch float32 arithmetic, cumulative product in float64.
pub(super) fn alphas_cumprod(
    config: &SchedulerConfig,
    scheduler: &'static str,
) -> Result<Vec<f32>> {
    let mut betas = betas(config)?;
    if betas.len() < 2 || betas.iter().any(|b| !(0.0..1.0).contains(b)) {
        return Err(Error::SchedulerOption {
            scheduler,
            option: "betas",
            value: "fewer than two, or outside [0, 1)".into(),
        });
    }
    if config.rescale_betas_zero_snr {
        betas = zero_terminal_snr(&betas);
    }
    Ok(cumulative(betas.iter().map(|b| 1.0 - b)))
}

/// [`alphas_cumprod`] for schedulers that divide by ᾱ: not quite zero at the last timestep.
pub(super) fn positive_alphas_cumprod(
    config: &SchedulerConfig,
    scheduler: &'static str,
) -> Result<Vec<f32>> {
    let mut alphas = alphas_cumprod(config, scheduler)?;
    if config.rescale_betas_zero_snr
        && let Some(last) = alphas.last_mut()
    {
        *last = ALMOST_NO_SIGNAL;
    }
    Ok(alphas)
}

/// sqrt((1−ᾱ)/ᾱ) per training timestep. For ᾱ = 2^-24 it is 4096: the root lies next to a tie and torch rounds it up.
pub(super) fn sigmas(alphas_cumprod: &[f32]) -> Vec<f32> {
    alphas_cumprod
        .iter()
        .map(|&a| match a {
            ALMOST_NO_SIGNAL => 4096.0,
            _ => ((1.0 - a) / a).sqrt(),
        })
        .collect()
}

fn betas(config: &SchedulerConfig) -> Result<Vec<f32>> {
    if let Some(betas) = &config.trained_betas {
        return Ok(betas.iter().map(|&b| b as f32).collect());
    }
    let n = config.num_train_timesteps;
    if !(2..=1_000_000).contains(&n) {
        return Err(Error::SchedulerConfig {
            reason: format!("`num_train_timesteps` is {n}, expected 2 to 1000000"),
        });
    }
    let (start, end) = (config.beta_start, config.beta_end);
    Ok(match config.beta_schedule {
        BetaSchedule::Linear => linspace(start, end, n),
        BetaSchedule::ScaledLinear => linspace(libm::sqrt(start), libm::sqrt(end), n)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        BetaSchedule::SquaredcosCapV2 => {
            let bar = |i: usize| {
                let t = i as f64 / n as f64;
                libm::cos((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).powi(2)
            };
            (0..n)
                .map(|i| (1.0 - bar(i + 1) / bar(i)).min(0.999) as f32)
                .collect()
        }
    })
}

/// `torch.linspace` in float32: from both ends towards the middle, with fused multiply-add.
fn linspace(start: f64, end: f64, n: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (n - 1) as f32;
    (0..n)
        .map(|i| {
            if i < n / 2 {
                libm::fmaf(step, i as f32, start)
            } else {
                libm::fmaf(-step, (n - i - 1) as f32, end)
            }
        })
        .collect()
}

/// `torch.cumprod`: accumulated in float64, stored in float32.
fn cumulative(alphas: impl Iterator<Item = f32>) -> Vec<f32> {
    alphas
        .scan(1.0f64, |product, alpha| {
            *product *= f64::from(alpha);
            Some(*product as f32)
        })
        .collect()
}

/// Rescales βs so that ᾱ of the last timestep is 0. Source: arXiv 2305.08891, algorithm 1.
fn zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulative(betas.iter().map(|b| 1.0 - b))
        .into_iter()
        .map(f32::sqrt)
        .collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let scale = first / (first - last);
    let bars: Vec<f32> = roots
        .iter()
        .map(|root| {
            let root = (root - last) * scale;
            root * root
        })
        .collect();
    let before = std::iter::once(1.0).chain(bars.iter().copied());
    bars.iter()
        .zip(before)
        .map(|(bar, before)| 1.0 - bar / before)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::SchedulerConfig;
    use super::*;
    use gesso_testkit::{Golden, Tolerance, fixture};

    fn alphas(case: &str, rescale_betas_zero_snr: bool) -> (Vec<f64>, Vec<f32>) {
        let golden = Golden::open(fixture(&format!("goldens/schedulers/{case}.safetensors")));
        let config = SchedulerConfig {
            rescale_betas_zero_snr,
            ..SchedulerConfig::stable_diffusion()
        };
        let found = positive_alphas_cumprod(&config, "test").unwrap();
        (golden.get("alphas_cumprod").1.to_vec(), found)
    }

    #[test]
    fn alphas_are_those_of_torch() {
        let (want, found) = alphas("pndm-sd1", false);
        Tolerance::Exact.assert("ᾱ", &want, &found);
    }

    /// Torch's vectorized square root is not correctly rounded, so these agree to rounding only.
    #[test]
    fn rescaled_alphas_are_close_to_torch() {
        let (want, found) = alphas("dpmpp2m-v-zsnr-trailing", true);
        Tolerance::Close.assert("rescaled ᾱ", &want, &found);
    }
}
