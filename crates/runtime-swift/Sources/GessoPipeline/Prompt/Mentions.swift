/// An adapter named in a prompt: `<lora:name:strength>`.
public struct Mention: Equatable, Sendable {
  /// Its name, as written.
  public var name: String
  /// Its strength, 1 where none is written.
  public var strength: Double

  public init(name: String, strength: Double) {
    self.name = name
    self.strength = strength
  }

  /// The text without its mentions, and the mentions.
  ///
  /// A mention is `<`, a word, `:`, anything but `>`, and `>`. Words other than `lora` are errors.
  static func takenOut(of text: [Unicode.Scalar]) throws -> ([Unicode.Scalar], [Mention]) {
    var (out, mentions): ([Unicode.Scalar], [Mention]) = ([], [])
    var at = 0
    while at < text.count {
      if text[at] == "<", let (kind, arguments, end) = bracketed(text, from: at) {
        mentions.append(try read(kind: kind, arguments: arguments))
        at = end
      } else {
        out.append(text[at])
        at += 1
      }
    }
    return (out, mentions)
  }

  /// Kind and arguments of the mention that begins at `start`, and where it ends.
  private static func bracketed(
    _ text: [Unicode.Scalar], from start: Int
  ) -> (ArraySlice<Unicode.Scalar>, ArraySlice<Unicode.Scalar>, Int)? {
    guard let end = text[start...].firstIndex(of: ">"),
      let colon = text[start..<end].firstIndex(of: ":")
    else { return nil }
    let kind = text[(start + 1)..<colon]
    let arguments = text[(colon + 1)..<end]
    guard !kind.isEmpty, !arguments.isEmpty, kind.allSatisfy(\.isWordCharacter) else { return nil }
    return (kind, arguments, end + 1)
  }

  private static func read(
    kind: ArraySlice<Unicode.Scalar>, arguments: ArraySlice<Unicode.Scalar>
  ) throws -> Mention {
    let refuse = { (reason: String) in
      PipelineError.prompt(found: "<\(kind.text):\(arguments.text)>", reason: reason)
    }
    guard kind.text == "lora" else { throw refuse("only `<lora:name:strength>` is supported") }
    let pieces = arguments.split(separator: ":", omittingEmptySubsequences: false)
    guard let first = pieces.first, pieces.count <= 2 else { throw refuse("expected a name and one strength") }
    let strength = pieces.count == 2 ? try Prompt.value(pieces[1].trimmed) : 1
    let name = first.trimmed.text
    guard !name.isEmpty else { throw refuse("expected a name") }
    return Mention(name: name, strength: strength)
  }
}
