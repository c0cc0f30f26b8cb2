//! Philox4x32-10 as CUDA torch uses it.

use super::NormalSource;
use std::f64::consts::TAU;

/// Normal deviates of CUDA torch, as Apple's `NvRandomSource` restates them in double precision.
///
/// Value i of call c comes from counter `(c, 0, i, 0)` and key `(seed low, seed high)`: with the first two words
/// x, y of the block, u = x/2^32 + 2^-33, v = 2π(y/2^32 + 2^-33), value = sqrt(−2 ln u) · sin v.
#[derive(Clone, Debug)]
pub struct NvidiaRng {
    key: [u32; 2],
    call: u32,
}

/// One block of Philox4x32 with ten rounds (Salmon et al. 2011).
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let p = u64::from(counter[0]) * 0xd251_1f53;
        let q = u64::from(counter[2]) * 0xcd9e_8d57;
        counter = [
            (q >> 32) as u32 ^ counter[1] ^ key[0],
            q as u32,
            (p >> 32) as u32 ^ counter[3] ^ key[1],
            p as u32,
        ];
        key = [
            key[0].wrapping_add(0x9e37_79b9),
            key[1].wrapping_add(0xbb67_ae85),
        ];
    }
    counter
}

impl NvidiaRng {
    /// A generator with this 64-bit seed.
    pub fn new(seed: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            call: 0,
        }
    }

    /// Draws `n` numbers in double precision in one call.
    pub fn normal_f64(&mut self, n: usize) -> Vec<f64> {
        let values = (0..n)
            .map(|i| {
                let [x, y, ..] = philox4x32_10([self.call, 0, i as u32, 0], self.key);
                let unit = |word: u32| f64::from(word) / 4_294_967_296.0 + 1.0 / 8_589_934_592.0;
                libm::sqrt(-2.0 * libm::log(unit(x))) * libm::sin(unit(y) * TAU)
            })
            .collect();
        self.call = self.call.wrapping_add(1);
        values
    }
}

impl NormalSource for NvidiaRng {
    fn normal(&mut self, n: usize) -> Vec<f32> {
        self.normal_f64(n).into_iter().map(|x| x as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::philox4x32_10;

    /// The known answers that the Random123 library ships.
    #[test]
    fn block_gives_the_known_answers() {
        assert_eq!(
            philox4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
