//! Which constants of a program go into the weight file, in which form, and what replaces them in the program.

use crate::built::{Built, GENERATED};
use crate::loss::Energy;
use crate::palettize::{Palettized, packed_len, palettize};
use crate::recipe::Target;
use crate::source::{Elements, WeightSource};

use crate::{Error, Result};
use gesso_coreml::blob::{BlobDType, BlobWriter};
use gesso_mil::{Binding, DType, Function, Literal, Operation, TensorType, Value, ValueData};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Name of the weight file inside a program.
pub(crate) const BLOB_FILE: &str = "@model_path/weights/weight.bin";
/// Fewest elements of a constant in the weight file; smaller ones stand in the program.
pub(crate) const MIN_BLOB_ELEMENTS: usize = 10;

/// Bits per weight of palettized tensors, by External key; a key that is absent stays as it is.
pub type Bits = BTreeMap<String, u8>;

/// What identifies a constant in a program and in its twin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PlaceKey {
    /// An External key.
    External(String),
    /// SHA-256 of type and elements of a literal.
    Literal([u8; 32]),
}

/// What stands in the program instead of a constant's elements.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Placed {
    Dense(ValueData),
    Palette {
        indices: Value,
        lut: Value,
        /// Absent in the form of iOS 18, whose indices have the shape of the tensor.
        shape: Option<Value>,
    },
}

/// One constant that has to be placed.
pub(crate) struct Job<'a> {
    pub key: PlaceKey,
    pub name: &'a str,
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub count: usize,
    pub bits: Option<u8>,
    literal: Option<&'a Literal>,
}

impl Job<'_> {
    /// Bytes as the program declares them, without palettization.
    pub(crate) fn dense_bytes(&self) -> u64 {
        self.count as u64 * (self.dtype.bits() as u64 / 8)
    }

    /// Bytes in the weight file, without record headers and padding.
    pub(crate) fn stored_bytes(&self) -> u64 {
        match self.bits {
            Some(bits) => {
                packed_len(self.count, bits) + (1 << bits) * (self.dtype.bits() as u64 / 8)
            }
            None => self.dense_bytes(),
        }
    }

    /// The name in messages and reports: the External key, or the constant's own name.
    pub(crate) fn label(&self) -> &str {
        match &self.key {
            PlaceKey::External(key) => key,
            PlaceKey::Literal(_) => self.name,
        }
    }
}

/// The constants of `function` that go through placement, in program order, each key once: every External one, and every
/// fp16 or fp32 literal of at least [`MIN_BLOB_ELEMENTS`] elements.
pub(crate) fn jobs<'a>(function: &'a Function, bits: &Bits) -> Result<Vec<Job<'a>>> {
    let mut seen = std::collections::BTreeSet::new();
    let mut jobs = Vec::new();
    for op in function.body().map(|b| &*b.operations).unwrap_or_default() {
        if let Some(job) = job(op, bits)?
            && seen.insert(job.key.clone())
        {
            jobs.push(job);
        }
    }
    Ok(jobs)
}

fn job<'a>(op: &'a Operation, bits: &Bits) -> Result<Option<Job<'a>>> {
    let (Some(value), Some(output), "const") =
        (op.attributes.get("val"), op.outputs.first(), &*op.kind)
    else {
        return Ok(None);
    };
    let wrong_type = || Error::ConstType {
        name: output.name.clone(),
        found: value.ty.to_string(),
    };
    let (key, literal) = match &value.data {
        ValueData::External { key } => (PlaceKey::External(key.clone()), None),
        ValueData::Tensor(literal) => (PlaceKey::Literal([0; 32]), Some(literal)),
        _ => return Ok(None),
    };
    let ty = value.ty.as_tensor().ok_or_else(wrong_type)?;
    let is_float = matches!(ty.dtype, DType::Fp16 | DType::Fp32);
    let (shape, count) = match (ty.shape(), ty.count(), literal) {
        (Some(_), Some(n), Some(_)) if n < MIN_BLOB_ELEMENTS || !is_float => return Ok(None),
        (Some(shape), Some(n), _) if is_float => (shape, n),
        _ => return Err(wrong_type()),
    };
    let (key, bits) = match (key, literal) {
        (PlaceKey::External(key), _) => {
            let bits = bits.get(&key).copied();
            (PlaceKey::External(key), bits)
        }
        (_, Some(literal)) => (PlaceKey::Literal(literal_hash(ty, literal)), None),
        (key, None) => (key, None),
    };
    Ok(Some(Job {
        key,
        name: &output.name,
        dtype: ty.dtype,
        shape,
        count,
        bits,
        literal,
    }))
}

fn literal_hash(ty: &TensorType, literal: &Literal) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(ty.to_string());
    hash.update(literal_bytes(literal));
    hash.finalize().into()
}

