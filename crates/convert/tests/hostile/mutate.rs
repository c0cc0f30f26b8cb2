//! Seeded changes of a sample.

/// xorshift64*: the same sequence on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `n`; 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        match n {
            0 => 0,
            n => (self.next() >> 16) as usize % n,
        }
    }
}

/// Values that break sizes, offsets and counts.
const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1_0000_0000,
    1 << 40,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// One sample changed 1 to 4 times; `other` gives pieces for splices, `words` are inserted as they are.
pub(crate) fn mutate(random: &mut Random, sample: &[u8], other: &[u8], words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        let length = 1 + random.below(24);
        let end = (at + length).min(bytes.len());
        match random.below(8) {
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 => {
                let new: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
                bytes.splice(at..at, new);
            }
            3 => drop(bytes.drain(at..end)),
            4 => {
                let from = random.below(other.len());
                let to = (from + 1 + random.below(400)).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            5 => {
                let value = EXTREMES[random.below(EXTREMES.len())];
                // Four or eight bytes in place, or as a varint in place of one byte.
                match random.below(3) {
                    0 => put(&mut bytes, at, &value.to_le_bytes()),
                    1 => put(&mut bytes, at, &(value as u32).to_le_bytes()),
                    _ => drop(bytes.splice(at..(at + 1).min(bytes.len()), varint(value))),
                }
            }
            6 if !words.is_empty() => {
                let word = words[random.below(words.len())];
                let end = if random.below(2) == 0 { at } else { end };
                bytes.splice(at..end, word.iter().copied());
            }
            _ => bytes.truncate(at),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(value) {
        *to = *from;
    }
}

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
