//! What a family builder returns: a function whose weights are still keys, and the features it shows to an app.

use crate::slots::SlotTable;
use gesso_mil::{DType, Function};
use std::collections::{BTreeMap, BTreeSet};

/// Prefix of the External keys of tensors that are computed, not read from the checkpoint.
pub const GENERATED: &str = "generated:";

/// One input or output as declared to the app.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Name of the feature, equal to the name of the function input or of the returned variable.
    pub name: String,
    /// Declared element type of the array: fp16 or fp32.
    pub dtype: DType,
    /// Declared shape.
    pub shape: Vec<usize>,
    /// The input is optional and every element takes this value when it is missing.
    pub default: Option<f32>,
    /// One line for the package's description.
    pub description: String,
}

/// A built function.
///
/// Every weight is a `const` op whose value is `ValueData::External`, with the element type (fp16 or fp32) and shape that the
/// program wants. Its key is `"<component>:<tensor>"` with the canonical diffusers tensor name (`unet:conv_in.weight`,
/// `text_encoder:text_model.final_layer_norm.bias`, `vae:decoder.conv_in.weight`) or `"generated:<name>"`. The shape differs from
/// the checkpoint's only by dimensions of size 1, so the elements are the checkpoint's in their own order. Each key is used by
/// exactly one `const`.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The program's only function.
    pub function: Function,
    /// Inputs in the order of the function's inputs.
    pub inputs: Vec<Feature>,
    /// States; their elements are zero until an app writes them.
    pub states: Vec<Feature>,
    /// Outputs in the order of the block's outputs.
    pub outputs: Vec<Feature>,
    /// Tensors that are not in the checkpoint, by External key (with its prefix `generated:`), in row-major order.
    pub generated: BTreeMap<String, Vec<f32>>,
    /// The adapter rows, when the function has slots.
    pub slots: Option<SlotTable>,
    /// External keys that only a `gather` reads (embedding tables); these are left out of palettization.
    pub gathered: BTreeSet<String>,
}
