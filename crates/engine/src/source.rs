//! Where the bytes of constants come from.

use gesso_mil::TensorType;
use std::borrow::Cow;

/// Gives the elements of constants that are not written in the program.
///
/// Bytes are little-endian, row-major; sub-byte types are packed least significant bit first. Errors are messages; the
/// engine adds the name of the constant.
pub trait WeightSource: Send + Sync + std::fmt::Debug {
    /// Data of the record at `offset` of a blob file, `@model_path/weights/weight.bin` for instance.
    ///
    /// Errors: no such file or record, or a record of another dtype than `ty` declares.
    fn blob(&self, file: &str, offset: u64, ty: &TensorType) -> Result<Cow<'_, [u8]>, String>;

    /// Data of a tensor that only a key names ([`gesso_mil::ValueData::External`]).
    ///
    /// Errors: always, unless the source knows such keys.
    fn external(&self, key: &str, ty: &TensorType) -> Result<Cow<'_, [u8]>, String> {
        let _ = ty;
        Err(format!("the weights under key `{key}` are not placed"))
    }
}
