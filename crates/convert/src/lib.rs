//! Gesso: convert.
