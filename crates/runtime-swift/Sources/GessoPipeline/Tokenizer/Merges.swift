/// Byte-pair merges, by numbers of symbols.
struct Merges: Sendable {
  /// Most merges of CLIP's vocabulary that are read, as transformers does it.
  private static let most = 49152 - 256 - 2

  /// Number of each symbol.
  private var numbers: [String: Int] = [:]
  private(set) var symbols: [String] = []
  /// Rank and merged symbol of each pair, its first symbol in the upper half of the key.
  private var ranks: [UInt64: (rank: Int, merged: Int)] = [:]

  /// Reads `merges.txt`: the first line is skipped.
  ///
  /// - Throws: `PipelineError.merges` for a line that is no pair or whose merged symbol `isKnown` does not know.
  init(_ text: String, isKnown: (String) -> Bool) throws {
    let lines = Array(text.utf8).trimmedASCII.split(separator: 0x0a, omittingEmptySubsequences: false)
    for (rank, line) in lines.dropFirst().prefix(Self.most).enumerated() {
      let words = line.split { $0 == 0x20 || (0x09...0x0d).contains($0) }
      guard words.count == 2 else {
        throw PipelineError.merges(line: rank + 2, reason: "expected two symbols, found \(words.count)")
      }
      let (first, second) = (String(decoding: words[0], as: UTF8.self), String(decoding: words[1], as: UTF8.self))
      guard isKnown(first + second) else {
        throw PipelineError.merges(line: rank + 2, reason: "`\(first + second)` is not in `vocab.json`")
      }
      ranks[Self.key(number(first), number(second))] = (rank, number(first + second))
    }
  }

  private static func key(_ first: Int, _ second: Int) -> UInt64 { UInt64(first) << 32 | UInt64(second) }

  /// The number of a symbol; it gets one if it has none.
  mutating func number(_ symbol: String) -> Int {
    if let known = numbers[symbol] { return known }
    numbers[symbol] = symbols.count
    symbols.append(symbol)
    return symbols.count - 1
  }

  /// Merges the symbols of one word as far as they go, always every place of the pair of lowest rank.
  func tokens(_ symbols: [Int]) -> [Int] {
    var symbols = symbols
    while symbols.count > 1 {
      var best: (rank: Int, merged: Int, first: Int, second: Int)?
      for index in 1..<symbols.count {
        let (first, second) = (symbols[index - 1], symbols[index])
        if let (rank, merged) = ranks[Self.key(first, second)], rank < best?.rank ?? .max {
          best = (rank, merged, first, second)
        }
      }
      guard let best else { break }
      var merged: [Int] = []
      merged.reserveCapacity(symbols.count)
      var at = 0
      while at < symbols.count {
        if symbols[at] == best.first, at + 1 < symbols.count, symbols[at + 1] == best.second {
          merged.append(best.merged)
          at += 2
        } else {
          merged.append(symbols[at])
          at += 1
        }
      }
      symbols = merged
    }
    return symbols
  }
}

extension Array where Element == UInt8 {
  /// Without ASCII white space at both ends.
  fileprivate var trimmedASCII: ArraySlice<UInt8> {
    let isSpace = { (byte: UInt8) in byte == 0x20 || (0x09...0x0d).contains(byte) }
    guard let first = firstIndex(where: { !isSpace($0) }), let last = lastIndex(where: { !isSpace($0) }) else { return [] }
    return self[first...last]
  }
}
