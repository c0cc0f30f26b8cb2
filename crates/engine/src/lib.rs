//! Gesso: engine.
