//! One tensor as a table of values and packed codes.

use crate::source::{Elements, halves};
use crate::{Error, Result};
use half::f16;

/// A palettized tensor in the form of the op `constexpr_lut_to_dense` up to iOS 17.
#[derive(Clone, Debug, PartialEq)]
pub struct Palettized {
    /// 2^bits values.
    pub lut: Vec<f16>,
    /// Codes, `bits` wide, packed least significant bit first, without padding between rows.
    pub packed: Vec<u8>,
    /// Signal to noise ratio in dB against the elements before palettization, rounded to 1/100; `None` when nothing was lost.
    pub snr_db: Option<f64>,
}

/// Palettizes `elements` (rounded to fp16 first) with the exact one-dimensional k-means of `gesso-palette`.
///
/// Errors: [`Error::Unrepresentable`] for values that fp16 cannot store; [`Error::Palette`] from the quantizer.
pub fn palettize(key: &str, elements: Elements<'_>, bits: u8) -> Result<Palettized> {
    let palette_error = |source| Error::Palette {
        tensor: key.into(),
        source,
    };
    let bytes = elements.to_f16_bytes(key)?;
    let values: Vec<f16> = halves(&bytes).collect();
    let palette = gesso_palette::kmeans(&values, bits).map_err(palette_error)?;
    let (mut signal, mut noise) = (0f64, 0f64);
    for (value, &code) in values.iter().zip(&palette.indices) {
        let reference = value.to_f64();
        let stored = palette
            .lut
            .get(usize::from(code))
            .map_or(0.0, |v| v.to_f64());
        signal += reference * reference;
        noise += (reference - stored) * (reference - stored);
    }
    Ok(Palettized {
        packed: gesso_palette::pack(&palette.indices, bits).map_err(palette_error)?,
        lut: palette.lut,
        snr_db: snr_db(signal, noise),
    })
}

/// 10·log10(signal / noise), rounded to 1/100; `None` without noise.
pub(crate) fn snr_db(signal: f64, noise: f64) -> Option<f64> {
    // libm rather than the system's logarithm: this number reaches files.
    (noise > 0.0).then(|| (1000.0 * libm::log10(signal / noise)).round() / 100.0)
}

/// Packed size in bytes of `count` codes of `bits` bits.
pub(crate) fn packed_len(count: usize, bits: u8) -> u64 {
    (count as u64 * u64::from(bits)).div_ceil(8)
}
