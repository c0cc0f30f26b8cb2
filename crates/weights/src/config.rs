//! Model configurations, as far as a graph depends on them.

/// Configuration of a UNet of the Stable Diffusion family (diffusers' `UNet2DConditionModel`).
///
/// Lists per block run from the first down block (highest resolution) to the last; `up_attention` runs from the first up
/// block (lowest resolution).
#[derive(Clone, Debug, PartialEq)]
pub struct UnetConfig {
    /// Channels of `sample`: 4, 8 (instruct-pix2pix) or 9 (inpainting).
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Channels per down block.
    pub block_out_channels: Vec<usize>,
    /// Resnets per down block; an up block has one more.
    pub layers_per_block: usize,
    /// Whether each down block has attention.
    pub down_attention: Vec<bool>,
    /// Whether each up block has attention.
    pub up_attention: Vec<bool>,
    /// Transformer blocks per attention, per down block.
    pub transformer_depth: Vec<usize>,
    /// Attention heads, per down block (diffusers' `attention_head_dim`).
    pub heads: Vec<usize>,
    /// Width of `encoder_hidden_states`.
    pub cross_attention_dim: usize,
    /// Groups of every GroupNorm.
    pub norm_groups: usize,
    /// Epsilon of the resnets' GroupNorms and of `conv_norm_out`.
    pub norm_eps: f32,
    /// `proj_in` and `proj_out` are stored as linears; the maths is the same.
    pub use_linear_projection: bool,
    /// Order of the time embedding: cosines first.
    pub flip_sin_to_cos: bool,
    /// Shift of the time embedding's frequencies.
    pub freq_shift: f32,
    /// Height and width of the latents that the model was trained on.
    pub sample_size: usize,
    /// Whether the mid block has attention.
    pub mid_attention: bool,
}

/// Configuration of a VAE (diffusers' `AutoencoderKL`).
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Channels of the picture that is encoded.
    pub in_channels: usize,
    /// Channels of the picture that is decoded.
    pub out_channels: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Channels per down block.
    pub block_out_channels: Vec<usize>,
    /// Resnets per down block; an up block has one more.
    pub layers_per_block: usize,
    /// Groups of every GroupNorm.
    pub norm_groups: usize,
    /// Factor between the encoder's mean and the latents that the UNet sees.
    pub scaling_factor: f32,
}

/// Activation of the text encoder's feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextActivation {
    /// x · sigmoid(1.702 · x).
    QuickGelu,
    /// x · Φ(x), exact.
    Gelu,
}

/// Configuration of a CLIP text encoder (transformers' `CLIPTextModel`).
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Width D.
    pub hidden: usize,
    /// Width of the feed-forward layers.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Rows of the position embedding.
    pub max_positions: usize,
    /// Activation of the feed-forward layers.
    pub activation: TextActivation,
    /// Epsilon of every LayerNorm.
    pub eps: f32,
    /// Id of the begin-of-text token as the tokenizer writes it.
    pub bos: u32,
    /// Id of the end-of-text token as the tokenizer writes it.
    pub eos: u32,
    /// `eos_token_id` of the configuration file. With 2 (a value that older files carry by mistake) pooling takes the position of the
    /// largest id, with any other value the first position of that id.
    pub eos_config_id: u32,
}
