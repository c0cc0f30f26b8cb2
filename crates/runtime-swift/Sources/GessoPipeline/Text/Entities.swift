/// HTML character references.
enum Entities {
  private static let named: [String: [Unicode.Scalar]] = {
    var table: [String: [Unicode.Scalar]] = [:]
    for row in entityTable.split(whereSeparator: { $0 == " " || $0 == "\n" }) {
      let halves = row.split(separator: ";")
      guard halves.count == 2 else { continue }
      table[String(halves[0])] = halves[1].split(separator: "+").compactMap { code in
        UInt32(code, radix: 16).flatMap(Unicode.Scalar.init)
      }
    }
    return table
  }()

  /// Longest name or number that is read.
  private static let longest = 24

  /// Decodes the references that are complete: a name or number of at most 24 characters and a semicolon.
  ///
  /// A semicolon is never decoded, so that `&#59;` stays as it is.
  static func unescaped(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    guard text.contains("&") else { return text }
    var out: [Unicode.Scalar] = []
    var at = 0
    while at < text.count {
      guard text[at] == "&", let (decoded, end) = reference(text, from: at) else {
        out.append(text[at])
        at += 1
        continue
      }
      out += decoded ?? Array(text[at..<end])
      at = end
    }
    return out
  }

  /// The reference that begins at `start`: what it stands for, if anything, and its end.
  private static func reference(_ text: [Unicode.Scalar], from start: Int) -> ([Unicode.Scalar]?, Int)? {
    var begin = start + 1
    let isNumber = begin < text.count && text[begin] == "#"
    if isNumber { begin += 1 }
    let tail = text[min(begin, text.count)...]
    guard let end = tail.firstIndex(where: { !isAlphanumeric($0) }), text[end] == ";",
      (1...longest).contains(end - begin)
    else { return nil }
    let name = text[begin..<end]
    return (isNumber ? number(name) : named[name.text], end + 1)
  }

  private static func isAlphanumeric(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "0"..."9", "A"..."Z", "a"..."z": true
    default: false
    }
  }

  /// What a numeric reference stands for, as browsers read it; nil when it is no number.
  private static func number(_ digits: ArraySlice<Unicode.Scalar>) -> [Unicode.Scalar]? {
    let isHex = digits.first == "x" || digits.first == "X"
    let digits = isHex ? digits.dropFirst() : digits
    guard !digits.isEmpty else { return nil }
    var code: UInt32 = 0
    for digit in digits {
      guard let value = Character(digit).hexDigitValue, isHex || value < 10 else { return nil }
      // Beyond the last character all numbers are alike.
      code = min(code, 0x11_0000) * (isHex ? 16 : 10) + UInt32(value)
    }
    switch code {
    case 0: return ["\u{fffd}"]
    case 59: return nil
    case 0x80...0x9f: return [Charset.windows1252.character(UInt8(code))]
    case 0x1...0x8, 0xb, 0xe...0x1f, 0x7f, 0xfdd0...0xfdef: return []
    case ...0x10_ffff where code & 0xfffe == 0xfffe: return []
    default: return [Unicode.Scalar(code) ?? "\u{fffd}"]
    }
  }
}
