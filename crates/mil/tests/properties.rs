//! Any program comes back from its message; inference answers whatever it is asked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_mil::ops::{self, OPS, Operand, Param, Site};
use gesso_mil::{
    Binding, Block, DType, Dim, Error, Function, Literal, NamedType, Operation, Program,
    TensorType, Value, ValueData, ValueType, from_proto, to_proto, verify,
};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn dtype() -> impl Strategy<Value = DType> {
    (0..42i32).prop_filter_map("a dtype", DType::from_proto)
}

fn dim() -> impl Strategy<Value = Dim> {
    prop_oneof![
        8 => (0usize..20).prop_map(Dim::Fixed),
        1 => prop::sample::select(vec![1 << 20, 1 << 31, 1 << 40, usize::MAX]).prop_map(Dim::Fixed),
        2 => Just(Dim::Unknown { variadic: false }),
    ]
}

fn tensor() -> impl Strategy<Value = TensorType> {
    (dtype(), prop::collection::vec(dim(), 0..6))
        .prop_map(|(dtype, dims)| TensorType { dtype, dims })
}

fn value_type() -> impl Strategy<Value = ValueType> {
    let variadic = TensorType {
        dtype: DType::Fp16,
        dims: vec![Dim::Unknown { variadic: true }],
    };
    let leaf = prop_oneof![8 => tensor().prop_map(ValueType::Tensor), 1 => Just(ValueType::Tensor(variadic))];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            (inner.clone(), dim()).prop_map(|(t, n)| ValueType::List(Box::new(t), n)),
            prop::collection::vec(inner.clone(), 0..3).prop_map(ValueType::Tuple),
            (inner.clone(), inner.clone())
                .prop_map(|(k, v)| ValueType::Dictionary(Box::new(k), Box::new(v))),
            inner.prop_map(|t| ValueType::State(Box::new(t))),
        ]
    })
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        prop::collection::vec(-1e9f32..1e9, 0..4).prop_map(Literal::Floats),
        prop::collection::vec(-1e9f64..1e9, 0..4).prop_map(Literal::Doubles),
        prop::collection::vec(any::<i32>(), 0..4).prop_map(Literal::Ints),
        prop::collection::vec(any::<i64>(), 0..4).prop_map(Literal::LongInts),
        prop::collection::vec(any::<bool>(), 0..4).prop_map(Literal::Bools),
        prop::collection::vec("[a-z]{0,3}", 0..4).prop_map(Literal::Strings),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(Literal::Bytes),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let blob =
        ("[a-z/]{1,9}", any::<u64>()).prop_map(|(file, offset)| ValueData::Blob { file, offset });
    let data = prop_oneof![literal().prop_map(ValueData::Tensor), blob];
    let leaf = (value_type(), data).prop_map(|(ty, data)| Value { ty, data });
    leaf.prop_recursive(3, 8, 3, |inner| {
        let many = prop::collection::vec(inner.clone(), 0..3);
        let data = prop_oneof![
            many.clone().prop_map(ValueData::Tuple),
            many.prop_map(ValueData::List),
            prop::collection::vec((inner.clone(), inner), 0..3).prop_map(ValueData::Dictionary),
        ];
        (value_type(), data).prop_map(|(ty, data)| Value { ty, data })
    })
}

fn values() -> impl Strategy<Value = BTreeMap<String, Value>> {
    prop::collection::btree_map("[a-z]{1,4}", value(), 0..3)
}

fn named() -> impl Strategy<Value = Vec<NamedType>> {
    let one = ("[a-z]{1,3}", value_type()).prop_map(|(name, ty)| NamedType { name, ty });
    prop::collection::vec(one, 0..3)
}

fn block() -> impl Strategy<Value = Block> {
    let body = |operations: BoxedStrategy<Vec<Operation>>| {
        (
            named(),
            prop::collection::vec("[a-z]{1,3}", 0..3),
            operations,
            values(),
        )
            .prop_map(|(inputs, outputs, operations, attributes)| Block {
                inputs,
                outputs,
                operations,
                attributes,
            })
    };
    body(Just(Vec::new()).boxed()).prop_recursive(3, 6, 2, move |inner| {
        let binding = prop_oneof![
            "[a-z]{1,3}".prop_map(Binding::Name),
            value().prop_map(Binding::Value)
        ];
        let inputs =
            prop::collection::btree_map("[a-z]{1,3}", prop::collection::vec(binding, 0..3), 0..3);
        let operation = (
            "[a-z]{1,5}",
            inputs,
            named(),
            prop::collection::vec(inner, 0..2),
            values(),
        )
            .prop_map(|(kind, inputs, outputs, blocks, attributes)| Operation {
                kind,
                inputs,
                outputs,
                blocks,
                attributes,
            });
        body(prop::collection::vec(operation, 0..3).boxed())
    })
}

fn program() -> impl Strategy<Value = Program> {
    let opset = prop::sample::select(vec!["CoreML5", "CoreML6", "CoreML8", "CoreML99"]);
    let blocks = prop::collection::btree_map("CoreML[5-9]", block(), 0..2);
    let function =
        (named(), opset, blocks, values()).prop_map(|(inputs, opset, blocks, attributes)| {
            Function {
                inputs,
                opset: opset.into(),
                blocks,
                attributes,
            }
        });
    (
        any::<i64>(),
        prop::collection::btree_map("[a-z]{1,4}", function, 0..3),
        values(),
    )
        .prop_map(|(version, functions, attributes)| Program {
            version,
            functions,
            attributes,
        })
}

