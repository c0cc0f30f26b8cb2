//! Fast kernels: f32, gemm and vector loops, threaded over pieces that do not depend on the number of threads.

pub(crate) mod attention;
pub(super) mod conv;
pub(super) mod einsum;
pub(super) mod elementwise;
pub(super) mod gather;
pub(crate) mod linear;
pub(super) mod norm;
pub(super) mod softmax;
