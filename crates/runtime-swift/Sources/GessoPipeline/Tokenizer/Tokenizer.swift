import Foundation

/// Tokens of a prompt as the text encoder gets them.
public struct EncodedPrompt: Equatable, Sendable {
  /// Ids, cut or padded to the context.
  public var ids: [Int32]
  /// Weight of each id; 1 for the special tokens and the padding.
  public var weights: [Double]
  /// Whether the end of the prompt was cut off.
  public var isTruncated: Bool
}

/// What happens to a prompt before it is split.
public enum CleanUp: Sendable {
  /// Wrong encodings, HTML references, ligatures, widths, quotes and controls are repaired: transformers' slow
  /// tokenizer with ftfy, like the original CLIP.
  case ftfy
  /// Controls are removed and Chinese characters stand alone: transformers' slow tokenizer without ftfy.
  case basic
}

/// CLIP's tokenizer: byte-level byte-pair encoding of cleaned, lower-case text.
///
/// Gives the ids of transformers' slow `CLIPTokenizer`, by default as with ftfy installed.
public struct Tokenizer: Sendable {
  /// Tokens of a prompt that the text encoder takes, `<|startoftext|>` and `<|endoftext|>` included.
  public static let context = 77

  private static let startToken = Array("<|startoftext|>".unicodeScalars)
  private static let endToken = Array("<|endoftext|>".unicodeScalars)

  private let ids: [String: Int32]
  private let merges: Merges
  /// Number in `merges` of each byte's symbol, alone and at the end of a word.
  private let byteSymbols: [(inside: Int, last: Int)]
  /// Id of each symbol of `merges`.
  private let symbolIDs: [Int32]
  /// Id of `<|startoftext|>`.
  public let start: Int32
  /// Id of `<|endoftext|>`.
  public let end: Int32
  /// Id that fills up short prompts.
  public private(set) var pad: Int32
  /// What happens to a prompt before it is split.
  public var cleanUp = CleanUp.ftfy

  /// Reads the bytes of `vocab.json` (token → id) and the text of `merges.txt` (a version line, then a pair per line).
  ///
  /// The ids of `<|startoftext|>` and `<|endoftext|>` come from the vocabulary; shorter prompts are padded with the
  /// latter.
  ///
  /// - Throws: `PipelineError.vocabulary`, `PipelineError.merges`.
  public init(vocabulary: Data, merges text: String) throws {
    do {
      ids = try JSONDecoder().decode([String: Int32].self, from: vocabulary)
    } catch {
      throw PipelineError.vocabulary(reason: "expected an object of token → id: \(error.localizedDescription)")
    }
    if let (token, id) = ids.filter({ $0.value < 0 }).min(by: { $0.key < $1.key }) {
      throw PipelineError.vocabulary(reason: "token `\(token)` has the negative id \(id)")
    }
    let special = { [ids] (token: String) in
      guard let id = ids[token] else { throw PipelineError.vocabulary(reason: "there is no token `\(token)`") }
      return id
    }
    start = try special(Self.startToken.text)
    end = try special(Self.endToken.text)
    pad = end
    var merges = try Merges(text) { [ids] in ids[$0] != nil }
    byteSymbols = Self.characters.map { (merges.number($0), merges.number($0 + "</w>")) }
    symbolIDs = merges.symbols.map { [ids, end] in ids[$0] ?? end }
    self.merges = merges
  }

  /// Reads `vocab.json` and `merges.txt` of a folder.
  ///
  /// - Throws: `PipelineError`, or Foundation's error for a file that cannot be read.
  public init(folder: URL) throws {
    let merges = try String(contentsOf: folder.appendingPathComponent("merges.txt"), encoding: .utf8)
    try self.init(vocabulary: Data(contentsOf: folder.appendingPathComponent("vocab.json")), merges: merges)
  }

  /// The same tokenizer, padding with another token: `!` for OpenCLIP encoders (SD 2, SDXL's second).
  ///
  /// - Throws: `PipelineError.vocabulary` when there is no such token.
  public func padding(with token: String) throws -> Tokenizer {
    guard let id = id(token) else { throw PipelineError.vocabulary(reason: "there is no token `\(token)`") }
    var other = self
    other.pad = id
    return other
  }

  /// The id of a token as `vocab.json` spells it.
  public func id(_ token: String) -> Int32? { ids[token] }

  /// All ids of a prompt from `<|startoftext|>` to `<|endoftext|>`, neither cut nor padded.
  ///
  /// The names of these two tokens inside of a prompt stand for themselves. What the vocabulary does not know
  /// becomes `<|endoftext|>`.
  public func encode(_ prompt: String) -> [Int32] { [start] + words(Array(prompt.unicodeScalars)) + [end] }

