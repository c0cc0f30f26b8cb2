//! 50,000 changed samples for each reader: none may panic, and none may make it allocate beyond its stated bound.

use crate::mutate::{Random, mutate, varint};
use crate::parsers::{PARSERS, Parser};
use crate::{alone, peak};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Changed samples for each reader.
const ROUNDS: usize = 50_000;

/// Reads one input and checks what holds for every input; true when the reader accepted it.
fn judge(parser: &Parser, input: &[u8]) -> bool {
    let (bytes, answer) = peak(|| catch_unwind(AssertUnwindSafe(|| (parser.read)(input))));
    let show = || {
        let shown: String = input.iter().map(|b| format!("{b:02x}")).collect();
        format!("{}, {} bytes: {shown}", parser.name, input.len())
    };
    let Ok(answer) = answer else {
        panic!("panics on {}", show());
    };
    let most = parser.factor * input.len() + parser.besides;
    assert!(
        bytes <= most,
        "allocates {bytes} bytes, at most {most} expected, on {}",
        show()
    );
    match answer {
        Ok(()) => true,
        Err(message) => {
            assert!(!message.is_empty());
            false
        }
    }
}

#[test]
fn changed_samples_neither_panic_nor_allocate_without_bound() {
    let _alone = alone();
    for (number, parser) in PARSERS.iter().enumerate() {
        let samples = (parser.samples)();
        for sample in &samples {
            assert!(
                judge(parser, sample),
                "{}: an unchanged sample is refused",
                parser.name
            );
        }
        let mut random = Random::new(0x5EED + number as u64);
        let mut accepted = 0;
        for _ in 0..ROUNDS {
            let sample = &samples[random.below(samples.len())];
            let other = &samples[random.below(samples.len())];
            let input = mutate(&mut random, sample, other, parser.words);
            accepted += usize::from(judge(parser, &input));
        }
        // A reader that refuses everything was not tested, one that takes everything checks nothing.
        assert!(
            (1..ROUNDS).contains(&accepted),
            "{}: {accepted} of {ROUNDS} accepted",
            parser.name
        );
    }
}

fn parser(name: &str) -> &'static Parser {
    PARSERS.iter().find(|p| p.name == name).unwrap()
}

/// A message field: tag, length, content.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut out = varint(number << 3 | 2);
    out.extend(varint(content.len() as u64));
    out.extend(content);
    out
}

#[test]
fn many_empty_members_cost_a_bounded_multiple() {
    let _alone = alone();
    // Operations of two bytes each: function `main` (map entry), block of opset `CoreML6` (map entry), field 3.
    let operations: Vec<u8> = [0x1a, 0x00].repeat(20_000);
    let block = field(3, &[field(1, b"CoreML6"), field(2, &operations)].concat());
    let function = field(2, &[field(1, b"main"), field(2, &block)].concat());
    judge(parser("protobuf"), &field(502, &function));
    judge(
        parser("coremldata"),
        &coremldata(&[0x0a, 0x00].repeat(20_000)),
    );

    let operations = "const()".to_string() + &"[];const()".repeat(20_000);
    let text = format!("program(1.0){{func main<ios16>(){{{operations};}}->();}}");
    judge(parser("text"), text.as_bytes());
    let elements = "0,".repeat(50_000);
    let text = format!(
        "program(1.0){{func main<ios16>(){{tensor<int64,[50001]>x=const()[val=tensor<int64,[50001]>([{elements}0])];}}->();}}"
    );
    judge(parser("text"), text.as_bytes());

    let tensors: Vec<String> = (0..5_000)
        .map(|i| format!("\"{i}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}"))
        .collect();
    let header = format!("{{{}}}", tensors.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    assert!(judge(parser("safetensors"), &file));
}

#[test]
fn deep_nesting_is_refused_without_a_deep_stack() {
    let _alone = alone();
    let mut message = Vec::new();
    for _ in 0..5_000 {
        message = field(2, &message);
    }
    assert!(!judge(parser("protobuf"), &field(502, &message)));
    // Groups of a field that nobody knows, 243 and 1 being the start of one.
    let groups = coremldata(&[0xf3, 0x01].repeat(5_000));
    assert!(!judge(parser("coremldata"), &groups));
    for open in ["list<", "tuple<", "state<", "dict<"] {
        let text = format!("program(1.0)[a = {}", open.repeat(100_000));
        assert!(!judge(parser("text"), text.as_bytes()));
    }
    let brackets = "[".repeat(100_000);
    let text = format!("program(1.0)[a = list<int32, ?>({brackets}");
    assert!(!judge(parser("text"), text.as_bytes()));
    assert!(!judge(parser("asset manifest"), brackets.as_bytes()));
    let mut file = 100_000u64.to_le_bytes().to_vec();
    file.extend(brackets.as_bytes());
    assert!(!judge(parser("safetensors"), &file));
}

/// The file around the bytes of a description.
fn coremldata(description: &[u8]) -> Vec<u8> {
    let mut out = 502u32.to_le_bytes().to_vec();
    out.extend([0; 24]);
    out.extend(7u64.to_le_bytes());
    out.extend(b"generic");
    out.extend(7u32.to_le_bytes());
    out.extend([0; 28]);
    out.extend((description.len() as u64).to_le_bytes());
    out.extend(description);
    out.extend(502u64.to_le_bytes());
    out.extend(0u64.to_le_bytes());
    out
}
