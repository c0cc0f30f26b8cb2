/// Text that was decoded with the wrong encoding, found and decoded again.
enum Mojibake {
  /// The text with wrong decodings undone, layer by layer.
  static func fixed(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var text = text
    // Undoing a layer shortens the text or removes C1 controls.
    for _ in 0...(4 * text.count) {
      guard let next = fixedOnce(text), next != text else { break }
      text = next
    }
    return text
  }

  private static func fixedOnce(_ text: [Unicode.Scalar]) -> [Unicode.Scalar]? {
    if text.allSatisfy(\.isASCII) || !Accidents.areIn(text) { return nil }
    for charset in [Charset.latin1] + Charset.all {
      if let decoded = decodedAgain(text, charset) { return decoded }
    }
    let inside = decodedInside(text)
    if inside != text { return inside }
    if let windows = latin1AsWindows1252(text), windows != text { return windows }
    return text.map(Fixes.c1AsWindows1252)
  }

  /// The text as UTF-8, if `charset` was the mistake.
  private static func decodedAgain(_ text: [Unicode.Scalar], _ charset: Charset) -> [Unicode.Scalar]? {
    guard var bytes = charset.encoded(text) else { return nil }
    if charset.name != "macintosh" { bytes = ByteRuns.withNoBreakSpaces(bytes) }
    if charset.lossy { bytes = ByteRuns.withLostBytesMarked(bytes) }
    return ByteRuns.utf8OrVariant(bytes)
  }

  /// Characters that stand for the first and further bytes of UTF-8 in one of the Western encodings.
  private struct Clues: Sendable {
    let first: [Set<Unicode.Scalar>]
    let further: Set<Unicode.Scalar>

    init() {
      let western = Charset.all.filter { $0.name.hasPrefix("windows") } + [Charset.latin1]
      let set = { (bytes: [UInt8]) in Set(western.flatMap { charset in bytes.map(charset.character) }) }
      first = [set(Array(0xc2...0xdf)), set(Array(0xe0...0xef)), set([0xf0, 0xf3])]
      further = set(Array(0x80...0xbf)).union([" "])
    }
  }

  private static let clues = Clues()

  /// Further-byte characters that may well stand for themselves beside wrongly decoded text.
  private static let punctuation = Set(" –—―‘’‚“”„•…".unicodeScalars)

  /// Wrongly decoded runs inside of text that is right.
  private static func decodedInside(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var out: [Unicode.Scalar] = []
    var at = 0
    var before: Unicode.Scalar?
    while at < text.count {
      let isGlued = before.map { clues.further.contains($0) && !punctuation.contains($0) } ?? false
      let length = isGlued ? 0 : runLength(text[at...])
      if length == 0 {
        out.append(text[at])
        before = text[at]
        at += 1
        continue
      }
      let run = Array(text[at..<(at + length)])
      out += length < text.count && Accidents.areIn(run) ? fixed(run) : run
      before = run.last
      at += length
    }
    return out
  }

  /// Length of the characters from the start that look like whole UTF-8 sequences.
  private static func runLength(_ text: ArraySlice<Unicode.Scalar>) -> Int {
    var at = text.startIndex
    while at < text.endIndex, let more = clues.first.firstIndex(where: { $0.contains(text[at]) }) {
      let end = at + more + 2
      guard end <= text.endIndex, text[(at + 1)..<end].allSatisfy(clues.further.contains) else { break }
      at = end
    }
    return at - text.startIndex
  }

  /// Latin-1 text read as Windows-1252, unless it has bytes that Windows-1252 leaves free.
  private static func latin1AsWindows1252(_ text: [Unicode.Scalar]) -> [Unicode.Scalar]? {
    guard let bytes = Charset.latin1.encoded(text) else { return nil }
    if bytes.contains(where: { [0x81, 0x8d, 0x8f, 0x90, 0x9d].contains($0) }) { return nil }
    // Here 0x1a is itself.
    return bytes.map { $0 == 0x1a ? "\u{1a}" : Charset.windows1252.character($0) }
  }
}
