//! Gesso: weights.

mod component;
mod config;

pub use component::Component;
pub use config::{TextActivation, TextConfig, UnetConfig, VaeConfig};
