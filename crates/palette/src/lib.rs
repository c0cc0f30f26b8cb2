//! Gesso: palette.
