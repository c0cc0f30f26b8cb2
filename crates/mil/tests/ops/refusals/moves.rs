//! Rearranging, joining, cutting and gathering.

use super::{X, refuses};
use crate::{bools, i, ints, v, vs, yes};

#[test]
fn rearrangements() {
    refuses(
        "reshape",
        &[X(), ("shape", ints(&[5, -1]))],
        "expected a shape of the elements of [2, 12, 8, 6], found [5, -1]",
    );
    refuses(
        "reshape",
        &[X(), ("shape", ints(&[-1, -1]))],
        "at most one -1",
    );
    refuses(
        "reshape",
        &[X(), ("shape", ints(&[0, 96]))],
        "0 only with as many axes as `x`",
    );
    refuses(
        "reshape",
        &[X(), ("shape", ints(&[i32::MAX, i32::MAX, i32::MAX, -1]))],
        "too large",
    );
    refuses(
        "reshape",
        &[X(), ("shape", v("int32 9"))],
        "expected at most 5 axes, found 9",
    );
    refuses(
        "transpose",
        &[X(), ("perm", ints(&[0, 1, 2]))],
        "parameter `perm`: expected 4 axes",
    );
    refuses(
        "transpose",
        &[X(), ("perm", ints(&[0, 1, 2, 2]))],
        "expected distinct axes",
    );
    refuses(
        "expand_dims",
        &[X(), ("axes", ints(&[5]))],
        "expected an axis in [-5, 5), found 5",
    );
    refuses(
        "squeeze",
        &[X(), ("axes", ints(&[0]))],
        "parameter `axes`: expected axes of size 1, found axis 0 of [2, 12, 8, 6]",
    );
    refuses(
        "pixel_shuffle",
        &[X(), ("upscale_factor", i(5))],
        "expected channels divisible by 25, found 12",
    );
    let zero = || ints(&[0; 4]);
    refuses(
        "slice_by_index",
        &[X(), ("begin", ints(&[0])), ("end", zero())],
        "parameter `begin`: expected 4 elements",
    );
    refuses(
        "slice_by_index",
        &[X(), ("begin", zero()), ("end", zero()), ("stride", zero())],
        "expected steps other than 0",
    );
    refuses(
        "slice_by_index",
        &[
            X(),
            ("begin", zero()),
            ("end", zero()),
            ("end_mask", bools(&[true])),
        ],
        "parameter `end_mask`: expected 4 bools",
    );
    refuses(
        "slice_by_index",
        &[
            X(),
            ("begin", ints(&[2, 0, 0, 0])),
            ("end", zero()),
            ("squeeze_mask", bools(&[true; 4])),
        ],
        "parameter `begin`",
    );
    refuses(
        "slice_by_size",
        &[
            X(),
            ("begin", ints(&[1, 0, 0, 0])),
            ("size", ints(&[2, 1, 1, 1])),
        ],
        "expected a box inside [2, 12, 8, 6]",
    );
}

#[test]
fn whole_tensors_and_gathering() {
    refuses(
        "concat",
        &[("values", vs(&["fp16 2 3", "fp16 3 3"])), ("axis", i(1))],
        "shapes [2, 3], [3, 3] do not fit together",
    );
    refuses(
        "concat",
        &[
            ("values", vs(&["fp16 2 3", "fp16 2 4"])),
            ("axis", i(1)),
            ("interleave", yes()),
        ],
        "do not fit together",
    );
    refuses(
        "stack",
        &[("values", vs(&["fp16 2", "fp16 3"])), ("axis", i(0))],
        "do not fit together",
    );
    refuses(
        "split",
        &[X(), ("axis", i(1))],
        "expected either it or `split_sizes`, found both or neither",
    );
    refuses(
        "split",
        &[X(), ("axis", i(1)), ("num_splits", i(5))],
        "expected a divisor of 12, found 5",
    );
    refuses(
        "split",
        &[X(), ("axis", i(1)), ("split_sizes", ints(&[5, 5]))],
        "expected sizes that sum to [12], found [5, 5]",
    );
    refuses(
        "split",
        &[
            ("x", v("fp16 ?")),
            ("axis", i(0)),
            ("num_splits", i(i32::MAX)),
        ],
        "expected at most 4096",
    );
    refuses(
        "tile",
        &[X(), ("reps", ints(&[2]))],
        "parameter `reps`: expected 4 elements",
    );
    refuses(
        "pad",
        &[X(), ("pad", ints(&[1]))],
        "parameter `pad`: expected two numbers for each of at most 4 axes",
    );
    refuses(
        "pad",
        &[X(), ("pad", ints(&[1, -1]))],
        "expected an integer of 0 or more, found -1",
    );
    refuses(
        "range_1d",
        &[("start", i(0)), ("end", i(3)), ("step", i(0))],
        "parameter `step`",
    );
    refuses(
        "topk",
        &[X(), ("k", i(7))],
        "parameter `k`: expected at most [6], found 7",
    );
    refuses(
        "gather",
        &[
            X(),
            ("indices", v("int32 3")),
            ("axis", i(1)),
            ("batch_dims", i(1)),
        ],
        "expected 1 leading axes as `x`",
    );
    refuses(
        "gather",
        &[
            X(),
            ("indices", v("int32 2")),
            ("axis", i(0)),
            ("batch_dims", i(1)),
        ],
        "expected an axis past 1 batch axes",
    );
    refuses(
        "gather_along_axis",
        &[X(), ("indices", v("int32 2 3")), ("axis", i(1))],
        "parameter `indices`",
    );
    refuses(
        "gather_nd",
        &[X(), ("indices", v("int32 2 5"))],
        "expected a last axis of at most 4",
    );
    refuses(
        "upsample_bilinear",
        &[("x", v("fp16 2 3"))],
        "expected rank 3 or more",
    );
    refuses(
        "upsample_bilinear",
        &[X(), ("scale_factor_width", i(0))],
        "expected one positive number",
    );
}
