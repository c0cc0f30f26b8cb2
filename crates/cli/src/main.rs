//! Gesso command line.
fn main() {}