  /// The prompt's ids, cut or padded to `context`, and whether it was cut. A cut prompt still ends with
  /// `<|endoftext|>`.
  public func encode77(_ prompt: String) -> (ids: [Int32], isTruncated: Bool) {
    let encoded = encode(Prompt(plain: prompt))
    return (encoded.ids, encoded.isTruncated)
  }

  /// The ids of a prompt with weights, cut or padded to `context` as `encode77` does it.
  ///
  /// Each part is split into words on its own. A prompt of one part has the ids of its text.
  public func encode(_ prompt: Prompt) -> EncodedPrompt {
    var (ids, weights) = ([start], [1.0])
    for part in prompt.parts {
      let more = words(Array(part.text.unicodeScalars))
      ids += more
      weights += [Double](repeating: part.weight, count: more.count)
    }
    let isTruncated = ids.count + 1 > Self.context
    ids = ids.prefix(Self.context - 1) + [end]
    weights = weights.prefix(Self.context - 1) + [1]
    let missing = Self.context - ids.count
    ids += [Int32](repeating: pad, count: missing)
    weights += [Double](repeating: 1, count: missing)
    return EncodedPrompt(ids: ids, weights: weights, isTruncated: isTruncated)
  }

  /// The ids of a text in which special tokens may stand.
  private func words(_ prompt: [Unicode.Scalar]) -> [Int32] {
    var ids: [Int32] = []
    var begin = 0
    var at = 0
    while at < prompt.count {
      let tail = prompt[at...]
      let isStart = tail.hasPrefix(Self.startToken)
      guard isStart || tail.hasPrefix(Self.endToken) else {
        at += 1
        continue
      }
      encodeText(Array(prompt[begin..<at]), into: &ids)
      ids.append(isStart ? start : end)
      at += isStart ? Self.startToken.count : Self.endToken.count
      begin = at
    }
    encodeText(Array(prompt[begin...]), into: &ids)
    return ids
  }

  private func encodeText(_ piece: [Unicode.Scalar], into ids: inout [Int32]) {
    let cleaned = cleanUp == .ftfy ? Fixes.cleaned(piece) : basicallyCleaned(piece)
    let text = lowered(Array(cleaned.split(whereSeparator: \.isSpace).joined(separator: [" "])))
    var at = 0
    while at < text.count {
      let length = Self.wordLength(text, at)
      let word = text[at..<(at + max(length, 1))]
      at += max(length, 1)
      if length == 0 { continue }
      if word.elementsEqual(Self.startToken) || word.elementsEqual(Self.endToken) {
        ids.append(word.elementsEqual(Self.startToken) ? start : end)
        continue
      }
      var symbols = word.flatMap { UTF8.encode($0).map(Array.init) ?? [] }.map { byteSymbols[Int($0)].inside }
      if let last = word.last.flatMap({ UTF8.encode($0) }).flatMap({ Array($0).last }) {
        symbols[symbols.count - 1] = byteSymbols[Int(last)].last
      }
      ids += merges.tokens(symbols).map { symbolIDs[$0] }
    }
  }

  /// What becomes one word besides runs and digits, in the order of CLIP's expression.
  private static let wholeWords: [[Unicode.Scalar]] =
    [startToken, endToken] + ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map { Array($0.unicodeScalars) }

  /// Length of the word at `start`: a special token, a contraction, a run of letters, one digit or a run of anything
  /// else but space; 0 at a space.
  private static func wordLength(_ text: [Unicode.Scalar], _ start: Int) -> Int {
    let first = text[start]
    if first == "<" || first == "'" {
      for word in wholeWords where isWord(word, text, start) { return word.count }
    }
    if first.isSpace { return 0 }
    if first.isNumber { return 1 }
    let isLetters = first.isLetter
    let end = text[start...].firstIndex { scalar in
      isLetters ? !scalar.isLetter : scalar.isSpace || scalar.isLetter || scalar.isNumber
    }
    return (end ?? text.count) - start
  }

  /// The expression ignores case, so that the long s is an s.
  private static func isWord(_ word: [Unicode.Scalar], _ text: [Unicode.Scalar], _ start: Int) -> Bool {
    guard start + word.count <= text.count else { return false }
    return word.indices.allSatisfy { index in
      let scalar = text[start + index]
      return scalar == word[index] || (word[index] == "s" && scalar == "\u{17f}")
    }
  }

  /// The character that stands for each byte: printable Latin-1 for itself, the others by U+0100 and following in
  /// order, as GPT-2 introduced them.
  private static let characters: [String] = {
    var free: UInt32 = 0x100
    return (0...255).map { byte in
      switch byte {
      case 0x21...0x7e, 0xa1...0xac, 0xae...0xff: return String(Character(Unicode.Scalar(UInt8(byte))))
      default:
        defer { free += 1 }
        return Unicode.Scalar(free).map { String(Character($0)) } ?? ""
      }
    }
  }()
}
