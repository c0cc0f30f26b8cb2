//! Named tolerance classes; tests never carry bare numbers.

/// Signal-to-noise ratio in dB: 10·log10(Σref² / Σ(ref−x)²). Infinite when equal, `-inf` when `x` has a NaN.
pub fn snr_db(reference: &[f64], x: &[f32]) -> f64 {
    assert_eq!(reference.len(), x.len(), "lengths differ");
    let signal: f64 = reference.iter().map(|r| r * r).sum();
    let noise: f64 = reference
        .iter()
        .zip(x)
        .map(|(r, &v)| (r - f64::from(v)).powi(2))
        .sum();
    match noise {
        0.0 => f64::INFINITY,
        n if n.is_nan() => f64::NEG_INFINITY,
        n => 10.0 * (signal / n).log10(),
    }
}

/// Peak signal-to-noise ratio in dB: 20·log10(max|ref| / RMSE).
pub fn psnr_db(reference: &[f64], x: &[f32]) -> f64 {
    assert_eq!(reference.len(), x.len(), "lengths differ");
    let peak = reference.iter().fold(0.0f64, |m, r| m.max(r.abs()));
    let noise: f64 = reference
        .iter()
        .zip(x)
        .map(|(r, &v)| (r - f64::from(v)).powi(2))
        .sum();
    match noise {
        0.0 => f64::INFINITY,
        n if n.is_nan() => f64::NEG_INFINITY,
        n => 20.0 * (peak / (n / reference.len() as f64).sqrt()).log10(),
    }
}

/// rms(ref−x) / rms(ref).
pub fn relative_rms(reference: &[f64], x: &[f32]) -> f64 {
    10f64.powf(-snr_db(reference, x) / 20.0)
}

/// How closely a result must follow its reference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Bit for bit.
    Exact,
    /// A right f32 computation of a deep network: SNR ≥ 100 dB, or within 3× the f32 error recorded with the case.
    Fp32 {
        /// Relative RMS error of the library's own f32 run, where it was recorded.
        recorded: Option<f64>,
    },
    /// fp16 weights and constants, computed in fp32: SNR ≥ 75 dB.
    Fp16Weights,
    /// Every value rounded to fp16: PSNR ≥ 54 dB, half as exact as the library's own half precision on the worst golden
    /// (60.4 dB; its kernels keep f32 inside norms and attention, where a program rounds after every op).
    Fp16Emulated,
    /// Adapter factors against merged weights: SNR ≥ 60 dB.
    Adapter,
    /// An 8-bit palette against its source: PSNR ≥ 35 dB.
    Palettized8,
    /// Two f32 computations of one op in different order: relative RMS ≤ 2e-6.
    Close,
}

impl Tolerance {
    /// The figure that this class judges and whether it passes: (dB or ratio, passed).
    pub fn judge(self, reference: &[f64], x: &[f32]) -> (f64, bool) {
        match self {
            Self::Exact => {
                let same = reference.len() == x.len()
                    && reference.iter().zip(x).all(|(r, &v)| *r == f64::from(v));
                (snr_db(reference, x), same)
            }
            Self::Fp32 { recorded } => {
                let snr = snr_db(reference, x);
                let passed =
                    snr >= 100.0 || recorded.is_some_and(|r| relative_rms(reference, x) <= 3.0 * r);
                (snr, passed)
            }
            Self::Fp16Weights => at_least(snr_db(reference, x), 75.0),
            Self::Fp16Emulated => at_least(psnr_db(reference, x), 54.0),
            Self::Adapter => at_least(snr_db(reference, x), 60.0),
            Self::Palettized8 => at_least(psnr_db(reference, x), 35.0),
            Self::Close => {
                let error = relative_rms(reference, x);
                (error, error <= 2e-6)
            }
        }
    }

    /// Panics, naming `what` and the figure, unless the class is met; returns the figure.
    pub fn assert(self, what: &str, reference: &[f64], x: &[f32]) -> f64 {
        let (figure, passed) = self.judge(reference, x);
        assert!(passed, "{what}: {figure:.2} does not meet {self:?}");
        figure
    }
}

fn at_least(db: f64, floor: f64) -> (f64, bool) {
    (db, db >= floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snr_of_a_known_error() {
        let reference = vec![1.0; 100];
        let x = vec![1.001f32; 100];
        assert!((snr_db(&reference, &x) - 60.0).abs() < 0.01);
        assert!((psnr_db(&reference, &x) - 60.0).abs() < 0.01);
        assert!(!Tolerance::Fp16Weights.judge(&reference, &x).1);
        assert!(Tolerance::Palettized8.judge(&reference, &x).1);
    }

    #[test]
    fn nan_never_passes() {
        assert!(!Tolerance::Palettized8.judge(&[1.0], &[f32::NAN]).1);
        assert!(!Tolerance::Close.judge(&[1.0], &[f32::NAN]).1);
        assert!(!Tolerance::Exact.judge(&[1.0], &[f32::NAN]).1);
        assert!(
            !Tolerance::Fp32 {
                recorded: Some(1.0)
            }
            .judge(&[1.0], &[f32::NAN])
            .1
        );
    }
}
