//! Stable Diffusion 1: UNet, CLIP text encoder, VAE.

mod attention;
mod check;
mod resnet;
mod text_encoder;
mod time;
mod transformer;
mod unet;
mod vae;

pub use text_encoder::{TextOptions, text_encoder};
pub use unet::{UnetOptions, unet};
pub use vae::{VaeOptions, vae_decoder, vae_encoder};
