//! The networks of a checkpoint.

use std::fmt;

/// One network of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The denoising network.
    Unet,
    /// The first, or only, text encoder.
    TextEncoder,
    /// The second text encoder of SDXL.
    TextEncoder2,
    /// The image autoencoder.
    Vae,
}

impl Component {
    /// Name of its folder in the diffusers layout, and of its keys elsewhere: `unet`, `text_encoder`, `text_encoder_2`, `vae`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
            Self::Vae => "vae",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
