//! Errors of this crate.

/// What can stop a conversion.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An op of a program does not fit its inputs.
    #[error(transparent)]
    Program(#[from] gesso_mil::Error),
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
}
