//! Model families: from a configuration to a function of the ML Program.

pub(crate) mod adapted;
mod exact;
mod features;
pub(crate) mod graph;
mod norm;
pub mod sd1;
#[cfg(test)]
mod tests;

pub(crate) use graph::value_name;

/// Element type that a program stores and computes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// fp16 weights and activations; the time embedding's sinusoids stay fp32.
    Fp16,
    /// fp32 throughout.
    Fp32,
}

/// How the UNet's attention is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// All heads at once by `matmul` on `[B, H, d, S]`; the program has no `einsum` op.
    Original,
    /// Head by head by `einsum` on `[B, d, 1, S]`, the form for the neural engine.
    SplitEinsum,
}

/// Opset of every function: iOS 16, macOS 13, specification version 7.
pub const OPSET: &str = "CoreML6";
