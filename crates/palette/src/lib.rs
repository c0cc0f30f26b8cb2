//! Palettes: a tensor as a short table of values and a code per element.
//!
//! Pure functions on slices. Results depend on the values only: integer arithmetic and single IEEE operations in a
//! fixed order, no thread count, no CPU feature.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod error;
mod grid;
mod kmeans;
mod pack;
mod partition;

pub use error::{Error, Result};
pub use kmeans::kmeans;
pub use pack::{pack, unpack};

use half::f16;

/// Widths of a code in bits that Core ML knows.
pub const BITS: [u8; 6] = [1, 2, 3, 4, 6, 8];

/// A palettized tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Palette {
    /// The table: 2^bits values in ascending order; when fewer are needed, the last one is repeated.
    pub lut: Vec<f16>,
    /// For each element the code of the nearest value of the table, the lower code of two that are equally near.
    pub indices: Vec<u8>,
    /// Sum over the elements of (value − table\[code\])², rounded once.
    pub cost: f64,
    /// The least sum that any table of 2^bits real numbers reaches; `cost` is higher only because the table is fp16.
    pub optimal_cost: f64,
}

/// A way to make palettes.
#[derive(Clone, Copy, Debug)]
pub struct Quantizer {
    /// Name in recipes.
    pub name: &'static str,
    /// Widths in bits that it can make.
    pub bits: &'static [u8],
    /// Makes the palette of some values at a width.
    pub palette: fn(&[f16], u8) -> Result<Palette>,
}

/// Every quantizer.
pub const QUANTIZERS: [Quantizer; 1] = [Quantizer {
    name: "kmeans",
    bits: &BITS,
    palette: kmeans,
}];

/// Refuses widths that Core ML does not know.
fn check_bits(bits: u8) -> Result<()> {
    if BITS.contains(&bits) {
        Ok(())
    } else {
        Err(Error::Bits { found: bits })
    }
}
