import Foundation

/// One block of Philox4x32 with ten rounds (Salmon et al. 2011): four words from a counter of four and a key of two.
public func philox4x32x10(counter: [UInt32], key: [UInt32]) -> [UInt32] {
  precondition(counter.count == 4 && key.count == 2, "Philox4x32 takes four counters and two keys")
  var (c0, c1, c2, c3) = (counter[0], counter[1], counter[2], counter[3])
  var (k0, k1) = (key[0], key[1])
  for _ in 0..<10 {
    let p = UInt64(c0) * 0xd251_1f53
    let q = UInt64(c2) * 0xcd9e_8d57
    (c0, c1, c2, c3) = (
      UInt32(q >> 32) ^ c1 ^ k0, UInt32(truncatingIfNeeded: q),
      UInt32(p >> 32) ^ c3 ^ k1, UInt32(truncatingIfNeeded: p)
    )
    k0 &+= 0x9e37_79b9
    k1 &+= 0xbb67_ae85
  }
  return [c0, c1, c2, c3]
}

/// Normal deviates of CUDA torch, as Apple's `NvRandomSource` restates them in double precision.
///
/// Value i of call c comes from counter `(c, 0, i, 0)` and key `(seed low, seed high)`: with the first two words
/// x, y of the block, u = x/2^32 + 2^-33, v = 2π(y/2^32 + 2^-33), value = sqrt(−2 ln u) · sin v.
public struct NvidiaRng: NormalSource {
  private let key: [UInt32]
  private var call: UInt32 = 0

  /// A generator with this 64-bit seed.
  public init(seed: UInt64) { key = [UInt32(truncatingIfNeeded: seed), UInt32(seed >> 32)] }

  public mutating func normal(_ count: Int) -> [Float] {
    defer { call &+= 1 }
    let unit = { (word: UInt32) in Double(word) / 4_294_967_296 + 1.0 / 8_589_934_592 }
    return (0..<count).map { index in
      let block = philox4x32x10(counter: [call, 0, UInt32(truncatingIfNeeded: index), 0], key: key)
      return Float((-2 * log(unit(block[0]))).squareRoot() * sin(unit(block[1]) * (2 * .pi)))
    }
  }
}
