//! Writing, read back by the `safetensors` crate and by our own reader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_weights::{Error, StDType, StFile, StWriter, TensorRef, write_safetensors};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
struct Owned {
    name: String,
    dtype: StDType,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Owned {
    fn view(&self) -> TensorRef<'_> {
        TensorRef {
            name: &self.name,
            dtype: self.dtype,
            shape: &self.shape,
            bytes: &self.bytes,
        }
    }
}

fn tensor() -> impl Strategy<Value = Owned> {
    let dtypes = [
        StDType::F64,
        StDType::F32,
        StDType::F16,
        StDType::BF16,
        StDType::F8E4M3,
        StDType::F8E5M2,
        StDType::I64,
        StDType::Bool,
    ];
    (
        "[a-z.\"é]{1,8}",
        prop::sample::select(dtypes.to_vec()),
        prop::collection::vec(0usize..4, 0..4),
        any::<u8>(),
    )
        .prop_map(|(name, dtype, shape, seed)| {
            let n = shape.iter().product::<usize>() * dtype.size();
            let bytes = (0..n).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
            Owned {
                name,
                dtype,
                shape,
                bytes,
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn round_trip(tensors in prop::collection::vec(tensor(), 0..6), note in "[ -~]{0,9}") {
        let by_name: BTreeMap<_, _> = tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
        let forward: Vec<_> = by_name.values().map(Owned::view).collect();
        let backward: Vec<_> = by_name.values().rev().map(Owned::view).collect();
        let metadata = BTreeMap::from([("note".to_string(), note)]);
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write_safetensors(&a, &metadata, &forward).unwrap();
        write_safetensors(&b, &metadata, &backward).unwrap();
        let bytes = std::fs::read(&a).unwrap();
        prop_assert_eq!(&bytes, &std::fs::read(&b).unwrap());

        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let ours = StFile::open(&a).unwrap();
        prop_assert_eq!(ours.metadata(), &metadata);
        prop_assert!(ours.notes().is_empty());
        prop_assert_eq!(ours.len(), by_name.len());
        for (name, tensor) in &by_name {
            prop_assert_eq!(reference.tensor(name).unwrap().data(), tensor.bytes.as_slice());
            prop_assert_eq!(ours.get(name).unwrap(), tensor.view());
        }
    }
}

#[test]
fn every_tensor_must_be_written_in_full() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let rows = || [("a".to_string(), StDType::F16, vec![2, 2])];
    let mut writer = StWriter::create(&path, &BTreeMap::new(), rows()).unwrap();
    assert_eq!(writer.next_name(), Some("a"));
    writer.write(&[0; 6]).unwrap();
    assert!(matches!(
        writer.write(&[0; 3]),
        Err(Error::Written {
            expected: 8,
            found: 9,
            ..
        })
    ));
    assert!(matches!(
        writer.finish(),
        Err(Error::Written {
            expected: 8,
            found: 6,
            ..
        })
    ));
    let twice = [rows(), rows()].concat();
    assert!(matches!(
        StWriter::create(&path, &BTreeMap::new(), twice),
        Err(Error::Duplicate { .. })
    ));
}
