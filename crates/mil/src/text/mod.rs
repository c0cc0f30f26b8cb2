//! The text form of a program (`model.mil` in a compiled model).
//!
//! Two styles: up to specification version 8 `program(1.0)`, where scalars are `tensor<fp16, []>`; from 9 on `program(1.3)`,
//! where they are `fp16`.

mod lex;
mod literal;
mod parse;
mod print;

pub use parse::parse;
pub use print::{Style, print};
