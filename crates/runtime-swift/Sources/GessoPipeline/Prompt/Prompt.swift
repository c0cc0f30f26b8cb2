/// A piece of a prompt and the weight of its tokens.
public struct Part: Equatable, Sendable {
  /// The text, brackets and backslashes resolved.
  public var text: String
  /// Its weight; 1 is plain.
  public var weight: Double

  public init(text: String, weight: Double = 1) {
    self.text = text
    self.weight = weight
  }
}

/// A prompt in pieces of equal weight, as people write them: weights in brackets and adapters by name.
///
/// | written | means |
/// |---|---|
/// | `(word)` | weight × 1.1, nested brackets multiply |
/// | `(word:1.3)` | weight × 1.3 |
/// | `[word]` | weight ÷ 1.1 |
/// | `\(` `\)` `\[` `\]` `\\` | the character itself; any other backslash is dropped |
/// | `<lora:sketch>` `<lora:sketch:0.8>` | the adapter `sketch`, with strength 1 or 0.8; taken out of the text |
///
/// A bracket that is never closed ends with the text; one that was never opened stands for itself. Round and square
/// brackets are matched separately. Source: the syntax that AUTOMATIC1111's web UI documents ("Attention/emphasis");
/// of its other forms, prompt editing `[a:b:0.5]`, alternation `[a|b]`, `AND` and `BREAK` are errors.
public struct Prompt: Equatable, Sendable {
  /// The pieces in order; neighbours differ in weight. None for an empty prompt.
  public var parts: [Part]

  public init(parts: [Part] = []) { self.parts = parts }

  /// A text without any syntax.
  public init(plain text: String) { parts = text.isEmpty ? [] : [Part(text: text)] }

  /// Reads the syntax above; the adapters come beside the prompt, in their order.
  ///
  /// - Throws: `PipelineError.prompt` for syntax that is not supported and numbers that are none.
  public static func parse(_ text: String) throws -> (prompt: Prompt, mentions: [Mention]) {
    let (text, mentions) = try Mention.takenOut(of: Array(text.unicodeScalars))
    try refuseWords(text)
    return (Prompt(parts: try merged(weighted(text))), mentions)
  }

  /// `parse` where adapters cannot be named: a negative prompt.
  ///
  /// - Throws: also `PipelineError.prompt` when one is.
  public static func parseNegative(_ text: String) throws -> Prompt {
    let (prompt, mentions) = try parse(text)
    if let mention = mentions.first {
      throw PipelineError.prompt(
        found: "<lora:\(mention.name)>", reason: "a negative prompt cannot name adapters")
    }
    return prompt
  }

  /// The value of a weight or strength.
  static func value(_ digits: some Collection<Unicode.Scalar>) throws -> Double {
    let plain = digits.allSatisfy { ("0"..."9").contains($0) || "+-.eE".unicodeScalars.contains($0) }
    guard plain, let value = Double(digits.text), value.isFinite else {
      throw PipelineError.prompt(found: digits.text, reason: "expected a number")
    }
    return value
  }
}

/// `AND` and `BREAK` join prompts in the web UI.
private func refuseWords(_ text: [Unicode.Scalar]) throws {
  let words = text.split { !$0.isWordCharacter }
  if let word = words.first(where: { $0.elementsEqual("AND".unicodeScalars) || $0.elementsEqual("BREAK".unicodeScalars) }) {
    throw PipelineError.prompt(
      found: word.text, reason: "joining prompts is not supported; for the word itself write small letters")
  }
}

/// Text so far, and where the open brackets began.
private struct Reader {
  var parts: [(text: [Unicode.Scalar], weight: Double)] = []
  var round: [Int] = []
  var square: [Int] = []

  mutating func push(_ text: [Unicode.Scalar]) { parts.append((text, 1)) }

  /// Multiplies the weights of all that was read since `start`.
  mutating func multiply(from start: Int, by factor: Double) {
    for index in parts.indices.dropFirst(start) { parts[index].weight *= factor }
  }
}

/// What one more round bracket multiplies a weight by, and one more square bracket.
private let (roundFactor, squareFactor) = (1.1, 1.0 / 1.1)

/// Characters that end a run of plain text.
private let special: Set<Unicode.Scalar> = ["\\", "(", ")", "[", "]", ":", "|"]

private func weighted(_ text: [Unicode.Scalar]) throws -> [(text: [Unicode.Scalar], weight: Double)] {
  var reader = Reader()
  var at = 0
  while at < text.count {
    let scalar = text[at]
    at += 1
    switch scalar {
    case "\\":
      if at < text.count, "()[]\\".unicodeScalars.contains(text[at]) {
        reader.push([text[at]])
        at += 1
      }
    case "(": reader.round.append(reader.parts.count)
    case "[": reader.square.append(reader.parts.count)
    case ")":
      if let start = reader.round.popLast() {
        reader.multiply(from: start, by: roundFactor)
      } else {
        reader.push([")"])
      }
    case "]":
      if let start = reader.square.popLast() {
        reader.multiply(from: start, by: squareFactor)
      } else {
        reader.push(["]"])
      }
    case "|" where !reader.square.isEmpty:
      throw PipelineError.prompt(found: "[…|…]", reason: "alternating words are not supported")
    case ":":
      let number = number(text[at...])
      if let number, number.bracket == ")", let start = reader.round.last {
        reader.round.removeLast()
        reader.multiply(from: start, by: try Prompt.value(number.digits))
        at = number.end
      } else if number?.bracket == "]", !reader.square.isEmpty {
        throw PipelineError.prompt(found: "[…:…:…]", reason: "prompt editing is not supported")
      } else {
        reader.push([":"])
      }
    default:
      let end = text[(at - 1)...].firstIndex { special.contains($0) } ?? text.count
      let stop = max(end, at)
      reader.push(Array(text[(at - 1)..<stop]))
      at = stop
    }
  }
  while let start = reader.round.popLast() { reader.multiply(from: start, by: roundFactor) }
  while let start = reader.square.popLast() { reader.multiply(from: start, by: squareFactor) }
  return reader.parts
}

/// A number between a colon and a closing bracket: its text, the bracket, and where all ends, with the bracket.
private func number(
  _ tail: ArraySlice<Unicode.Scalar>
) -> (digits: ArraySlice<Unicode.Scalar>, bracket: Unicode.Scalar, end: Int)? {
  guard let end = tail.firstIndex(where: { $0 == ")" || $0 == "]" }) else { return nil }
  let digits = tail[..<end].trimmed
  let unsigned = digits.first == "+" || digits.first == "-" ? digits.dropFirst() : digits
  guard !unsigned.isEmpty, unsigned.allSatisfy({ ("0"..."9").contains($0) || $0 == "." }) else { return nil }
  return (digits, tail[end], end + 1)
}

/// Joins neighbours of equal weight and leaves empty pieces out.
private func merged(_ parts: [(text: [Unicode.Scalar], weight: Double)]) throws -> [Part] {
  var out: [(text: [Unicode.Scalar], weight: Double)] = []
  for part in parts where !part.text.isEmpty {
    guard part.weight.isFinite else {
      throw PipelineError.prompt(
        found: part.text.text, reason: "its weights multiply to more than a number holds")
    }
    if let last = out.last, last.weight == part.weight {
      out[out.count - 1].text += part.text
    } else {
      out.append(part)
    }
  }
  return out.map { Part(text: $0.text.text, weight: $0.weight) }
}
