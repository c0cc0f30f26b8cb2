//! Weights in every form that fast kernels decode in pieces.

use super::{Case, noise};
use gesso_mil::{Arg, Builder, DType, Literal, TensorType, Value, Var};
use proptest::prelude::*;

pub(super) const ALL: &[fn()] = &[linear, gather, conv];

/// How a weight is stored.
#[derive(Clone, Copy, Debug)]
enum Form {
    Half,
    /// One palette, in the iOS 16 form.
    Palette(u32),
    /// A palette per group of rows, in the iOS 18 form: bits, groups.
    Grouped(u32, usize),
}

fn form() -> impl Strategy<Value = Form> {
    // Three bits came with iOS 18.
    let bits = prop::sample::select(vec![1u32, 2, 4, 6, 8]);
    prop_oneof![
        Just(Form::Half),
        bits.clone().prop_map(Form::Palette),
        (prop_oneof![bits, Just(3)], 1usize..5)
            .prop_map(|(bits, groups)| Form::Grouped(bits, groups)),
    ]
}

/// A case whose values are declared fp16; they are not rounded.
fn half_case(seed: u64, form: Form) -> Case {
    let mut case = Case::new(seed);
    if let Form::Grouped(..) = form {
        case.builder = Builder::new("CoreML8");
    }
    case.dtype = DType::Fp16;
    case
}

/// A weight of `rows` rows; a grouped one has `rows · groups`.
fn weight(case: &mut Case, form: Form, rows: usize, rest: &[usize]) -> (Var, usize) {
    let groups = if let Form::Grouped(_, groups) = form {
        groups
    } else {
        1
    };
    let mut shape = vec![rows * groups];
    shape.extend(rest);
    let n: usize = shape.iter().product();
    case.seed += 1;
    let codes = |bits: u32| -> Vec<u8> {
        let bytes = (n * bits as usize).div_ceil(8);
        noise(bytes, case.seed)
            .into_iter()
            .map(|x| ((x + 1.0) * 127.9) as u8)
            .collect()
    };
    let table = |bits: u32| noise(groups << bits, case.seed + 7);
    let var = match form {
        Form::Half => {
            let data = noise(n, case.seed);
            let value = Value::floats(DType::Fp16, &shape, &data);
            case.builder.constant("w", value)
        }
        Form::Palette(bits) => {
            let bytes = codes(bits);
            let indices = TensorType::new(DType::UInt8, &[bytes.len()]);
            let dims: Vec<u8> = shape
                .iter()
                .flat_map(|&d| (d as u32).to_le_bytes())
                .collect();
            let dims = Value::tensor(
                TensorType::new(DType::UInt32, &[shape.len()]),
                Literal::Bytes(dims),
            );
            let lut = Value::floats(DType::Fp16, &[1 << bits], &table(bits));
            let args: [(&str, Arg); 3] = [
                (
                    "indices",
                    Value::tensor(indices, Literal::Bytes(bytes)).into(),
                ),
                ("lut", lut.into()),
                ("shape", dims.into()),
            ];
            case.builder
                .op("constexpr_lut_to_dense", "w", &args)
                .unwrap()
        }
        Form::Grouped(bits, groups) => {
            let dtype = match bits {
                1 => DType::UInt1,
                2 => DType::UInt2,
                3 => DType::UInt3,
                4 => DType::UInt4,
                6 => DType::UInt6,
                _ => DType::UInt8,
            };
            let indices =
                Value::tensor(TensorType::new(dtype, &shape), Literal::Bytes(codes(bits)));
            let mut dims = vec![1; shape.len()];
            dims[0] = groups;
            dims.extend([1 << bits, 1]);
            let lut = Value::floats(DType::Fp16, &dims, &table(bits));
            let args: [(&str, Arg); 2] = [("indices", indices.into()), ("lut", lut.into())];
            case.builder
                .op("constexpr_lut_to_dense", "w", &args)
                .unwrap()
        }
    };
    (var, rows * groups)
}

proptest! {
    #![proptest_config(super::config())]

    fn linear(seed in 0u64..1000, form in form(), rows in prop::sample::select(vec![1usize, 2, 15, 16, 17, 77, 256, 257]), i in 1usize..400, o in 1usize..120, bias: bool) {
        let mut case = half_case(seed, form);
        let x = case.input("x", &[rows, i]);
        let (w, o) = weight(&mut case, form, o, &[i]);
        let b = case.constant("b", &[o]);
        let mut args: Vec<(&str, Arg)> = vec![("x", (&x).into()), ("weight", (&w).into())];
        if bias {
            args.push(("bias", (&b).into()));
        }
        case.agree("linear", &args);
    }

    fn gather(seed in 0u64..1000, form in form(), width in 1usize..60, count in 1usize..90) {
        let mut case = half_case(seed, form);
        // Beyond the size below which the table is decoded as a whole.
        let rows = (1usize << 17).div_ceil(width);
        let (w, rows) = weight(&mut case, form, rows, &[width]);
        let indices: Vec<i32> = noise(count, seed).into_iter().map(|x| (x * rows as f32) as i32).collect();
        case.agree("gather", &[("x", (&w).into()), ("indices", indices.as_slice().into()), ("axis", 0.into()), ("batch_dims", 0.into())]);
    }

    fn conv(seed in 0u64..1000, form in form(), c in 1usize..40, o in 1usize..70, k in prop::sample::select(vec![1usize, 3]), side in prop::sample::select(vec![3usize, 9, 34])) {
        let mut case = half_case(seed, form);
        let x = case.input("x", &[2, c, side, side]);
        let (w, _) = weight(&mut case, form, o, &[c, k, k]);
        case.agree("conv", &[("x", (&x).into()), ("weight", (&w).into()), ("strides", [1, 1].into()), ("pad_type", "same".into()), ("pad", [0; 4].into()), ("dilations", [1, 1].into()), ("groups", 1.into())]);
    }
}

#[test]
fn grouped_palettes_hold_what_the_op_says() {
    for (bits, groups) in [(1u32, 2usize), (2, 1), (3, 3), (4, 2), (6, 4), (8, 2)] {
        let mut case = half_case(3, Form::Grouped(bits, groups));
        let (w, rows) = weight(&mut case, Form::Grouped(bits, groups), 3, &[7, 2]);
        let zero = case.input("x", &[rows, 7, 2]);
        case.inputs.insert(
            "x".into(),
            crate::Tensor::f32(&[rows, 7, 2], vec![0.0; rows * 14]),
        );
        let seed = case.seed - 1;
        let args = [("x", (&zero).into()), ("y", (&w).into())];
        let out = case.builder.op("add", "out", &args).unwrap();
        let found = case.agree_on("add", out);
        let packed: Vec<u8> = noise((rows * 14 * bits as usize).div_ceil(8), seed)
            .into_iter()
            .map(|x| ((x + 1.0) * 127.9) as u8)
            .collect();
        let bit = |i: usize| usize::from(packed[i / 8] >> (i % 8) & 1);
        let tables = noise(groups << bits, seed + 7);
        for (i, &x) in found.iter().enumerate() {
            let code: usize = (0..bits as usize)
                .map(|b| bit(i * bits as usize + b) << b)
                .sum();
            let want = tables[((i / (3 * 14)) << bits) + code];
            let want = half::f16::from_f32(want).to_f32();
            assert_eq!(x, want, "element {i} at {bits} bits with {groups} palettes");
        }
    }
}
