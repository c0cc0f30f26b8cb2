//! How much was lost: SNR and PSNR of one tensor against another.

use serde::Serialize;

/// The loss of one output.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Loss {
    /// What was compared.
    pub(crate) name: String,
    /// 20·log10(max|ref| / RMSE) in dB; `null` in JSON when nothing was lost.
    #[serde(serialize_with = "finite")]
    pub(crate) psnr_db: f64,
    /// 10·log10(Σref² / Σ(ref−x)²) in dB.
    #[serde(serialize_with = "finite")]
    pub(crate) snr_db: f64,
    /// PSNR that it must reach, where there is a threshold.
    pub(crate) floor_db: Option<f64>,
    /// Time of the judged run.
    pub(crate) seconds: f64,
}

impl Loss {
    /// Compares in f64. A NaN or infinity on either side counts as total loss.
    pub(crate) fn new(
        name: &str,
        reference: &[f32],
        x: &[f32],
        floor_db: Option<f64>,
        seconds: f64,
    ) -> Self {
        let (mut signal, mut noise, mut peak) = (0.0f64, 0.0f64, 0.0f64);
        for (&r, &v) in reference.iter().zip(x) {
            let (r, v) = (f64::from(r), f64::from(v));
            signal += r * r;
            noise += (r - v) * (r - v);
            peak = peak.max(r.abs());
        }
        let broken = reference.len() != x.len() || !signal.is_finite() || !noise.is_finite();
        let count = reference.len().max(1) as f64;
        let (psnr_db, snr_db) = match noise {
            _ if broken => (f64::NEG_INFINITY, f64::NEG_INFINITY),
            0.0 => (f64::INFINITY, f64::INFINITY),
            n => (
                20.0 * (peak / (n / count).sqrt()).log10(),
                10.0 * (signal / n).log10(),
            ),
        };
        Self {
            name: name.into(),
            psnr_db,
            snr_db,
            floor_db,
            seconds,
        }
    }

    /// Whether the threshold, if any, is met.
    pub(crate) fn passed(&self) -> bool {
        self.floor_db.is_none_or(|floor| self.psnr_db >= floor)
    }
}

pub(crate) fn finite<S: serde::Serializer>(x: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if x.is_finite() {
        serializer.serialize_some(x)
    } else {
        serializer.serialize_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_error_and_a_broken_one() {
        let loss = Loss::new("x", &[1.0; 100], &[1.01; 100], Some(35.0), 0.0);
        assert!(
            (loss.psnr_db - 40.0).abs() < 0.1 && (loss.snr_db - 40.0).abs() < 0.1 && loss.passed()
        );
        assert!(!Loss::new("x", &[1.0], &[f32::NAN], Some(0.0), 0.0).passed());
        assert!(!Loss::new("x", &[1.0], &[], Some(0.0), 0.0).passed());
        assert!(Loss::new("x", &[1.0], &[1.0], Some(99.0), 0.0).passed());
    }
}
