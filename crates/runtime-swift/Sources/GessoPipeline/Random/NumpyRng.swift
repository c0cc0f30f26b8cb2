import Foundation

/// `numpy.random.RandomState(seed)`: MT19937, 53-bit uniforms, Marsaglia's polar method with one value kept.
///
/// A draw of n values is a prefix of a longer one. Logarithms are the C library's, as NumPy's are.
/// Source: NumPy legacy `RandomState.normal`.
public struct NumpyRng: NormalSource {
  private var bits: MersenneTwister
  private var kept: Double?

  /// A generator with this seed.
  public init(seed: UInt32) { bits = MersenneTwister(seed: seed) }

  /// Next 32 random bits (`randint(0, 2**32, dtype=uint32)`).
  public mutating func nextBits() -> UInt32 { bits.nextBits() }

  /// Uniform in [0, 1) with 53 bits (`random_sample`).
  public mutating func uniform() -> Double {
    let high = Double(bits.nextBits() >> 5)
    let low = Double(bits.nextBits() >> 6)
    return (high * 67_108_864 + low) / 9_007_199_254_740_992
  }

  /// One normal deviate (`normal()`).
  public mutating func nextNormal() -> Double {
    if let kept {
      self.kept = nil
      return kept
    }
    while true {
      let x = 2 * uniform() - 1
      let y = 2 * uniform() - 1
      let square = x * x + y * y
      if square < 1, square != 0 {
        let factor = (-2 * log(square) / square).squareRoot()
        kept = factor * x
        return factor * y
      }
    }
  }

  public mutating func normal(_ count: Int) -> [Float] { (0..<count).map { _ in Float(nextNormal()) } }
}
