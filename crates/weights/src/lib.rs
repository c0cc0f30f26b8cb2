//! Gesso: weights.

mod config;

pub use config::{TextActivation, TextConfig, UnetConfig, VaeConfig};
