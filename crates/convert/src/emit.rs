//! Streams a built function into a package: weights first, in program order, then the program that points at them.

use crate::built::Built;
use crate::describe::{self, About};
use crate::loss::Energy;
use crate::place::{self, Bits, Job, PlaceKey, Placed, Prepared, Writer};
use crate::report::TensorReport;
use crate::source::WeightSource;
use crate::target::of_opset;
use crate::{Error, Result};
use gesso_coreml::blob::BlobWriter;
use gesso_coreml::package::{self, WeightFile};
use gesso_coreml::proto::specification::Model;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Elements that are fetched, merged and palettized ahead of the writer. A group has at least one tensor, so the memory in use is
/// that of the largest tensor, or of this many elements: at most 4 bytes per element widened, 4 for a ΔW, and 3 for a palette.
pub(crate) const LOOK_AHEAD: usize = 16 << 20;

/// Where the weight file lies inside a package.
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

/// Is told how far a conversion is. Nothing that it says reaches a file.
pub trait Progress {
    /// A stage begins that will write `total_bytes` bytes of weights.
    fn begin(&mut self, label: &str, total_bytes: u64);
    /// `bytes` more are written.
    fn advance(&mut self, bytes: u64);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _label: &str, _total_bytes: u64) {}
    fn advance(&mut self, _bytes: u64) {}
}

/// A package that was written, as its twin needs it.
#[derive(Debug)]
pub struct Emitted {
    pub(crate) places: BTreeMap<PlaceKey, Placed>,
    pub(crate) weights: Option<PathBuf>,
    /// Every weight in the order of the file.
    pub tensors: Vec<TensorReport>,
}

/// Bytes of weights that [`emit`] would write for `built`.
///
/// Errors: [`Error::ConstType`].
pub fn weight_bytes(built: &Built, bits: &Bits) -> Result<u64> {
    let jobs = place::jobs(&built.function, bits)?;
    Ok(jobs.iter().map(Job::stored_bytes).sum())
}

/// Writes `built` as the package `dir`, its weights from `source`, palettized as `bits` says.
///
/// Constants of at least 10 elements go to the weight file in program order; a palette's indices before its table. The bytes
/// depend on the arguments only, not on the number of threads of the current rayon pool.
///
/// Errors: those of the source, of palettization, of writing; [`Error::Elements`] when a tensor's size is not the declared one.
pub fn emit(
    built: &Built,
    source: &dyn WeightSource,
    bits: &Bits,
    about: &About,
    dir: &Path,
    progress: &mut dyn Progress,
) -> Result<Emitted> {
    let jobs = place::jobs(&built.function, bits)?;
    let temporary = dir.with_extension("weights");
    let mut writer = writer(&temporary, built)?;
    let mut places = BTreeMap::new();
    let mut tensors = Vec::with_capacity(jobs.len());
    each(&jobs, built, source, &mut |job, prepared, merge| {
        places.insert(job.key.clone(), place::place(&mut writer, job, prepared)?);
        tensors.push(TensorReport {
            merge,
            ..report(job, prepared)
        });
        progress.advance(job.stored_bytes());
        Ok(())
    })?;
    let function = place::resolve(&built.function, &places)?;
    let model = describe::model(function, built, about)?;
    let weights = finish(writer, &temporary, &model, dir)?;
    Ok(Emitted {
        places,
        weights,
        tensors,
    })
}

/// Starts the weight file of `built`.
pub(crate) fn writer(temporary: &Path, built: &Built) -> Result<Writer> {
    Ok(Writer {
        blob: BlobWriter::create(temporary)?,
        records: 0,
        target: of_opset(&built.function.opset),
    })
}

/// Takes a constant, what is to be stored of it, and what that lost where LoRAs are merged in.
pub(crate) type Place<'a> = dyn FnMut(&Job<'_>, &Prepared<'_>, Option<Energy>) -> Result<()> + 'a;

/// Prepares the constants on all threads and hands them to `place` in order.
pub(crate) fn each(
    jobs: &[Job<'_>],
    built: &Built,
    source: &dyn WeightSource,
    place: &mut Place<'_>,
) -> Result<()> {
    for group in groups(jobs) {
        let prepared: Vec<Result<(Prepared<'_>, Option<Energy>)>> = group
            .par_iter()
            .map(|job| place::prepare(job, built, source))
            .collect();
        for (job, prepared) in group.iter().zip(prepared) {
            let (prepared, merge) = prepared?;
            place(job, &prepared, merge)?;
        }
    }
    Ok(())
}

/// Completes the weight file and writes the package around it; where the file is then, if it holds anything.
pub(crate) fn finish(
    writer: Writer,
    temporary: &Path,
    model: &Model,
    dir: &Path,
) -> Result<Option<PathBuf>> {
    let records = writer.records;
    writer.blob.finish()?;
    if records == 0 {
        std::fs::remove_file(temporary).map_err(|e| Error::io(temporary, e))?;
        package::write(dir, model, WeightFile::None)?;
        return Ok(None);
    }
    package::write(dir, model, WeightFile::Move(temporary))?;
    Ok(Some(dir.join(WEIGHTS)))
}

/// Writes `built` as the package `dir` over the weight file of `plain`, by hard link. Every weight of `built` must be one of
/// `plain`; what `built` has besides are literals, which stay in its program.
///
/// Errors: [`Error::NotATwin`] for a weight that `plain` does not have; those of writing.
pub fn emit_twin(built: &Built, plain: &Emitted, about: &About, dir: &Path) -> Result<()> {
    let function = place::resolve(&built.function, &plain.places)?;
    let model = describe::model(function, built, about)?;
    let weights = match &plain.weights {
        Some(path) => WeightFile::HardLink(path),
        None => WeightFile::None,
    };
    Ok(package::write(dir, &model, weights)?)
}

/// Cuts `jobs` into runs of at most [`LOOK_AHEAD`] elements, each of at least one job.
fn groups<'a, 'b>(jobs: &'b [Job<'a>]) -> Vec<&'b [Job<'a>]> {
    let mut groups = Vec::new();
    let (mut rest, mut end, mut sum) = (jobs, 0usize, 0usize);
    while let Some(job) = rest.get(end) {
        if end > 0 && sum.saturating_add(job.count) > LOOK_AHEAD {
            let (group, tail) = rest.split_at(end);
            groups.push(group);
            (rest, end, sum) = (tail, 0, 0);
        } else {
            sum = sum.saturating_add(job.count);
            end += 1;
        }
    }
    if !rest.is_empty() {
        groups.push(rest);
    }
    groups
}

pub(crate) fn report(job: &Job<'_>, prepared: &Prepared<'_>) -> TensorReport {
    let snr_db = match prepared {
        Prepared::Palette(palette) => palette.snr_db,
        Prepared::Dense(_) => None,
    };
    TensorReport {
        key: job.label().to_string(),
        elements: job.count,
        bits: job.bits.map_or(job.dtype.bits() as u8, |b| b),
        bytes_before: job.dense_bytes(),
        bytes_after: job.stored_bytes(),
        snr_db,
        merge: None,
    }
}
