import Foundation

/// JSON (RFC 8259) of strangers, checked before Foundation reads it: swift-foundation ends the process over keys with control
/// characters or wrong escapes, and readers differ over a key that stands twice.
struct JSONText {
  /// What is wrong with a text, and where.
  struct Problem: Error {
    let reason: String
    let byte: Int
  }

  private let bytes: UnsafeBufferPointer<UInt8>
  private var at = 0

  /// Deepest nesting that is read.
  private static let deepest = 32

  /// Reads a value after checking the text.
  ///
  /// - Throws: ``Problem``, `DecodingError`.
  static func decode<Value: Decodable>(_ type: Value.Type, from data: Data) throws -> Value {
    try check(data)
    return try JSONDecoder().decode(type, from: data)
  }

  /// Checks that a text is one JSON value.
  static func check(_ data: Data) throws {
    guard String(data: data, encoding: .utf8) != nil else { throw Problem(reason: "it is not UTF-8", byte: 0) }
    try data.withUnsafeBytes { bytes in
      var text = JSONText(bytes: bytes.bindMemory(to: UInt8.self))
      try text.value(0)
      text.space()
      if text.at < bytes.count { throw text.problem("there is more after the end") }
    }
  }

  private init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  private var next: UInt8 { at < bytes.count ? bytes[at] : 0 }

  private func problem(_ reason: String) -> Problem { Problem(reason: reason, byte: at) }

  private mutating func space() {
    while at < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[at]) { at += 1 }
  }

  private mutating func take(_ byte: UInt8) -> Bool {
    guard at < bytes.count, bytes[at] == byte else { return false }
    at += 1
    return true
  }

  private mutating func value(_ depth: Int) throws {
    guard depth < Self.deepest else { throw problem("it is nested too deeply") }
    space()
    switch next {
    case UInt8(ascii: "{"):
      var keys: Set<String> = []
      try list(UInt8(ascii: "}")) { text in
        text.space()
        let start = text.at
        let key = try text.string()
        if !keys.insert(key).inserted {
          throw Problem(reason: "`\(key.printable)` stands twice", byte: start)
        }
        text.space()
        guard text.take(UInt8(ascii: ":")) else { throw text.problem("expected `:`") }
        try text.value(depth + 1)
      }
    case UInt8(ascii: "["): try list(UInt8(ascii: "]")) { try $0.value(depth + 1) }
    case UInt8(ascii: "\""): _ = try string()
    case UInt8(ascii: "t"): try word("true")
    case UInt8(ascii: "f"): try word("false")
    case UInt8(ascii: "n"): try word("null")
    default: try number()
    }
  }

  /// Items between commas up to `end`.
  private mutating func list(_ end: UInt8, _ item: (inout JSONText) throws -> Void) throws {
    at += 1
    space()
    if take(end) { return }
    while true {
      try item(&self)
      space()
      if take(end) { return }
      guard take(UInt8(ascii: ",")) else { throw problem("expected `,` or an end") }
    }
  }

  private mutating func word(_ word: String) throws {
    for byte in word.utf8 where !take(byte) { throw problem("expected `\(word)`") }
  }

  private mutating func digits() throws {
    let start = at
    while (0x30...0x39).contains(next) { at += 1 }
    if at == start { throw problem("expected a value") }
  }

  private mutating func number() throws {
    _ = take(UInt8(ascii: "-"))
    if !take(UInt8(ascii: "0")) { try digits() }
    if take(UInt8(ascii: ".")) { try digits() }
    if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
      if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
      try digits()
    }
  }

  /// A string with its escapes resolved.
  private mutating func string() throws -> String {
    guard take(UInt8(ascii: "\"")) else { throw problem("expected a string") }
    var units: [UInt8] = []
    while at < bytes.count {
      let byte = bytes[at]
      at += 1
      switch byte {
      case UInt8(ascii: "\""): return String(decoding: units, as: UTF8.self)
      case 0..<0x20: throw problem("a string has a control character")
      case UInt8(ascii: "\\"): units += Array(String(try escape()).utf8)
      default: units.append(byte)
      }
    }
    throw problem("a string has no end")
  }

  private mutating func escape() throws -> Character {
    let byte = next
    at += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Character(Unicode.Scalar(byte))
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{c}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      let first = try unit()
      guard (0xd800...0xdfff).contains(first) else { return Character(Unicode.Scalar(first) ?? "?") }
      guard first < 0xdc00, take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else { break }
      let second = try unit()
      guard (0xdc00...0xdfff).contains(second) else { break }
      let scalar = 0x10000 + (UInt32(first) - 0xd800) << 10 + (UInt32(second) - 0xdc00)
      return Character(Unicode.Scalar(scalar) ?? "?")
    default: break
    }
    throw problem("a string has a wrong escape")
  }

  /// Four hexadecimal digits.
  private mutating func unit() throws -> UInt16 {
    var value: UInt16 = 0
    for _ in 0..<4 {
      guard let digit = Character(Unicode.Scalar(next)).hexDigitValue, next < 0x80 else {
        throw problem("a string has a wrong escape")
      }
      value = value << 4 | UInt16(digit)
      at += 1
    }
    return value
  }
}
