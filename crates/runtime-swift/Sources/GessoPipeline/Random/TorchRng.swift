import Foundation

/// `torch.randn(n, generator=torch.Generator().manual_seed(seed))` in float32, as PyTorch's portable code draws it.
///
/// Below 16 values each is a double-precision Box–Muller deviate, one of each pair being kept for the next; from 16 on
/// the array is filled with 24-bit uniforms and transformed in blocks of 16 in float32, and when n is no multiple of
/// 16 the last 16 values are drawn again. PyTorch builds with AVX2 differ from this by up to 1.5e-6.
/// Source: PyTorch `aten/src/ATen/native/cpu/DistributionTemplates.h`.
public struct TorchRng: NormalSource {
  private static let block = 16

  private var bits: MersenneTwister
  private var kept: Double?

  /// A generator with this seed, of which PyTorch uses the low 32 bits.
  public init(seed: UInt64) { bits = MersenneTwister(seed: UInt32(truncatingIfNeeded: seed)) }

  /// Uniform in [0, 1) with 24 bits (`torch.rand` in float32).
  public mutating func uniform() -> Float { Float(bits.nextBits() & 0xff_ffff) * (1.0 / 16_777_216) }

  private mutating func uniformDouble() -> Double {
    let high = UInt64(bits.nextBits())
    let low = UInt64(bits.nextBits())
    return Double(((high << 32) | low) & ((1 << 53) - 1)) * (1.0 / 9_007_199_254_740_992)
  }

  private mutating func nextNormal() -> Double {
    if let kept {
      self.kept = nil
      return kept
    }
    let (u1, u2) = (uniformDouble(), uniformDouble())
    let radius = (-2 * log1p(-u2)).squareRoot()
    let theta = 2 * Double.pi * u1
    kept = radius * sin(theta)
    return radius * cos(theta)
  }

  /// Box–Muller on 16 uniforms: the first eight give radii, the last eight angles.
  private static func transform(_ values: inout [Float], from start: Int) {
    for index in start..<(start + block / 2) {
      let (a, b) = (values[index], values[index + block / 2])
      let radius = (-2 * SingleMath.log(1 - a)).squareRoot()
      let theta = Float(2 * Double.pi * Double(b))
      values[index] = radius * SingleMath.cos(theta)
      values[index + block / 2] = radius * SingleMath.sin(theta)
    }
  }

  public mutating func normal(_ count: Int) -> [Float] {
    if count < Self.block { return (0..<count).map { _ in Float(nextNormal()) } }
    var values = (0..<count).map { _ in uniform() }
    for start in stride(from: 0, through: count - Self.block, by: Self.block) { Self.transform(&values, from: start) }
    if count % Self.block != 0 {
      for index in (count - Self.block)..<count { values[index] = uniform() }
      Self.transform(&values, from: count - Self.block)
    }
    return values
  }
}
