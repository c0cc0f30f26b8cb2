import Foundation

/// The zip form of adapter assets (`docs/adapter-format.md` section 2): stored members, sorted names, one fixed time stamp, no
/// extra fields.
///
/// There is exactly one archive for a list of members, so every header is rebuilt from the directory and compared: a changed
/// byte anywhere in the file is an error.
struct StoredArchive {
  /// One member.
  struct Member: Equatable {
    let name: String
    /// Bytes of its content.
    let size: Int
    /// Where its content begins in the file.
    let offset: Int
    let crc: UInt32
  }

  let file: InputFile
  /// In the order of their names' bytes.
  let members: [Member]

  static let mostMembers = 64
  private static let longestName = 200
  private static let localBytes = 30
  private static let centralBytes = 46
  private static let endBytes = 22

  /// Reads the directory and compares every header; the contents are read by ``stream(_:_:)``.
  init(_ file: InputFile) throws {
    self.file = file
    func form(_ reason: String) -> GessoError { .notAnAsset(file: file.url.path, reason: reason) }
    guard file.size >= Self.endBytes else { throw form("it is too short to be a zip archive") }
    guard file.size <= Int(UInt32.max) else { throw form("it is too large") }
    let at = file.size - Self.endBytes
    let end = Fields(try file.bytes(at: at, count: Self.endBytes))
    guard end.word(0) == 0x0605_4b50 else {
      throw form("the end record of a zip archive is missing: the file is cut off, or it is something else")
    }
    let count = end.half(8)
    guard count <= Self.mostMembers else { throw form("it has too many members") }
    let start = Int(end.word(16))
    guard start <= at, at - start <= count * (Self.centralBytes + Int(UInt16.max)) else {
      throw form("the zip directory is damaged")
    }
    let directory = Fields(try file.bytes(at: start, count: at - start))
    let entries = try Self.entries(directory, count, file.url, form)
    var cursor = 0
    var offset = 0
    var members: [Member] = []
    for entry in entries {
      func refuse(_ reason: String) -> GessoError {
        .member(file: file.url.path, member: entry.name, reason: reason)
      }
      guard entry.method == 0, entry.flags == 0 else {
        throw refuse("it is compressed or encrypted; members must be stored")
      }
      if let last = members.last, !last.name.utf8.lexicographicallyPrecedes(entry.name.utf8) {
        throw refuse("members must be sorted by name and unique")
      }
      let local = entry.local()
      let central = entry.central(offset: UInt32(offset))
      guard offset + local.count <= start, directory.bytes.dropFirst(cursor).starts(with: central),
        try file.bytes(at: offset, count: local.count) == local
      else {
        throw refuse("its zip headers are not in the form of an adapter asset")
      }
      let data = offset + local.count
      guard Int(entry.size) <= start - data else { throw refuse("it reaches beyond the archive") }
      members.append(Member(name: entry.name, size: Int(entry.size), offset: data, crc: entry.crc))
      offset = data + Int(entry.size)
      cursor += central.count
    }
    let tail = Self.end(count: UInt16(count), size: UInt32(at - start), offset: UInt32(start))
    guard offset == start, cursor == at - start, end.bytes == tail else {
      throw form("there are bytes that belong to no member, or the end record is damaged")
    }
    self.members = members
  }

  /// Hands out the content of a member piece by piece; throws after the last piece when its checksum is wrong.
  func stream(_ member: Member, _ take: (UnsafeRawBufferPointer) throws -> Void) throws {
    var crc = CRC32()
    try file.stream(at: member.offset, count: member.size) {
      crc.update($0)
      try take($0)
    }
    guard crc.finish() == member.crc else {
      throw GessoError.member(
        file: file.url.path, member: member.name,
        reason: "its bytes do not match their checksum; the file is damaged")
    }
  }

