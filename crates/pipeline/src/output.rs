//! What a run gives.

/// Tokens of a prompt as the text encoder got them.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedPrompt {
    /// Ids, cut or padded to the context.
    pub ids: Vec<i32>,
    /// Weight of each id; 1 for the special tokens and the padding.
    pub weights: Vec<f64>,
    /// Whether the end of the prompt was cut off.
    pub truncated: bool,
}

/// A finished run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// The last sample, not divided by the scaling factor: `[1, 4, H/8, W/8]`.
    pub latents: Vec<f32>,
    /// The decoded image, about −1 to 1, not clamped: `[1, 3, H, W]`.
    pub image: Vec<f32>,
    /// Height of the image in pixels.
    pub height: usize,
    /// Width of the image in pixels.
    pub width: usize,
    /// The prompt's tokens.
    pub prompt: EncodedPrompt,
    /// The negative prompt's tokens.
    pub negative: EncodedPrompt,
    /// Timesteps at which the network was asked.
    pub timesteps: Vec<f64>,
}

impl Output {
    /// The image as rows of RGB bytes; see [`rgb8`].
    pub fn rgb8(&self) -> Vec<u8> {
        rgb8(&self.image, self.height, self.width)
    }
}

/// An image `[3, H, W]` of −1 to 1 as `[H, W, 3]` bytes.
///
/// The rule is diffusers': x/2 + 0.5 in float32, clamped to 0 … 1, times 255, rounded half to even. Not a number is 0,
/// and so is what is missing when `image` is shorter than 3·H·W.
pub fn rgb8(image: &[f32], height: usize, width: usize) -> Vec<u8> {
    let plane = height * width;
    let byte = |channel: usize, pixel: usize| {
        let x = image.get(channel * plane + pixel).copied().unwrap_or(-1.0);
        ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
    };
    (0..plane)
        .flat_map(|pixel| [0, 1, 2].map(|channel| byte(channel, pixel)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::rgb8;

    #[test]
    fn bytes_are_rounded_clamped_and_interleaved() {
        let half = 2.0 * (0.5 / 255.0) - 1.0;
        let image = [-1.0, 1.0, half, 7.0, f32::NAN, -7.0];
        assert_eq!(rgb8(&image, 1, 2), [0, 0, 0, 255, 255, 0]);
        assert_eq!(rgb8(&[0.0], 1, 1), [128, 0, 0]);
    }
}
