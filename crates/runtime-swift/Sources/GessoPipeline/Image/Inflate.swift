/// The DEFLATE compression, unpacking only. Source: RFC 1950 and RFC 1951.
enum Inflate {
  /// The `count` bytes that a zlib stream holds.
  ///
  /// - Throws: `PNG.Failure.damaged` for a stream that is none or has another number of bytes.
  static func zlib(_ stream: [UInt8], count: Int) throws -> [UInt8] {
    guard stream.count >= 6, stream[0] & 0xf == 8, (Int(stream[0]) << 8 | Int(stream[1])) % 31 == 0, stream[1] & 0x20 == 0
    else { throw PNG.Failure.damaged(reason: "its pixels are no zlib stream") }
    var reader = Reader(bytes: stream, at: 2)
    var out: [UInt8] = []
    out.reserveCapacity(count)
    var isLast = false
    while !isLast {
      isLast = try reader.bits(1) == 1
      switch try reader.bits(2) {
      case 0: try copyStored(&reader, &out, count)
      case 1: try unpack(&reader, &out, fixedLiterals, fixedDistances, count)
      case 2:
        let (literals, distances) = try tables(&reader)
        try unpack(&reader, &out, literals, distances, count)
      default: throw PNG.Failure.damaged(reason: "a block of its pixels is of no known kind")
      }
    }
    guard out.count == count else {
      throw PNG.Failure.damaged(reason: "it has \(out.count) bytes of pixels, expected \(count)")
    }
    try reader.toByte()
    let sum = try (0..<4).reduce(UInt32(0)) { sum, _ in sum << 8 | UInt32(try reader.byte()) }
    guard sum == adler32(out) else { throw PNG.Failure.damaged(reason: "the checksum of its pixels is wrong") }
    return out
  }

  static func adler32(_ bytes: [UInt8]) -> UInt32 {
    var (a, b): (UInt32, UInt32) = (1, 0)
    for byte in bytes {
      a += UInt32(byte)
      if a >= 65521 { a -= 65521 }
      b += a
      if b >= 65521 { b -= 65521 }
    }
    return b << 16 | a
  }

  private struct Reader {
    let bytes: [UInt8]
    var at: Int
    var held: UInt32 = 0
    var count = 0

    mutating func byte() throws -> UInt8 {
      guard at < bytes.count else { throw PNG.Failure.damaged(reason: "its pixels are cut off") }
      at += 1
      return bytes[at - 1]
    }

    mutating func bits(_ wanted: Int) throws -> Int {
      while count < wanted {
        held |= UInt32(try byte()) << UInt32(count)
        count += 8
      }
      defer {
        held >>= UInt32(wanted)
        count -= wanted
      }
      return Int(held & ((1 << UInt32(wanted)) - 1))
    }

    /// Drops the rest of the byte.
    mutating func toByte() throws { _ = try bits(count % 8) }
  }

  /// Huffman codes by length: how many there are of each, and their symbols in order.
  private struct Codes: Sendable {
    var counts = [Int](repeating: 0, count: 16)
    var symbols: [Int] = []

    init(_ lengths: [Int]) throws {
      for length in lengths where length > 0 { counts[length] += 1 }
      var left = 1
      for length in 1...15 {
        left = 2 * left - counts[length]
        if left < 0 { throw PNG.Failure.damaged(reason: "a code of its pixels is over-full") }
      }
      for length in 1...15 { symbols += lengths.indices.filter { lengths[$0] == length } }
    }

    func symbol(_ reader: inout Reader) throws -> Int {
      var (code, first, index) = (0, 0, 0)
      for length in 1...15 {
        code |= try reader.bits(1)
        if code - first < counts[length] { return symbols[index + code - first] }
        index += counts[length]
        first = (first + counts[length]) << 1
        code <<= 1
      }
      throw PNG.Failure.damaged(reason: "its pixels have an unknown code")
    }
  }

  private static let fixedLiterals = try? Codes(
    (0..<288).map { $0 < 144 ? 8 : $0 < 256 ? 9 : $0 < 280 ? 7 : 8 })
  private static let fixedDistances = try? Codes([Int](repeating: 5, count: 30))

  private static let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]

  private static func tables(_ reader: inout Reader) throws -> (Codes, Codes) {
    let (literals, distances) = (try reader.bits(5) + 257, try reader.bits(5) + 1)
    var lengths = [Int](repeating: 0, count: 19)
    for index in 0..<(try reader.bits(4) + 4) { lengths[order[index]] = try reader.bits(3) }
    let codes = try Codes(lengths)
    var all: [Int] = []
    while all.count < literals + distances {
      let symbol = try codes.symbol(&reader)
      switch symbol {
      case 16:
        guard let last = all.last else { throw PNG.Failure.damaged(reason: "a code of its pixels repeats nothing") }
        all += [Int](repeating: last, count: try reader.bits(2) + 3)
      case 17: all += [Int](repeating: 0, count: try reader.bits(3) + 3)
      case 18: all += [Int](repeating: 0, count: try reader.bits(7) + 11)
      default: all.append(symbol)
      }
    }
    guard all.count == literals + distances else {
      throw PNG.Failure.damaged(reason: "a code of its pixels is too long")
    }
    return (try Codes(Array(all[..<literals])), try Codes(Array(all[literals...])))
  }

  private static func copyStored(_ reader: inout Reader, _ out: inout [UInt8], _ most: Int) throws {
    try reader.toByte()
    let size = try reader.bits(16)
    guard try reader.bits(16) == ~size & 0xffff, out.count + size <= most, reader.at + size <= reader.bytes.count else {
      throw PNG.Failure.damaged(reason: "a block of its pixels has a wrong length")
    }
    out += reader.bytes[reader.at..<(reader.at + size)]
    reader.at += size
  }

  private static let lengthBase = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
  ]
  private static let lengthBits = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
  ]
  private static let distanceBase = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
    8193, 12289, 16385, 24577,
  ]

  private static func unpack(
    _ reader: inout Reader, _ out: inout [UInt8], _ literals: Codes?, _ distances: Codes?, _ most: Int
  ) throws {
    guard let literals, let distances else { throw PNG.Failure.damaged(reason: "its codes cannot be read") }
    while true {
      let symbol = try literals.symbol(&reader)
      if symbol == 256 { return }
      guard out.count < most else { throw PNG.Failure.damaged(reason: "it has more pixels than its size says") }
      if symbol < 256 {
        out.append(UInt8(symbol))
        continue
      }
      guard symbol - 257 < lengthBase.count else { throw PNG.Failure.damaged(reason: "its pixels have an unknown length") }
      let length = lengthBase[symbol - 257] + (try reader.bits(lengthBits[symbol - 257]))
      let code = try distances.symbol(&reader)
      guard code < distanceBase.count else { throw PNG.Failure.damaged(reason: "its pixels have an unknown distance") }
      let distance = distanceBase[code] + (try reader.bits(max(code / 2 - 1, 0)))
      guard distance <= out.count, out.count + length <= most else {
        throw PNG.Failure.damaged(reason: "its pixels repeat what is not there")
      }
      for _ in 0..<length { out.append(out[out.count - distance]) }
    }
  }
}
