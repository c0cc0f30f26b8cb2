//! What an algorithm is built from: the tensors of one module, its shape, and its scale.

use crate::lora::config::PeftConfig;
use crate::lora::error::LoraError;
use crate::lora::factor::Factor;
use crate::lora::module::ModuleInfo;
use crate::lora::part::Part;
use std::collections::BTreeMap;
use std::path::Path;

/// Why a module's tensors cannot be used.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The shape is that of another model.
    Misfit {
        key: String,
        expected: String,
        found: String,
    },
    /// The file itself is wrong.
    Error(LoraError),
}

impl From<LoraError> for Fault {
    fn from(error: LoraError) -> Self {
        Self::Error(error)
    }
}

/// Where the scale of a module comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ScaleRule<'a> {
    /// Tensors only; without an alpha the scale is 1.
    Tensors,
    /// A PEFT configuration, for modules without an alpha tensor.
    Peft(&'a PeftConfig),
}

/// The tensors of one module.
pub(crate) struct Site<'a> {
    pub(crate) file: &'a Path,
    pub(crate) module: &'a ModuleInfo,
    /// Module name as the file has it.
    pub(crate) written: &'a str,
    /// Shape that dW has to have.
    pub(crate) shape: Vec<usize>,
    pub(crate) parts: BTreeMap<Part, Factor>,
    pub(crate) rule: ScaleRule<'a>,
    pub(crate) warnings: &'a mut Vec<String>,
}

/// `[outputs, inputs, kernel]`; a vector has one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) outputs: usize,
    pub(crate) inputs: usize,
    pub(crate) kernel: usize,
}

impl Dims {
    pub(crate) fn columns(self) -> usize {
        self.inputs * self.kernel
    }
}

impl Site<'_> {
    pub(crate) fn dims(&self) -> Dims {
        Dims {
            outputs: self.shape.first().copied().unwrap_or(1),
            inputs: self.shape.get(1).copied().unwrap_or(1),
            kernel: self.shape.iter().skip(2).product(),
        }
    }

    /// Takes a tensor away.
    pub(crate) fn take(&mut self, part: Part) -> Option<Factor> {
        self.parts.remove(&part)
    }

    /// Takes a tensor away that must be there beside one called `have`.
    pub(crate) fn need(
        &mut self,
        part: Part,
        missing: &'static str,
        have: &'static str,
    ) -> Result<Factor, Fault> {
        let file = self.file.to_path_buf();
        self.take(part).ok_or_else(|| {
            Fault::Error(LoraError::MissingHalf {
                file,
                module: self.written.to_string(),
                have,
                missing,
            })
        })
    }

    /// The scale: `.scale`, else alpha / rank, else the configuration's alpha / rank, else 1.
    ///
    /// An alpha of 0 stands for the rank (as in kohya's and LyCORIS' tools) and is warned about.
    pub(crate) fn scale(&mut self, rank: Option<usize>) -> Result<f32, Fault> {
        if let Some(scale) = self.number(Part::Scale)? {
            self.parts.remove(&Part::Alpha);
            return Ok(scale);
        }
        let alpha = self.number(Part::Alpha)?;
        match (alpha, rank) {
            (Some(0.0), _) => {
                self.warnings.push(format!(
                    "`{}.alpha` is 0, taken as the rank (scale 1)",
                    self.written
                ));
                Ok(1.0)
            }
            (Some(alpha), Some(rank)) => Ok((f64::from(alpha) / rank as f64) as f32),
            (Some(_), None) => Ok(1.0),
            (None, _) => match self.rule {
                ScaleRule::Tensors => Ok(1.0),
                ScaleRule::Peft(config) => {
                    let scale = config.scale(&self.module.path, rank);
                    Ok(scale.map_or(1.0, |s| s as f32))
                }
            },
        }
    }

    /// Takes a scalar away; it must be one finite number.
    pub(crate) fn number(&mut self, part: Part) -> Result<Option<f32>, Fault> {
        let Some(factor) = self.take(part) else {
            return Ok(None);
        };
        match factor.scalar() {
            Some(x) if x.is_finite() => Ok(Some(x)),
            Some(x) => Err(Fault::Error(LoraError::Value {
                file: factor.file().to_path_buf(),
                tensor: factor.key.clone(),
                reason: format!("{x} is not a finite number"),
            })),
            None => Err(shape_error(&factor, "one element")),
        }
    }

    /// The complaint that `factor` has the shape of another model.
    pub(crate) fn misfit(&self, factor: &Factor, expected: &str) -> Fault {
        Fault::Misfit {
            key: factor.key.clone(),
            expected: format!("{expected} for weight {:?}", self.shape),
            found: format!("{:?}", factor.shape),
        }
    }

    /// Checks the number of elements of a tensor.
    pub(crate) fn expect(&self, factor: &Factor, shape: &[usize]) -> Result<(), Fault> {
        let wanted = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
        if factor.elements() == wanted {
            Ok(())
        } else {
            Err(self.misfit(factor, &format!("{shape:?}")))
        }
    }
}

/// The complaint that a tensor has an impossible shape.
pub(crate) fn shape_error(factor: &Factor, expected: &str) -> Fault {
    Fault::Error(LoraError::TensorShape {
        file: factor.file().to_path_buf(),
        tensor: factor.key.clone(),
        expected: expected.to_string(),
        found: factor.shape.clone(),
    })
}
