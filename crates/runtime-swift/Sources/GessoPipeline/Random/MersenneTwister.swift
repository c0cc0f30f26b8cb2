/// The Mersenne Twister MT19937, as NumPy's `RandomState` and PyTorch's CPU generator seed it.
struct MersenneTwister: Sendable {
  private static let (n, m) = (624, 397)

  private var state: [UInt32]
  private var next = n

  /// Seeds by Knuth's recurrence (`init_genrand` of the reference code).
  init(seed: UInt32) {
    state = [seed]
    var last = seed
    for index in 1..<UInt32(Self.n) {
      last = 1_812_433_253 &* (last ^ (last >> 30)) &+ index
      state.append(last)
    }
  }

  /// Next 32 random bits.
  mutating func nextBits() -> UInt32 {
    if next == Self.n { refill() }
    var y = state[next]
    next += 1
    y ^= y >> 11
    y ^= (y << 7) & 0x9d2c_5680
    y ^= (y << 15) & 0xefc6_0000
    return y ^ (y >> 18)
  }

  private mutating func refill() {
    for index in 0..<Self.n {
      let y = (state[index] & 0x8000_0000) | (state[(index + 1) % Self.n] & 0x7fff_ffff)
      state[index] = state[(index + Self.m) % Self.n] ^ (y >> 1) ^ (y & 1 == 1 ? 0x9908_b0df : 0)
    }
    next = 0
  }
}
