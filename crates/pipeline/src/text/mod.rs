//! The clean-up that CLIP's tokenizer gives a prompt before it is split into tokens.
//!
//! [`fixes`] restates what `ftfy.fix_text` of ftfy 6.3.1 (Robyn Speer, Apache-2.0) does with its default settings, since the
//! tokenizers that the models were trained with call it. [`basic`] is what transformers does without ftfy.

pub(crate) mod basic;
mod charset;
mod entities;
pub(crate) mod fixes;
mod mojibake;
