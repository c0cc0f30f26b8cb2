import Foundation

/// What `ftfy.fix_text` of ftfy 6.3.1 (Robyn Speer, Apache-2.0) does with its default settings, since the tokenizers
/// that the models were trained with call it.
enum Fixes {
  /// Longest piece that is looked at as one, in characters.
  private static let longest = 1_000_000

  /// The text with its lines fixed one by one.
  ///
  /// HTML references are decoded up to the first line that has a `<`: after that the text may be HTML on purpose.
  static func cleaned(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var decodesHTML = true
    var out: [Unicode.Scalar] = []
    var rest = text[...]
    while !rest.isEmpty {
      let lineEnd = rest.firstIndex(of: "\n").map { $0 + 1 } ?? rest.endIndex
      let segment = rest.prefix(min(lineEnd - rest.startIndex, longest))
      if segment.contains("<") { decodesHTML = false }
      out += fixed(Array(segment), decodesHTML: decodesHTML)
      rest = rest.dropFirst(segment.count)
    }
    return out
  }

  private static func fixed(_ segment: [Unicode.Scalar], decodesHTML: Bool) -> [Unicode.Scalar] {
    var text = segment
    // Each round undoes one layer; a text has fewer layers than bytes.
    for _ in 0...(4 * segment.count) {
      let unescaped = decodesHTML ? Entities.unescaped(text) : text
      let encoded = Mojibake.fixed(unescaped).map(c1AsWindows1252)
      let lines = withUnixLines(replacedCharacters(encoded))
      let visible = withoutTerminalEscapes(lines).filter { !isRemoved($0) }
      let composed = visible.allSatisfy(\.isASCII)
        ? visible : Array(visible.text.precomposedStringWithCanonicalMapping.unicodeScalars)
      if composed == text { break }
      text = composed
    }
    return text
  }

  /// C1 controls are read as the Windows-1252 characters of the same byte.
  static func c1AsWindows1252(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    switch scalar.value {
    case 0x80...0x9f: Charset.windows1252.character(UInt8(scalar.value))
    default: scalar
    }
  }

  /// Latin ligatures taken apart, full-width and half-width forms made normal, curly quotes made straight.
  private static func replacedCharacters(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    if text.allSatisfy(\.isASCII) { return text }
    var out: [Unicode.Scalar] = []
    out.reserveCapacity(text.count)
    for scalar in text {
      switch scalar {
      case "\u{0}"..."\u{7f}": out.append(scalar)
      case "\u{3000}": out.append(" ")
      case "\u{ff01}"..."\u{ffef}":
        let normal = String(Character(scalar)).precomposedStringWithCompatibilityMapping
        out += normal.unicodeScalars.map(straight)
      default:
        if let letters = ligatures[scalar] {
          out += letters.unicodeScalars
        } else {
          out.append(straight(scalar))
        }
      }
    }
    return out
  }

  private static func straight(_ scalar: Unicode.Scalar) -> Unicode.Scalar {
    switch scalar {
    case "\u{2bc}", "\u{2018}"..."\u{201b}": "'"
    case "\u{201c}"..."\u{201f}": "\""
    default: scalar
    }
  }

  private static let ligatures: [Unicode.Scalar: String] = [
    "\u{132}": "IJ", "\u{133}": "ij",
    // The apostrophe of this one is a letter until the quotes are made straight.
    "\u{149}": "'n",
    "\u{1f1}": "DZ", "\u{1f2}": "Dz", "\u{1f3}": "dz", "\u{1c4}": "D\u{17d}", "\u{1c5}": "D\u{17e}",
    "\u{1c6}": "d\u{17e}", "\u{1c7}": "LJ", "\u{1c8}": "Lj", "\u{1c9}": "lj", "\u{1ca}": "NJ", "\u{1cb}": "Nj",
    "\u{1cc}": "nj", "\u{fb00}": "ff", "\u{fb01}": "fi", "\u{fb02}": "fl", "\u{fb03}": "ffi", "\u{fb04}": "ffl",
    "\u{fb05}": "\u{17f}t", "\u{fb06}": "st",
  ]

  /// All kinds of line ends as `\n`.
  private static func withUnixLines(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var out: [Unicode.Scalar] = []
    out.reserveCapacity(text.count)
    for (index, scalar) in text.enumerated() {
      switch scalar {
      case "\n" where index > 0 && text[index - 1] == "\r": break
      case "\r", "\u{2028}", "\u{2029}", "\u{85}": out.append("\n")
      default: out.append(scalar)
      }
    }
    return out
  }

  /// Without the escape sequences that colour a terminal: ESC, `[`, digits and semicolons, a letter.
  private static func withoutTerminalEscapes(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    guard text.contains("\u{1b}") else { return text }
    var out: [Unicode.Scalar] = []
    var at = 0
    while at < text.count {
      if text[at] == "\u{1b}", at + 1 < text.count, text[at + 1] == "[",
        let end = text[(at + 2)...].firstIndex(where: { $0 != ";" && $0.properties.generalCategory != .decimalNumber }),
        ("a"..."z").contains(text[end]) || ("A"..."Z").contains(text[end])
      {
        at = end + 1
      } else {
        out.append(text[at])
        at += 1
      }
    }
    return out
  }

  /// Control characters without a visible effect.
  private static func isRemoved(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0...0x8, 0xb, 0xe...0x1f, 0x7f, 0x206a...0x206f, 0xfeff, 0xfff9...0xfffc: true
    default: false
    }
  }
}
