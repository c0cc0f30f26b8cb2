//! Gesso: pipeline.
