//! What can go wrong in this crate.

/// An error of a [`Networks`](crate::Networks) implementation.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why text, settings or networks could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `vocab.json` is not an object of token → id.
    #[error("`vocab.json`: {reason}")]
    Vocabulary {
        /// What is wrong with it, with the token where one is to blame.
        reason: String,
    },
    /// A line of `merges.txt` is not a pair of symbols.
    #[error("`merges.txt` line {line}: {reason}")]
    Merges {
        /// Line, counted from one.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A prompt has syntax that cannot be used.
    #[error("`{found}` in the prompt: {reason}")]
    Prompt {
        /// The part of the prompt.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// `scheduler_config.json` cannot be read.
    #[error("`scheduler_config.json`: {reason}")]
    SchedulerConfig {
        /// What the reader says.
        reason: String,
    },
    /// An option of a scheduler has a value that is not supported here.
    #[error("scheduler `{scheduler}` does not support `{option}` = `{value}`")]
    SchedulerOption {
        /// Class name as diffusers writes it.
        scheduler: &'static str,
        /// Name of the option.
        option: &'static str,
        /// The value found.
        value: String,
    },
    /// The number of steps is zero or larger than the number of training timesteps.
    #[error("{steps} steps asked, expected 1 to {most}")]
    Steps {
        /// Asked.
        steps: usize,
        /// Most that the schedule allows.
        most: usize,
    },
    /// A scheduler was stepped out of order.
    #[error("scheduler step {found} out of order, expected {expected} of {total}")]
    StepOrder {
        /// The step whose turn it is.
        expected: usize,
        /// The step asked.
        found: usize,
        /// Steps in all.
        total: usize,
    },
    /// An array has the wrong number of elements.
    #[error("{what}: {found} elements, expected {expected}")]
    Length {
        /// Which array.
        what: &'static str,
        /// Elements expected.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// A stochastic scheduler was stepped without noise.
    #[error("scheduler `{scheduler}` needs noise at step {step}")]
    NoNoise {
        /// Class name as diffusers writes it.
        scheduler: &'static str,
        /// Step, from zero.
        step: usize,
    },
    /// A value of the request is out of range.
    #[error("`{name}` is {found}, expected {expected}")]
    Request {
        /// Field of the request.
        name: &'static str,
        /// The value found.
        found: String,
        /// What is allowed.
        expected: &'static str,
    },
    /// A network gave something that is not a number.
    #[error("{what} of step {step} has a value that is not finite")]
    NotFinite {
        /// Which array.
        what: &'static str,
        /// Step, from zero.
        step: usize,
    },
    /// A network failed.
    #[error("{network}: {source}")]
    Network {
        /// `text encoder`, `unet` or `vae decoder`.
        network: &'static str,
        /// Its own error.
        source: BoxError,
    },
    /// The progress callback asked to stop.
    #[error("cancelled after step {step} of {total}")]
    Cancelled {
        /// Steps done.
        step: usize,
        /// Steps in all.
        total: usize,
    },
}
