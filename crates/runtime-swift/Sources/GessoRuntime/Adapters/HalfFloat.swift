/// fp16 as bits. Swift has no `Float16` on Intel Macs, where packages of this kind still have to compile.
enum HalfFloat {
  /// Largest finite number.
  static let greatest: Float = 65504

  /// The number of these bits; exact.
  @inline(__always)
  static func number(_ bits: UInt16) -> Float {
    #if os(macOS) && arch(x86_64)
      return unpacked(bits)
    #else
      return Float(Float16(bitPattern: bits))
    #endif
  }

  /// The nearest number, ties to even; infinity beyond the range.
  @inline(__always)
  static func bits(_ number: Float) -> UInt16 {
    #if os(macOS) && arch(x86_64)
      return packed(number)
    #else
      return Float16(number).bitPattern
    #endif
  }

  /// As ``number(_:)``, in integers.
  static func unpacked(_ bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let exponent = UInt32(bits >> 10 & 0x1f)
    let fraction = UInt32(bits & 0x3ff)
    switch (exponent, fraction) {
    case (0, _):
      let small = Float(fraction) * 0x1p-24
      return Float(bitPattern: sign | small.bitPattern)
    case (0x1f, _): return Float(bitPattern: sign | 0x7f80_0000 | fraction << 13)
    default: return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
  }

  /// As ``bits(_:)``, in integers.
  static func packed(_ number: Float) -> UInt16 {
    let bits = number.bitPattern
    let sign = UInt16(truncatingIfNeeded: bits >> 16 & 0x8000)
    let magnitude = bits & 0x7fff_ffff
    if magnitude > 0x7f80_0000 { return sign | 0x7e00 }
    // From half a step above the largest number on.
    if magnitude >= 0x477f_f000 { return sign | 0x7c00 }
    if magnitude < 0x3880_0000 {
      // Below the smallest normal number: steps of 2^-24. Adding 0.5 moves them to the end of the significand.
      let shifted = Float(bitPattern: magnitude) + 0.5
      return sign | UInt16(truncatingIfNeeded: shifted.bitPattern - Float(0.5).bitPattern)
    }
    let even = magnitude >> 13 & 1
    return sign | UInt16(truncatingIfNeeded: (magnitude + 0xfff + even - 0x3800_0000) >> 13)
  }
}
