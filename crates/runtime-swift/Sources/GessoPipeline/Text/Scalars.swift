/// Text is handled by Unicode scalars: Swift's characters and its equality of strings join what CLIP keeps apart.
extension Unicode.Scalar {
  /// Whether it has the Unicode property White_Space.
  var isSpace: Bool { value < 0x80 ? (value == 32 || (9...13).contains(value)) : properties.isWhitespace }

  /// Whether it is of general category L.
  var isLetter: Bool {
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }

  /// Whether it is of general category N.
  var isNumber: Bool {
    switch properties.generalCategory {
    case .decimalNumber, .letterNumber, .otherNumber: true
    default: false
    }
  }

  /// Whether it is of general category C: controls, formats, private use, unassigned.
  var isOther: Bool {
    switch properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned: true
    default: false
    }
  }

  /// Whether it may stand in a word: alphabetic, numeric or an underscore.
  var isWordCharacter: Bool { self == "_" || properties.isAlphabetic || isNumber }
}

extension Collection where Element == Unicode.Scalar {
  /// The scalars as a string.
  var text: String {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: self)
    return String(view)
  }

  /// Whether they begin with these scalars.
  func hasPrefix(_ other: some Collection<Unicode.Scalar>) -> Bool { starts(with: other) }
}

extension BidirectionalCollection where Element == Unicode.Scalar {
  /// Without white space at both ends.
  var trimmed: SubSequence {
    guard let first = firstIndex(where: { !$0.isSpace }), let last = lastIndex(where: { !$0.isSpace }) else {
      return self[startIndex..<startIndex]
    }
    return self[first...last]
  }
}

/// Small letters by the full mapping of Unicode; a capital sigma that ends a word becomes ς.
func lowered(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
  var out: [Unicode.Scalar] = []
  out.reserveCapacity(text.count)
  for (index, scalar) in text.enumerated() {
    switch scalar {
    case "A"..."Z": out.append(Unicode.Scalar(UInt8(scalar.value) + 32))
    case "\u{0}"..."\u{7f}": out.append(scalar)
    case "\u{3a3}": out.append(endsWord(text, at: index) ? "\u{3c2}" : "\u{3c3}")
    default: out.append(contentsOf: scalar.properties.lowercaseMapping.unicodeScalars)
    }
  }
  return out
}

/// Whether a cased letter stands before `index` and none after, those that case ignores left out.
private func endsWord(_ text: [Unicode.Scalar], at index: Int) -> Bool {
  let before = text[..<index].last { !$0.properties.isCaseIgnorable }
  let after = text[(index + 1)...].first { !$0.properties.isCaseIgnorable }
  return (before?.properties.isCased ?? false) && !(after?.properties.isCased ?? false)
}
