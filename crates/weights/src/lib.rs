//! Gesso: weights.
