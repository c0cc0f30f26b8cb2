//! What can be wrong with an adapter file.

use std::path::PathBuf;

/// Why an adapter file was refused. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// The file itself cannot be read: cut short, a pickle, a git-lfs pointer, a damaged header.
    #[error(transparent)]
    File(#[from] Box<crate::Error>),
    /// The file or folder cannot be read as an adapter at all.
    #[error("`{}` is not an adapter: {reason}", file.display())]
    NotAnAdapter {
        /// The file or folder.
        file: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// A known kind of adapter that is not supported.
    #[error("`{}` is {kind}, which is not supported (found `{key}`)", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// Name of the kind, with article.
        kind: String,
        /// The key that gave it away.
        key: String,
    },
    /// `adapter_config.json` or the header's `lora_adapter_metadata` cannot be understood.
    #[error("the adapter configuration of `{}` cannot be used: {reason}", file.display())]
    Config {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Nothing in the file belongs to the model.
    #[error("no module of the model is touched by `{}`: none of its {tensors} tensors has a known name\n{listing}", file.display())]
    NothingApplied {
        /// The file.
        file: PathBuf,
        /// How many tensors it holds.
        tensors: usize,
        /// One line per key (the first few) with the nearest known name.
        listing: String,
    },
    /// Some tensors have no meaning for the model.
    #[error("{count} of {tensors} tensors in `{}` are neither applied nor known to be ignorable\n{listing}\n\nhint: `--ignore PATTERN` leaves them out explicitly", file.display())]
    Unaccounted {
        /// The file.
        file: PathBuf,
        /// How many keys are not accounted for.
        count: usize,
        /// How many tensors the file holds.
        tensors: usize,
        /// One line per key (the first few) with the nearest known name.
        listing: String,
    },
    /// The adapter was made for another model family.
    #[error("`{}` was made for {made_for}, the model is {target}: {detail}", file.display())]
    WrongFamily {
        /// The file.
        file: PathBuf,
        /// Family of the adapter.
        made_for: String,
        /// Family of the model.
        target: String,
        /// The tensor that shows it, expected and found.
        detail: String,
    },
    /// Shapes do not fit the model.
    #[error("{count} modules in `{}` do not fit the model\n{listing}", file.display())]
    Shapes {
        /// The file.
        file: PathBuf,
        /// How many modules.
        count: usize,
        /// One line per module (the first few): expected and found.
        listing: String,
    },
    /// One half of a pair is missing.
    #[error("module `{module}` in `{}` has `{have}` but no `{missing}`\n\nhint: the file is incomplete; export it again", file.display())]
    MissingHalf {
        /// The file.
        file: PathBuf,
        /// Module as the file spells it.
        module: String,
        /// Part that is there.
        have: &'static str,
        /// Part that is not.
        missing: &'static str,
    },
    /// The two halves of a pair have different ranks.
    #[error("tensor `{down}` has rank {down_rank}, but `{up}` has rank {up_rank}\n  in `{}`\n\nhint: the two halves come from different files; export the adapter again", file.display())]
    RankMismatch {
        /// The file.
        file: PathBuf,
        /// Key of the down half.
        down: String,
        /// Its rank.
        down_rank: usize,
        /// Key of the up half.
        up: String,
        /// Its rank.
        up_rank: usize,
    },
    /// Two keys of the file name the same tensor of the same module.
    #[error("`{first}` and `{second}` in `{}` name the same tensor", file.display())]
    Duplicate {
        /// The file.
        file: PathBuf,
        /// First key.
        first: String,
        /// Second key.
        second: String,
    },
    /// A tensor holds NaN or infinity.
    #[error("tensor `{tensor}` in `{}` holds a value that is not finite (element {index})", file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// Key.
        tensor: String,
        /// Position of the first such value.
        index: usize,
    },
    /// A tensor has a shape that its part of the format cannot have.
    #[error("tensor `{tensor}` in `{}` has shape {found:?}, expected {expected}", file.display())]
    TensorShape {
        /// The file.
        file: PathBuf,
        /// Key.
        tensor: String,
        /// What was expected, in words or as a shape.
        expected: String,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A tensor has a value that the format does not allow.
    #[error("tensor `{tensor}` in `{}`: {reason}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// Key.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// The base weight handed to an adapter is not the one that it was resolved for.
    #[error(
        "module `{module}`: the base weight has {found} elements (shape {shape:?}), the adapter was resolved for {expected:?}"
    )]
    Base {
        /// Canonical module path.
        module: String,
        /// Shape it was resolved for.
        expected: Vec<usize>,
        /// Shape given.
        shape: Vec<usize>,
        /// Elements given.
        found: usize,
    },
}