/// Elements of an fp16 or fp32 literal, little-endian.
pub(crate) fn literal_bytes(literal: &Literal) -> Cow<'_, [u8]> {
    match literal {
        Literal::Bytes(b) => Cow::Borrowed(b),
        Literal::Floats(v) => Cow::Owned(v.iter().flat_map(|x| x.to_le_bytes()).collect()),
        _ => Cow::Borrowed(&[]),
    }
}

/// Elements that are ready to be written.
pub(crate) enum Prepared<'a> {
    Dense(Cow<'a, [u8]>),
    Palette(Palettized),
}

/// Fetches, rounds and palettizes the elements of one constant; where LoRAs are merged into it, with what that lost.
pub(crate) fn prepare<'a>(
    job: &Job<'a>,
    built: &'a Built,
    source: &'a dyn WeightSource,
) -> Result<(Prepared<'a>, Option<Energy>)> {
    if let Some(literal) = job.literal {
        return Ok((Prepared::Dense(literal_bytes(literal)), None));
    }
    let key = job.label();
    let elements: Elements<'a> = if key.starts_with(GENERATED) {
        let owned = built
            .generated
            .get(key)
            .ok_or_else(|| Error::MissingTensor { key: key.into() })?;
        Elements::F32(Cow::Borrowed(owned))
    } else {
        source.fetch(key)?
    };
    if elements.len() != job.count {
        return Err(Error::Elements {
            key: key.into(),
            expected: job.count,
            found: elements.len(),
        });
    }
    if !source.is_merged(key) {
        return Ok((rounded(key, elements, job.dtype, job.bits)?, None));
    }
    let exact = elements.to_f32(key)?;
    let borrowed = Elements::F32(Cow::Borrowed(&*exact));
    let prepared = match rounded(key, borrowed, job.dtype, job.bits)? {
        Prepared::Dense(bytes) => Prepared::Dense(Cow::Owned(bytes.into_owned())),
        Prepared::Palette(palette) => Prepared::Palette(palette),
    };
    let energy = Energy::of_prepared(key, &exact, &prepared, job.dtype, job.bits)?;
    Ok((prepared, Some(energy)))
}

/// Elements as the weight file of a program of this element type (fp16 or fp32) holds them, palettized where `bits` says so.
///
/// Errors: those of [`palettize`] and of rounding.
pub(crate) fn rounded<'a>(
    key: &str,
    elements: Elements<'a>,
    dtype: DType,
    bits: Option<u8>,
) -> Result<Prepared<'a>> {
    match (bits, dtype) {
        (Some(bits), _) => Ok(Prepared::Palette(palettize(key, elements, bits)?)),
        (None, DType::Fp16) => Ok(Prepared::Dense(elements.to_f16_bytes(key)?)),
        (None, _) => {
            let values = elements.to_f32(key)?;
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Ok(Prepared::Dense(Cow::Owned(bytes)))
        }
    }
}

/// The table of a palette as it is stored: little-endian, in the element type of the program.
pub(crate) fn lut_bytes(palette: &Palettized, dtype: DType) -> Vec<u8> {
    match dtype {
        DType::Fp16 => palette.lut.iter().flat_map(|v| v.to_le_bytes()).collect(),
        _ => palette
            .lut
            .iter()
            .flat_map(|v| v.to_f32().to_le_bytes())
            .collect(),
    }
}

/// Writes a prepared constant: to the weight file when it has at least [`MIN_BLOB_ELEMENTS`] elements, else as a literal.
/// A palette is written in the order indices, table.
pub(crate) fn place(writer: &mut Writer, job: &Job<'_>, prepared: &Prepared<'_>) -> Result<Placed> {
    Ok(match prepared {
        Prepared::Dense(bytes) => Placed::Dense(writer.push(job.dtype, job.count, bytes)?),
        Prepared::Palette(palette) if writer.target == Target::Ios18 => {
            palette_of_ios18(writer, job, palette)?
        }
        Prepared::Palette(palette) => {
            let packed = &palette.packed;
            let indices = writer.push(DType::UInt8, packed.len(), packed)?;
            let lut = lut_bytes(palette, job.dtype);
            let lut = writer.push(job.dtype, palette.lut.len(), &lut)?;
            let shape: Vec<u8> = job
                .shape
                .iter()
                .flat_map(|&d| u32::try_from(d).unwrap_or(u32::MAX).to_le_bytes())
                .collect();
            Placed::Palette {
                indices: typed(DType::UInt8, packed.len(), indices),
                lut: typed(job.dtype, palette.lut.len(), lut),
                shape: Some(typed(
                    DType::UInt32,
                    job.shape.len(),
                    ValueData::Tensor(Literal::Bytes(shape)),
                )),
            }
        }
    })
}