  private static func entries(
    _ directory: Fields, _ count: Int, _ url: URL, _ form: (String) -> GessoError
  ) throws -> [Entry] {
    var entries: [Entry] = []
    var cursor = 0
    for _ in 0..<count {
      guard directory.bytes.count - cursor >= centralBytes, directory.word(cursor) == 0x0201_4b50 else {
        throw form("the zip directory is damaged")
      }
      let length = directory.half(cursor + 28)
      guard directory.bytes.count - cursor - centralBytes >= length else {
        throw form("the zip directory is damaged")
      }
      let raw = directory.bytes[(cursor + centralBytes)..<(cursor + centralBytes + length)]
      guard let name = String(validating: raw, as: UTF8.self) else { throw form("a member's name is not UTF-8") }
      if let reason = unsafeName(name) {
        throw GessoError.member(file: url.path, member: name.printable, reason: reason)
      }
      entries.append(
        Entry(
          name: name, flags: directory.half(cursor + 8), method: directory.half(cursor + 10),
          crc: directory.word(cursor + 16), size: directory.word(cursor + 24)))
      cursor += centralBytes + length
    }
    return entries
  }

  /// Why a name may not be a member's, if it may not: it must be relative, of printable ASCII without `\` and `:`, and no part
  /// of it may be empty, `.` or `..`.
  static func unsafeName(_ name: String) -> String? {
    let bytes = name.utf8
    if bytes.isEmpty || bytes.count > longestName { return "the name is empty or too long" }
    let allowed = bytes.allSatisfy { (0x21...0x7e).contains($0) && $0 != UInt8(ascii: "\\") && $0 != UInt8(ascii: ":") }
    if !allowed { return "the name has characters that are not allowed" }
    if bytes.first == UInt8(ascii: "/") { return "the name is absolute" }
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    if parts.contains("..") { return "the name leads out of the archive (`..`)" }
    if parts.contains(where: { $0.isEmpty || $0 == "." }) { return "the name has an empty part" }
    return nil
  }

  private static func end(count: UInt16, size: UInt32, offset: UInt32) -> [UInt8] {
    var bytes: [UInt8] = [0x50, 0x4b, 0x05, 0x06, 0, 0, 0, 0]
    for part in [little(count), little(count), little(size), little(offset), [0, 0]] { bytes += part }
    return bytes
  }
}

/// Little-endian numbers in bytes. A number that reaches beyond the end is 0.
private struct Fields {
  let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func half(_ at: Int) -> Int { Int(number(at, 2)) }
  func word(_ at: Int) -> UInt32 { number(at, 4) }

  private func number(_ at: Int, _ count: Int) -> UInt32 {
    guard at >= 0, at <= bytes.count - count else { return 0 }
    var value: UInt32 = 0
    for index in (0..<count).reversed() { value = value << 8 | UInt32(bytes[at + index]) }
    return value
  }
}

private func little(_ value: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

/// What the directory says of one member.
private struct Entry {
  let name: String
  let flags: Int
  let method: Int
  let crc: UInt32
  let size: UInt32

  /// The 26 bytes that local and central headers share: version needed up to the length of the extra field.
  private func shared() -> [UInt8] {
    var bytes: [UInt8] = [10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0]
    for part in [little(crc), little(size), little(size), little(UInt16(name.utf8.count)), [0, 0]] { bytes += part }
    return bytes
  }

  func local() -> [UInt8] {
    var bytes: [UInt8] = [0x50, 0x4b, 0x03, 0x04]
    bytes += shared()
    bytes += Array(name.utf8)
    return bytes
  }

  func central(offset: UInt32) -> [UInt8] {
    var bytes: [UInt8] = [0x50, 0x4b, 0x01, 0x02, 10, 0]
    bytes += shared()
    bytes += [UInt8](repeating: 0, count: 10)
    bytes += little(offset)
    bytes += Array(name.utf8)
    return bytes
  }
}

extension String {
  /// For messages: without control characters and not longer than a line.
  var printable: String {
    let shown = unicodeScalars.prefix(200).map { $0.value < 0x20 || $0.value == 0x7f ? "?" : Character($0) }
    return String(shown)
  }

  fileprivate init?(validating bytes: some Collection<UInt8>, as encoding: UTF8.Type) {
    guard let text = String(bytes: bytes, encoding: .utf8), text.utf8.elementsEqual(bytes) else { return nil }
    self = text
  }
}
