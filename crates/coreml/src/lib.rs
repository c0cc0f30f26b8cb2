//! Gesso: coreml.
