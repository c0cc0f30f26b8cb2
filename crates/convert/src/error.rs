//! Errors of this crate.

use std::path::Path;

/// What can stop a conversion.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op of a program does not fit its inputs.
    #[error(transparent)]
    Program(#[from] gesso_mil::Error),
    /// A package or a weight file cannot be written or read.
    #[error(transparent)]
    Package(#[from] gesso_coreml::Error),
    /// A checkpoint or a LoRA cannot be read.
    #[error(transparent)]
    Weights(Box<gesso_weights::Error>),
    /// A LoRA does not fit the weights that it is merged into.
    #[error(transparent)]
    Lora(Box<gesso_weights::lora::LoraError>),
    /// A tensor cannot be palettized.
    #[error("cannot palettize `{tensor}`: {source}")]
    Palette {
        /// Key of the tensor.
        tensor: String,
        /// What the quantizer says.
        source: gesso_palette::Error,
    },
    /// A file cannot be read or written.
    #[error("`{file}`: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// A model configuration that the family cannot be built from.
    #[error("`{component}`: {field} is {found}, expected {expected}")]
    Config {
        /// Component, for instance `unet`.
        component: String,
        /// Field of the configuration or option.
        field: String,
        /// What is needed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A package that cannot be given adapter slots.
    #[error("`{file}` gets no adapter slots: {reason}")]
    Retrofit {
        /// The package.
        file: String,
        /// What is in the way.
        reason: String,
    },
    /// A program that cannot be written for iOS 18.
    #[error("the program cannot be written for iOS 18: {reason}")]
    Target {
        /// What is in the way.
        reason: String,
    },
    /// Something that the checkpoint must have is not in it.
    #[error("the checkpoint has no {missing}, which {wanted_by} needs")]
    Missing {
        /// What is missing.
        missing: String,
        /// Who asked for it.
        wanted_by: String,
    },
    /// A program names a tensor that neither the checkpoint nor the builder has.
    #[error("the program wants tensor `{key}`, but the checkpoint does not have it")]
    MissingTensor {
        /// Key of the tensor, `<component>:<name>`.
        key: String,
    },
    /// A tensor does not have the number of elements that the program declares.
    #[error("tensor `{key}` has {found} elements, but the program declares {expected}")]
    Elements {
        /// Key of the tensor.
        key: String,
        /// Elements of the declared shape.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// A value cannot be stored in the precision of the package.
    #[error(
        "tensor `{key}` holds {value}, which {dtype} cannot store\n\nhint: convert with fp32 precision, or check the source for damaged weights"
    )]
    Unrepresentable {
        /// Key of the tensor.
        key: String,
        /// The value as found.
        value: f32,
        /// Element type of the package.
        dtype: &'static str,
    },
    /// A program has a constant of a type that this crate cannot place.
    #[error("constant `{name}` has type {found}, expected fp16 or fp32")]
    ConstType {
        /// Name of the constant.
        name: String,
        /// Its type.
        found: String,
    },
    /// The slotted program does not share the weights of the plain one.
    #[error("constant `{name}` of the adaptable program is not among the weights of the plain one")]
    NotATwin {
        /// Name of the constant.
        name: String,
    },
    /// A recipe option that cannot be carried out.
    #[error("{option} is {found}, expected {expected}")]
    Recipe {
        /// The option.
        option: String,
        /// What is possible.
        expected: String,
        /// What was asked for.
        found: String,
    },
    /// A palettization override that fits no tensor of what is converted.
    #[error("palettization override `{pattern}` matches no weight of the converted components")]
    UnusedOverride {
        /// The pattern.
        pattern: String,
    },
    /// `gesso.json` or a manifest cannot be understood.
    #[error("`{file}`: {reason}")]
    Json {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A LoRA touches modules that have no slot.
    #[error(
        "adapter `{adapter}` changes {count} modules that have no adapter slot for it: {modules}\n\nhint: {slots}bake the LoRA into the weights with `gesso convert … --lora FILE:STRENGTH`, make a delta with `gesso adapter … --as delta --checkpoint CHECKPOINT`, or leave these modules out with `--ignore PATTERN`"
    )]
    NoSlot {
        /// Name of the adapter.
        adapter: String,
        /// How many modules.
        count: usize,
        /// Their names with the reason.
        modules: String,
        /// How the base would have slots for them; empty where it would not.
        slots: &'static str,
    },
    /// An adapter's rank does not fit the base and must not be cut.
    #[error(
        "adapter `{adapter}`: {count} modules have a rank of up to {rank}, but the base has slots of rank {slots}: {modules}\n\nhint: convert the base with `--adapter-rank {needed}`, bake the LoRA into the weights with `gesso convert … --lora FILE:STRENGTH`, or make a delta with `gesso adapter … --as delta --checkpoint CHECKPOINT`; without `--exact` they are cut to rank {slots} and the lost energy is reported"
    )]
    Rank {
        /// Name of the adapter.
        adapter: String,
        /// How many modules.
        count: usize,
        /// Their names with their ranks.
        modules: String,
        /// Highest rank among them.
        rank: usize,
        /// Rank of the base's slots.
        slots: usize,
        /// Smallest rank of slots that would do.
        needed: usize,
    },
    /// A LoRA's differences depend on weights that were not given.
    #[error(
        "adapter `{adapter}`: the differences of {count} modules depend on the weights of the base: {modules}\n\nhint: name the checkpoint that the base was converted from with `--checkpoint`, or bake the LoRA into the weights with `gesso convert … --lora FILE:STRENGTH`"
    )]
    NeedsBase {
        /// Name of the adapter.
        adapter: String,
        /// How many modules.
        count: usize,
        /// Their names, the first few, with the algorithm.
        modules: String,
    },
    /// A difference has no exact factors and must not be approximated.
    #[error(
        "adapter `{adapter}`: {count} modules have no exact low-rank form: {modules}\n\nhint: bake the LoRA into the weights with `gesso convert … --lora FILE:STRENGTH`, or make a delta with `gesso adapter … --as delta --checkpoint CHECKPOINT`; without `--exact` they are approximated and the lost energy is reported"
    )]
    NotLowRank {
        /// Name of the adapter.
        adapter: String,
        /// How many modules.
        count: usize,
        /// Their names with what the LoRA does to them.
        modules: String,
    },
    /// A checkpoint is not the one that a base was converted from.
    #[error(
        "`{checkpoint}` is not what the base was converted from: its source hash is {found}, `gesso.json` has {expected}"
    )]
    OtherCheckpoint {
        /// The checkpoint.
        checkpoint: String,
        /// Hash in `gesso.json`.
        expected: String,
        /// Hash of the checkpoint.
        found: String,
    },
    /// An adapter's factors depend on the weights of another base.
    #[error(
        "adapter `{adapter}` does not fit this base: it was made from weights with the source hash {found}, the base has {expected}\n\nhint: make the adapter again from its LoRA with `gesso adapter … --checkpoint CHECKPOINT` for this base"
    )]
    OtherSource {
        /// Name of the adapter.
        adapter: String,
        /// Hash of the base.
        expected: String,
        /// Hash in the adapter.
        found: String,
    },
    /// Adapters that do not fit into the slots together.
    #[error(
        "the adapters {adapters} together need slots of rank {rank} (module `{module}`), but the base has rank {slots}\n\nhint: convert the base with `--adapter-rank {needed}`, use fewer of them at once, or make one asset of all with `gesso adapter --merge`"
    )]
    Stack {
        /// Names of the adapters.
        adapters: String,
        /// The module with the highest sum.
        module: String,
        /// Sum of the ranks.
        rank: usize,
        /// Rank of the base's slots.
        slots: usize,
        /// Smallest multiple of 32 that would do.
        needed: usize,
    },
    /// The base was converted without slots.
    #[error("`{base}` has no adapter slots\n\nhint: convert the base with `--adapter-rank 32`")]
    NoAdaptable {
        /// The converted folder.
        base: String,
    },
    /// An adapter was made for another layout of slots.
    #[error(
        "adapter `{adapter}` does not fit this base: layout hash of `{component}` is {found}, the base has {expected}\n\nhint: make the adapter again from its LoRA with `gesso adapter` for this base; bases of other `--adapter-sites` have other layouts"
    )]
    Layout {
        /// Name of the adapter.
        adapter: String,
        /// Component.
        component: String,
        /// Hash of the base.
        expected: String,
        /// Hash in the adapter.
        found: String,
    },
    /// Factors that do not have the shape their rows need.
    #[error("adapter `{adapter}`: `{tensor}` has {found} elements, expected {expected}")]
    Factors {
        /// Name of the adapter.
        adapter: String,
        /// Name of the tensor.
        tensor: String,
        /// Elements needed.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// An adapter asset that is not in the one form that assets have.
    #[error("`{file}` is not a readable adapter asset: {reason}")]
    AssetForm {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// A member of an adapter asset is unsafe, unknown, missing or damaged.
    #[error("`{file}`: member `{member}`: {reason}")]
    AssetMember {
        /// The file.
        file: String,
        /// The member.
        member: String,
        /// What is wrong.
        reason: String,
    },
    /// An adapter asset needs a newer reader.
    #[error(
        "`{file}` needs a reader of version {needed}, this one is {own}\n\nhint: use a newer Gesso"
    )]
    AssetTooNew {
        /// The file.
        file: String,
        /// `min_reader` of the asset.
        needed: u32,
        /// Version of this reader.
        own: u32,
    },
    /// A model of a base that no delta can be made for.
    #[error("no delta can be made for `{package}`: {reason}")]
    DeltaModel {
        /// Name of the package.
        package: String,
        /// What is in the way.
        reason: String,
    },
    /// A base whose weights hold a style already.
    #[error(
        "the weights of `{base}` are not those of its source, they hold `{styles}`\n\nhint: make the delta for the plain base; `--merge` puts several LoRAs into one delta"
    )]
    DeltaOnStyle {
        /// The converted folder.
        base: String,
        /// What was merged into it.
        styles: String,
    },
    /// A delta would have to change elements that stand in a program.
    #[error(
        "delta `{delta}`: {count} tensors change that stand in the program, not in the weight file: {tensors}\n\nhint: bake the LoRA into the weights with `gesso convert … --lora FILE:STRENGTH`, or use a base of 4 bits or more (the palettes of 1 and 2 bits stand in the program)"
    )]
    DeltaInline {
        /// Name of the delta.
        delta: String,
        /// How many tensors.
        count: usize,
        /// Their names, the first few.
        tensors: String,
    },
    /// A delta that would change nothing.
    #[error("delta `{delta}` would change nothing in this base\n\nhint: look at the strengths")]
    DeltaEmpty {
        /// Name of the delta.
        delta: String,
    },
    /// A delta was made for other weights than those of a base.
    #[error(
        "delta `{delta}` does not fit `{base}`: no weight file has the SHA-256 {expected} of its `{package}`, found {found}\n\nhint: make the delta again with `gesso adapter … --as delta` for this base; a delta fits one base with its bits, and no base that a delta was applied to"
    )]
    DeltaBase {
        /// Name of the delta.
        delta: String,
        /// The converted folder.
        base: String,
        /// Package whose weights change.
        package: String,
        /// Hash in the delta.
        expected: Box<str>,
        /// What the folder's files of this package have.
        found: Box<str>,
    },
    /// A weight file is not what a delta says that it becomes.
    #[error(
        "`{file}`: with the patches of delta `{delta}` its SHA-256 is {found}, the delta says {expected}"
    )]
    DeltaResult {
        /// The weight file.
        file: String,
        /// Name of the delta.
        delta: String,
        /// Hash in the delta.
        expected: String,
        /// Hash of the patched file.
        found: String,
    },
    /// An adapter asset has, or would have, too many or too large members.
    #[error("`{file}` is too large for an adapter asset")]
    AssetTooLarge {
        /// The file.
        file: String,
    },
}

// Boxed: these errors name much, and a large error makes every result large.
impl From<gesso_weights::Error> for Error {
    fn from(error: gesso_weights::Error) -> Self {
        Self::Weights(Box::new(error))
    }
}

impl From<gesso_weights::lora::LoraError> for Error {
    fn from(error: gesso_weights::lora::LoraError) -> Self {
        Self::Lora(Box::new(error))
    }
}

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            file: path.display().to_string(),
            source,
        }
    }

    pub(crate) fn member(path: &Path, member: &str, reason: impl Into<String>) -> Self {
        Self::AssetMember {
            file: path.display().to_string(),
            member: member.escape_default().to_string(),
            reason: reason.into(),
        }
    }
}
