/// CRC-32 of zip: polynomial 0xEDB88320, reflected, start and end inverted.
struct CRC32 {
  private var value = UInt32.max

  /// Takes the next bytes.
  mutating func update(_ bytes: UnsafeRawBufferPointer) {
    Self.table.withUnsafeBufferPointer { table in
      guard let table = table.baseAddress, let first = bytes.baseAddress else { return }
      var crc = value
      var at = 0
      while at < bytes.count {
        let byte = first.load(fromByteOffset: at, as: UInt8.self)
        crc = table[Int(truncatingIfNeeded: (crc ^ UInt32(truncatingIfNeeded: byte)) & 0xff)] ^ (crc &>> 8)
        at &+= 1
      }
      value = crc
    }
  }

  /// The checksum of all bytes so far.
  func finish() -> UInt32 { ~value }

  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { crc, _ in crc & 1 == 1 ? 0xEDB8_8320 ^ (crc >> 1) : crc >> 1 }
  }
}
