//! Naive kernels, written from the ops' descriptions.

pub(super) mod binary;
pub(super) mod conv;
pub(super) mod creation;
pub(super) mod gather;
pub(super) mod layout;
pub(super) mod linear;
pub(super) mod normalization;
pub(super) mod pool;
pub(super) mod reduce;
pub(super) mod resize;
pub(super) mod slice;
pub(super) mod unary;
pub(super) mod view;
pub(super) mod window;
