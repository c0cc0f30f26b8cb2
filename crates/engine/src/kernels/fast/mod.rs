//! Fast kernels: f32, gemm and vector loops, threaded over pieces that do not depend on the number of threads.

pub(super) mod linear;
