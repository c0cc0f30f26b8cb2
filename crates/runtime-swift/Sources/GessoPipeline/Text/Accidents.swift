/// Runs of characters that make sense only as an accident of decoding.
enum Accidents {
  /// Kinds of characters by how they appear in wrongly decoded text, as members and ranges. `space` has white space
  /// besides, `word` letters and numbers.
  private static let kinds: [(name: String, members: String)] = [
    ("common", "\u{a0}\u{ad}·´–—―…’"),
    ("c1", "\u{80}-\u{9f}"),
    ("bad", "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}ªº"),
    ("law", "¶§"),
    ("currency", "¢£¥₧€"),
    ("opening", "¡«¿©΄΅‘‚“„•‹\u{f8ff}"),
    ("closing", "®»˝”›™"),
    ("numeric", "²³¹±¼½¾×µ÷⁄∂∆∏∑√∞∩∫≈≠≡≤≥№"),
    ("faces", "Ò-ÖÙ-Üò-öø-üŐŌŪŲ°"),
    ("upper", "À-ÑØÜÝĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ"),
    ("lower", "ßà-ñăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ"),
    ("upper-plain", "ÞΑ-ΩΆΈΉΊΌΎΏΪΫЁ-Я"),
    ("lower-plain", "α-ωάέήίΰа-џ"),
    ("box", "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓"),
    ("latin", "A-Za-z"),
    ("small", "a-z"),
    ("space", "\u{1c}-\u{1f}"),
    ("word", "_"),
  ]

  /// Each element is one character: kinds separated by spaces, then after `=` single characters; `!` in front means
  /// any other character, `!` alone any at all, `^` the start.
  private static let unlikely: [[String]] = [
    ["c1"],
    ["bad lower upper box opening closing currency numeric law", "bad"],
    ["latin", "lower-plain upper-plain", "bad"],
    ["bad", "lower upper box opening closing currency numeric law"],
    ["lower lower-plain box closing currency numeric", "upper"],
    ["box closing currency numeric", "lower"],
    ["lower box closing", "currency"],
    ["space", "upper", "currency"],
    ["upper box", "numeric law"],
    ["lower upper box currency closing", "opening", "numeric"],
    ["lower upper currency numeric box law", "closing", "opening"],
    ["currency numeric box", "opening"],
    ["small", "upper", "opening currency"],
    ["box", "faces"],
    ["lower upper currency numeric opening closing law", "box"],
    ["box", "closing"],
    ["lower upper", "opening closing", "word"],
    ["=Œœ", "!latin"],
    ["upper", "=°"],
    // Windows-1252 readings of two bytes.
    ["=ÂÃÎÐ", "opening closing=€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»–—´"],
    ["=×", "=²³"],
    // Arabic read as Windows-1252: four characters are required.
    ["=ØÙ", "common currency bad numeric opening=ŸŠ®°µ»", "=ØÙ", "common currency bad numeric opening=ŸŠ®°µ»"],
    // South Asian scripts read as Windows-1252.
    ["=à", "=²µ¹¼½¾"],
    // MacRoman readings.
    ["=√", "=±∂†≠®™´≤≥¥µø"],
    ["=≈", "=°¢"],
    ["=‚", "=Ä", "=ìîïòôúùû†°¢π"],
    ["=‚", "=âó", "=àä°ê"],
    // U+2000 and following read as Windows-1251, 1253 and 1257.
    ["=в", "=Ђ"],
    ["=β", "=€", "=™\u{a0}Ά\u{ad}®°"],
    ["=ā", "=€"],
    // Latin-1, Cyrillic or Greek read as Windows-1251 or 1253.
    ["=ВГРС", "c1 bad opening closing currency=°µ", "=ВГРС"],
    ["=ΒΓΞΟ", "c1 bad opening closing currency=°", "=ΒΓΞΟ"],
    ["=Г", "=ў", "=В", "=Ђ", "=В", "!", "latin= "],
    // à, á and the no-break space read as Windows-1252.
    ["=Ã", "=\u{a0}¡"],
    ["small", "=ÃÂ", "= "],
    ["small", "space", "=ÃÂ", "= "],
    ["^", "=ÃÂ", "= "],
    ["small closing=.,?!", "=Â", "opening closing= "],
  ]

  /// One character of a run.
  private struct Element: Sendable {
    /// Bits of the kinds.
    var mask: UInt32 = 0
    var singles: Set<Unicode.Scalar> = []
    var isNegated = false
    /// Any character but a line end.
    var isAny = false

    init(_ text: String) {
      var scalars = Array(text.unicodeScalars)[...]
      if scalars.first == "!" {
        scalars = scalars.dropFirst()
        isNegated = true
        isAny = scalars.isEmpty
      }
      let names = scalars.prefix { $0 != "=" }
      singles = Set(scalars.dropFirst(names.count + 1))
      for name in names.split(separator: " ") {
        if let bit = kinds.firstIndex(where: { $0.name == name.text }) { mask |= 1 << UInt32(bit) }
      }
    }

    func holds(_ scalar: Unicode.Scalar, _ bits: UInt32) -> Bool {
      if isAny { return scalar != "\n" }
      return (bits & mask != 0 || (!singles.isEmpty && singles.contains(scalar))) != isNegated
    }
  }

  private static let runs: [(atStart: Bool, elements: [Element])] = unlikely.map { run in
    let atStart = run.first == "^"
    return (atStart, (atStart ? run.dropFirst() : run[...]).map(Element.init))
  }

  private static let ranges: [(range: ClosedRange<UInt32>, bit: UInt32)] = kinds.enumerated().flatMap { bit, kind in
    var found: [(ClosedRange<UInt32>, UInt32)] = []
    var rest = Array(kind.members.unicodeScalars)[...]
    while let first = rest.popFirst() {
      if rest.first == "-", let last = rest.dropFirst().first {
        found.append((first.value...last.value, 1 << UInt32(bit)))
        rest = rest.dropFirst(2)
      } else {
        found.append((first.value...first.value, 1 << UInt32(bit)))
      }
    }
    return found
  }

  private static func bit(_ name: String) -> UInt32 {
    kinds.firstIndex { $0.name == name }.map { 1 << UInt32($0) } ?? 0
  }

  private static let (space, word) = (bit("space"), bit("word"))

  /// Bits of the characters below U+2700, where all members but the last few are.
  private static let lowBits: [UInt32] = (0..<0x2700).map { value in
    Unicode.Scalar(UInt32(value)).map(computedBits) ?? 0
  }

  private static func computedBits(_ scalar: Unicode.Scalar) -> UInt32 {
    var bits: UInt32 = 0
    for (range, bit) in ranges where range.contains(scalar.value) { bits |= bit }
    if scalar.isSpace { bits |= space }
    if scalar.isLetter || scalar.isNumber { bits |= word }
    return bits
  }

  private static func bits(_ scalar: Unicode.Scalar) -> UInt32 {
    scalar.value < 0x2700 ? lowBits[Int(scalar.value)] : computedBits(scalar)
  }

  /// Whether the text has such a run.
  static func areIn(_ text: some Collection<Unicode.Scalar>) -> Bool {
    let text = Array(text)
    let kinds = text.map(bits)
    for start in text.indices {
      for run in runs where !run.atStart || start == 0 {
        var at = start
        for element in run.elements {
          guard at < text.count, element.holds(text[at], kinds[at]) else {
            at = -1
            break
          }
          at += 1
        }
        if at >= 0 { return true }
      }
    }
    return false
  }
}