/// One operand: a type and perhaps a value, mostly of a dtype that the parameter takes.
fn operand(param: &'static Param) -> BoxedStrategy<(ValueType, Option<Value>)> {
    let types: Vec<DType> = match param.domain.types {
        [] => vec![DType::Fp16, DType::Int32],
        types => types.to_vec(),
    };
    let small = prop_oneof![6 => -3i32..9, 1 => any::<i32>()];
    let pad_type = prop::sample::select(vec![
        "same",
        "valid",
        "custom",
        "fp32",
        "nchw,nwhu->nchu",
        "reflect",
    ]);
    let shaped = (
        prop::sample::select(types.clone()),
        prop::collection::vec(dim(), 0..6),
    )
        .prop_map(|(dtype, dims)| (ValueType::Tensor(TensorType { dtype, dims }), None));
    let constant = if types.contains(&DType::String) {
        pad_type.prop_map(Value::string).boxed()
    } else if types == [DType::Bool] {
        prop_oneof![
            any::<bool>().prop_map(Value::bool),
            prop::collection::vec(any::<bool>(), 0..5).prop_map(|v| Value::bools(&v))
        ]
        .boxed()
    } else if types.contains(&DType::Int32) {
        prop_oneof![
            small.clone().prop_map(Value::int),
            prop::collection::vec(small, 0..7).prop_map(|v| Value::ints(&v))
        ]
        .boxed()
    } else if types == [DType::UInt32] {
        prop::collection::vec(any::<u32>(), 0..4)
            .prop_map(|v| {
                let bytes = v.iter().flat_map(|x| x.to_le_bytes()).collect();
                Value::tensor(
                    TensorType::new(DType::UInt32, &[v.len()]),
                    Literal::Bytes(bytes),
                )
            })
            .boxed()
    } else {
        any::<f32>()
            .prop_map(|x| Value::float(DType::Fp16, x))
            .boxed()
    };
    let constant = constant.prop_map(|v| (v.ty.clone(), Some(v)));
    if param.constant {
        prop_oneof![4 => constant, 1 => shaped].boxed()
    } else {
        prop_oneof![1 => constant, 4 => shaped].boxed()
    }
}

type Bound = Vec<(&'static str, Vec<(ValueType, Option<Value>)>)>;

/// A row's name with operands for most of its parameters.
fn site() -> impl Strategy<Value = (&'static str, Bound)> {
    let rows: Vec<&'static ops::Row> = OPS.iter().flat_map(|g| g.iter()).collect();
    prop::sample::select(rows).prop_flat_map(|row| {
        let params: Vec<_> = row
            .params
            .iter()
            .map(|p| {
                let most = if p.variadic { 4 } else { 2 };
                let required = p.default == ops::Default::Required;
                let some = prop::collection::vec(operand(p), 1..most).prop_map(Some);
                let given = if required {
                    some.boxed()
                } else {
                    prop_oneof![Just(None), some].boxed()
                };
                given.prop_map(move |o| o.map(|o| (p.name, o)))
            })
            .collect();
        params.prop_map(move |given| (row.name, given.into_iter().flatten().collect()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_program_comes_back_from_its_message(p in program()) {
        let message = to_proto(&p).unwrap();
        prop_assert_eq!(&from_proto(&message).unwrap(), &p);
        verify(&p);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn inference_answers_whatever_it_is_asked((kind, bound) in site(), opset in prop::sample::select(vec!["CoreML5", "CoreML6", "CoreML7", "CoreML8"])) {
        let inputs = bound.iter().map(|(name, given)| {
            let operands = given.iter().map(|(ty, value)| Operand { ty, value: value.as_ref(), constant: true });
            (*name, operands.collect())
        });
        let site = Site { op: "y", kind, opset, inputs: inputs.collect(), attributes: &BTreeMap::new() };
        match ops::infer(&site) {
            Ok(types) => prop_assert!(types.len() <= 4096),
            Err(Error::Op { op, kind: k, .. } | Error::Parameter { op, kind: k, .. }) => {
                prop_assert_eq!(op, "y");
                prop_assert_eq!(k, kind);
            }
            Err(e) => prop_assert!(false, "{e}"),
        }
    }
}

#[test]
fn an_external_value_is_not_written() {
    let mut b = gesso_mil::Builder::new("CoreML6");
    let w = b.constant(
        "w",
        Value::external(TensorType::new(DType::Fp16, &[2]), "unet:conv_in.bias"),
    );
    let function = b.finish(&[w]);
    let p = Program {
        version: 1,
        functions: BTreeMap::from([("main".to_string(), function)]),
        attributes: BTreeMap::new(),
    };
    assert_eq!(verify(&p), []);
    assert_eq!(
        to_proto(&p).unwrap_err().to_string(),
        "function `main`, op `w` (`const`): expected a literal or a blob, found external value `unet:conv_in.bias`, which is not placed yet"
    );
}
