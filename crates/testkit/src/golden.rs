//! Golden tensors in safetensors files.

use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::Path;

/// The tensors of one file, widened to f64.
#[derive(Clone, Debug, Default)]
pub struct Golden {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
}

impl Golden {
    /// Reads every tensor of `path`; panics on anything wrong, since a broken golden must stop the test.
    pub fn open(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file =
            SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let tensors = file
            .iter()
            .map(|(name, view)| {
                (
                    name.to_string(),
                    (view.shape().to_vec(), widened(view.dtype(), view.data())),
                )
            })
            .collect();
        Self { tensors }
    }

    /// Names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Shape and elements of a tensor.
    pub fn get(&self, name: &str) -> (&[usize], &[f64]) {
        let (shape, data) = self
            .tensors
            .get(name)
            .unwrap_or_else(|| panic!("golden has no tensor `{name}`"));
        (shape, data)
    }

    /// Elements of a tensor as f32.
    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.get(name).1.iter().map(|&x| x as f32).collect()
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.get(name).0.to_vec()
    }
}

fn widened(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes
            .chunks_exact(N)
            .map(|c| f(c.try_into().expect("chunk length")))
            .collect()
    }
    match dtype {
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F32 => each(bytes, |b| f32::from_le_bytes(b).into()),
        Dtype::F16 => each(bytes, |b| half::f16::from_le_bytes(b).into()),
        Dtype::BF16 => each(bytes, |b| half::bf16::from_le_bytes(b).into()),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => each(bytes, |b| i32::from_le_bytes(b).into()),
        Dtype::U32 => each(bytes, |b| u32::from_le_bytes(b).into()),
        Dtype::I8 => each(bytes, |b: [u8; 1]| (b[0] as i8).into()),
        Dtype::U8 | Dtype::BOOL => each(bytes, |b: [u8; 1]| b[0].into()),
        other => panic!("golden dtype {other:?} is not read here"),
    }
}
