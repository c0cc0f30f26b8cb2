/// Repairs of bytes that should have been UTF-8.
enum ByteRuns {
  private typealias Class = ClosedRange<UInt8>

  /// The first pattern of `patterns` that `bytes` has at `start`: its length.
  private static func length(_ patterns: [[[Class]]], _ bytes: [UInt8], _ start: Int) -> Int? {
    for pattern in patterns where start + pattern.count <= bytes.count {
      var fits = true
      for (offset, classes) in pattern.enumerated() where !classes.contains(where: { $0.contains(bytes[start + offset]) }) {
        fits = false
        break
      }
      if fits { return pattern.count }
    }
    return nil
  }

  private static func one(_ values: UInt8...) -> [Class] { values.map { $0...$0 } }

  private static let space = one(0x20)
  private static let further: [Class] = [0x80...0xbf]
  private static let oddFurther: [Class] = [0x80...0x84, 0x86...0x9f, 0xa1...0xbf]

  /// Sequences of UTF-8 in which byte 0xa0 was turned into a space.
  private static let spaced: [[[Class]]] = [
    [one(0xc2, 0xc3, 0xc5, 0xce, 0xd0, 0xd9), space],
    [one(0xe2, 0xe3), space, oddFurther],
    [[0xe0...0xe3], oddFurther, space],
    [one(0xf0), space, further, further],
    [one(0xf0), further, space, further],
    [one(0xf0), further, further, space],
  ]

  private static let lost = one(0x1a)
  private static let lostOrMark = one(0x1a, 0x3f)
  private static let lostOrFurther: [Class] = lost + further
  private static let anyFurther: [Class] = lostOrMark + further

  /// Sequences of UTF-8 in which bytes were lost (0x1a, or one `?`).
  private static let damaged: [[[Class]]] = [
    [[0xc2...0xdf], lost],
    [one(0xc2, 0xc3), one(0x3f)],
    [one(0xed), [0xa0...0xaf], lostOrMark, one(0xed), [0xb0...0xbf], anyFurther],
    [one(0xed), [0xa0...0xaf], anyFurther, one(0xed), [0xb0...0xbf], lostOrMark],
    [[0xe0...0xef], lostOrMark, lostOrFurther],
    [[0xe0...0xef], lostOrFurther, lostOrMark],
    [[0xf0...0xf4], lostOrMark, lostOrFurther, lostOrFurther],
    [[0xf0...0xf4], lostOrFurther, lostOrMark, lostOrFurther],
    [[0xf0...0xf4], lostOrFurther, lostOrFurther, lostOrMark],
    [lost],
  ]

  /// The bytes with each run of `patterns` replaced.
  private static func replaced(
    _ bytes: [UInt8], _ patterns: [[[Class]]], by replacement: (ArraySlice<UInt8>) -> [UInt8]
  ) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count)
    var at = 0
    while at < bytes.count {
      if let length = length(patterns, bytes, at) {
        out += replacement(bytes[at..<(at + length)])
        at += length
      } else {
        out.append(bytes[at])
        at += 1
      }
    }
    return out
  }

  /// Puts back bytes 0xa0 that were turned into spaces, where the sequence would be UTF-8 otherwise.
  static func withNoBreakSpaces(_ bytes: [UInt8]) -> [UInt8] {
    guard bytes.indices.contains(where: { length(spaced, bytes, $0) != nil }) else { return bytes }
    return replaced(withAGraveAsWord(bytes), spaced) { run in run.map { $0 == 0x20 ? 0xa0 : $0 } }
  }

  /// Replaces sequences in which bytes were lost by U+FFFD.
  static func withLostBytesMarked(_ bytes: [UInt8]) -> [UInt8] {
    replaced(bytes, damaged) { _ in [0xef, 0xbf, 0xbd] }
  }

  /// `à` that stands as a word keeps the space after it, but for the Portuguese words that begin with it.
  private static func withAGraveAsWord(_ bytes: [UInt8]) -> [UInt8] {
    let goesOn = [" ", "quele", "quela", "quilo", "s "].map { Array($0.utf8) }
    var out: [UInt8] = []
    var at = 0
    while at < bytes.count {
      let byte = bytes[at]
      out.append(byte)
      at += 1
      if byte == 0xc3, at < bytes.count, bytes[at] == 0x20 {
        let after = bytes[(at + 1)...]
        if !goesOn.contains(where: { after.starts(with: $0) }) {
          out += [0xa0, 0x20]
          at += 1
        }
      }
    }
    return out
  }

  /// UTF-8, also with surrogate pairs encoded one by one (CESU-8) and NUL as C0 80.
  static func utf8OrVariant(_ bytes: [UInt8]) -> [Unicode.Scalar]? {
    var plain: [UInt8] = []
    plain.reserveCapacity(bytes.count)
    var at = 0
    while at < bytes.count {
      if bytes[at] == 0xc0, at + 1 < bytes.count, bytes[at + 1] == 0x80 {
        plain.append(0)
        at += 2
      } else if let scalar = surrogatePair(bytes, at) {
        plain += Array(Character(scalar).utf8)
        at += 6
      } else {
        plain.append(bytes[at])
        at += 1
      }
    }
    // Decoding repairs what is no UTF-8; then the bytes differ.
    let text = String(decoding: plain, as: UTF8.self)
    return text.utf8.elementsEqual(plain) ? Array(text.unicodeScalars) : nil
  }

  private static func surrogatePair(_ bytes: [UInt8], _ at: Int) -> Unicode.Scalar? {
    guard at + 6 <= bytes.count, bytes[at] == 0xed, bytes[at + 3] == 0xed, (0xa0...0xaf).contains(bytes[at + 1]),
      (0x80...0xbf).contains(bytes[at + 2]), (0xb0...0xbf).contains(bytes[at + 4]), (0x80...0xbf).contains(bytes[at + 5])
    else { return nil }
    let bits = { (offset: Int, mask: UInt8) in UInt32(bytes[at + offset] & mask) }
    return Unicode.Scalar((bits(1, 0xf) << 16) + (bits(2, 0x3f) << 10) + (bits(4, 0xf) << 6) + bits(5, 0x3f) + 0x1_0000)
  }
}