/// A palette in the form of iOS 18: codes of n bits in the tensor's shape, and a table `[1.., 2^n, 1]`. The bytes are those of the
/// older form.
fn palette_of_ios18(writer: &mut Writer, job: &Job<'_>, palette: &Palettized) -> Result<Placed> {
    let bits = job.bits.unwrap_or(8);
    let (code, dtype) = match bits {
        1 => (BlobDType::UInt1, DType::UInt1),
        2 => (BlobDType::UInt2, DType::UInt2),
        4 => (BlobDType::UInt4, DType::UInt4),
        6 => (BlobDType::UInt6, DType::UInt6),
        _ => (BlobDType::UInt8, DType::UInt8),
    };
    let unused = 8 * palette.packed.len() - job.count * usize::from(bits);
    writer.records += 1;
    let offset = writer.blob.push(code, &palette.packed, unused as u8)?;
    let indices = Value {
        ty: TensorType::new(dtype, &job.shape).into(),
        data: ValueData::Blob {
            file: BLOB_FILE.into(),
            offset,
        },
    };
    let entries = palette.lut.len();
    let data = writer.push(job.dtype, entries, &lut_bytes(palette, job.dtype))?;
    let mut shape = vec![1; job.shape.len()];
    shape.extend([entries, 1]);
    let lut = Value {
        ty: TensorType::new(job.dtype, &shape).into(),
        data,
    };
    Ok(Placed::Palette {
        indices,
        lut,
        shape: None,
    })
}

fn typed(dtype: DType, count: usize, data: ValueData) -> Value {
    Value {
        ty: TensorType::new(dtype, &[count]).into(),
        data,
    }
}

/// The weight file while it is written.
pub(crate) struct Writer {
    pub blob: BlobWriter,
    pub records: usize,
    /// Form of palettes.
    pub target: Target,
}

impl Writer {
    fn push(&mut self, dtype: DType, count: usize, bytes: &[u8]) -> Result<ValueData> {
        let code = match dtype {
            DType::Fp16 => BlobDType::Float16,
            DType::Fp32 => BlobDType::Float32,
            _ => BlobDType::UInt8,
        };
        if count < MIN_BLOB_ELEMENTS {
            let literal = match dtype {
                DType::Fp32 => Literal::Floats(
                    bytes
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|&b| f32::from_le_bytes(b))
                        .collect(),
                ),
                _ => Literal::Bytes(bytes.to_vec()),
            };
            return Ok(ValueData::Tensor(literal));
        }
        self.records += 1;
        Ok(ValueData::Blob {
            file: BLOB_FILE.into(),
            offset: self.blob.push(code, bytes, 0)?,
        })
    }
}

/// `function` with every placed constant replaced. A palettized `const` becomes a `constexpr_lut_to_dense`:
///
/// ```text
/// w = const()[val = External("unet:…")]
/// w = constexpr_lut_to_dense()[indices = BLOB uint8 [M], lut = BLOB fp16 [2^n], shape = uint32 [K]]   // up to iOS 17
/// w = constexpr_lut_to_dense(indices = BLOB uint4 [O, I, k, k], lut = BLOB fp16 [1, 1, 1, 1, 16, 1])   // iOS 18
/// ```
///
/// A literal that has no place stays as it is. Errors: [`Error::NotATwin`] for an External constant without a place.
pub(crate) fn resolve(
    function: &Function,
    places: &BTreeMap<PlaceKey, Placed>,
) -> Result<Function> {
    let mut function = function.clone();
    let opset = function.opset.clone();
    let no_bits = Bits::new();
    let Some(block) = function.blocks.get_mut(&opset) else {
        return Ok(function);
    };
    for op in &mut block.operations {
        let Some((key, name)) = job(op, &no_bits)?.map(|j| (j.key, j.name.to_string())) else {
            continue;
        };
        match (places.get(&key), key) {
            (Some(placed), _) => replace(op, placed.clone()),
            (None, PlaceKey::External(_)) => return Err(Error::NotATwin { name }),
            (None, PlaceKey::Literal(_)) => {}
        }
    }
    Ok(function)
}

fn replace(op: &mut Operation, placed: Placed) {
    match placed {
        Placed::Dense(data) => {
            if let Some(value) = op.attributes.get_mut("val") {
                value.data = data;
            }
        }
        Placed::Palette {
            indices,
            lut,
            shape,
        } => {
            op.kind = "constexpr_lut_to_dense".into();
            op.attributes.remove("val");
            let Some(shape) = shape else {
                op.inputs
                    .insert("indices".into(), vec![Binding::Value(indices)]);
                op.inputs.insert("lut".into(), vec![Binding::Value(lut)]);
                return;
            };
            op.attributes.insert("indices".into(), indices);
            op.attributes.insert("lut".into(), lut);
            op.attributes.insert("shape".into(), shape);
        }
    }
}
