//! Gesso: testkit.
