//! The Mersenne Twister MT19937, as NumPy's `RandomState` and PyTorch's CPU generator seed it.

const N: usize = 624;
const M: usize = 397;

/// State of the generator.
#[derive(Clone, Debug)]
pub(crate) struct Mt19937 {
    state: [u32; N],
    next: usize,
}

impl Mt19937 {
    /// Seeds by Knuth's recurrence (`init_genrand` of the reference code).
    pub(crate) fn new(seed: u32) -> Self {
        let mut state = [0; N];
        let mut last = seed;
        for (i, word) in (0u32..).zip(state.iter_mut()) {
            if i > 0 {
                last = 1_812_433_253u32
                    .wrapping_mul(last ^ (last >> 30))
                    .wrapping_add(i);
            }
            *word = last;
        }
        Self { state, next: N }
    }

    /// Next 32 random bits.
    pub(crate) fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn refill(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let odd = if y & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ odd;
        }
        self.next = 0;
    }
}
