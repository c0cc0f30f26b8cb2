import XCTest

@testable import GessoPipeline

/// The tokenizer against transformers' slow `CLIPTokenizer`, with ftfy and without.
final class TokenizerTests: XCTestCase {
  private static let clip = Result {
    try Tokenizer(folder: fixtures.appendingPathComponent("goldens/tokenizer"))
  }

  private func check(_ tokenizer: Tokenizer, column: String) throws {
    let rows = try XCTUnwrap(try json("goldens/tokenizer/goldens.json") as? [[String: Any]])
    XCTAssertEqual(rows.count, 454)
    var wrong: [String] = []
    for row in rows {
      let text = try XCTUnwrap(row["text"] as? String)
      let want = try XCTUnwrap((row[column] ?? row["ids"]) as? [NSNumber]).map(\.int32Value)
      let (found, (cut, isTruncated)) = (tokenizer.encode(text), tokenizer.encode77(text))
      var padded = want.prefix(76) + [49407]
      padded += [Int32](repeating: 49407, count: 77 - padded.count)
      if found != want || cut != Array(padded) || isTruncated != (want.count > 77) {
        wrong.append("\(text.debugDescription): \(found) instead of \(want)")
      }
    }
    XCTAssertTrue(wrong.isEmpty, "\(wrong.count) wrong\n" + wrong.joined(separator: "\n"))
  }

  func testAllStoredPromptsGiveTheIdsOfTheSlowTokenizer() throws {
    try check(Self.clip.get(), column: "slow_ftfy")
  }

  func testAllStoredPromptsGiveTheIdsWithoutFtfy() throws {
    var tokenizer = try Self.clip.get()
    tokenizer.cleanUp = .basic
    try check(tokenizer, column: "slow_noftfy")
  }

  func testTheShapesVocabularyGivesTheStoredIds() throws {
    // The stored ids were made without ftfy.
    var tokenizer = try Tokenizer(folder: fixtures.appendingPathComponent("shapes/base/tokenizer"))
    tokenizer.cleanUp = .basic
    XCTAssertEqual([tokenizer.start, tokenizer.end, tokenizer.pad], [652, 653, 653])
    let want = try Golden("shapes/golden/text_encoder.safetensors").values("input_ids")
    let index = try XCTUnwrap(try json("shapes/golden/golden.json") as? [String: Any])
    let prompts = try XCTUnwrap(index["text_encoder_prompts"] as? [String])
    XCTAssertEqual(prompts.flatMap { tokenizer.encode77($0).ids.map { Double($0) } }, want)
  }

  /// Words in many encodings read in many others, and rows of suspicious characters.
  func testTextsComeOutAsFromFtfy() throws {
    let rows = try XCTUnwrap(try json("text/ftfy.json") as? [[String]])
    XCTAssertEqual(rows.count, 640)
    for row in rows {
      let found = Fixes.cleaned(Array(row[0].unicodeScalars))
      XCTAssertTrue(found == Array(row[1].unicodeScalars), "\(row[0].debugDescription): \(found.text.debugDescription)")
    }
  }

  func testReferencesDecodeAsBrowsersDo() throws {
    for (text, want) in [
      ("&amp;&lt;b&gt;", "&<b>"), ("P&eacute;rez P&EACUTE;REZ P&EaCUTE;", "Pérez PÉREZ P&EaCUTE;"),
      ("&notanentity; &lt & &; &#; &#x;", "&notanentity; &lt & &; &#; &#x;"), ("&#39;&#x27;&#X27;&#128512;", "'''😀"),
      (
        "&#0;|&#1;|&#x80;|&#x81;|&#xd800;|&#99999999999999999999;", "\u{fffd}||€|\u{81}|\u{fffd}|\u{fffd}"
      ), ("&#12ab; &#59; &#xfffe;.", "&#12ab; &#59; ."), ("&NotEqualTilde;", "\u{2242}\u{338}"),
    ] {
      XCTAssertTrue(Entities.unescaped(Array(text.unicodeScalars)) == Array(want.unicodeScalars), text)
    }
    let table = try String(
      contentsOf: fixtures.appendingPathComponent("../crates/pipeline/data/html_entities.txt"), encoding: .utf8)
    let words = { (text: String) in text.split(whereSeparator: \.isWhitespace).map(String.init) }
    XCTAssertEqual(words(entityTable), words(table))
  }

  func testEveryByteOfACharsetComesBack() {
    for charset in [Charset.latin1] + Charset.all {
      for byte in UInt8.min...UInt8.max {
        XCTAssertEqual(charset.byte(charset.character(byte)), byte, "\(charset.name) \(byte)")
      }
    }
  }

  private func tiny(more: String = "", merges: String = "#version: 0.2\na b\nab c</w>\n") throws -> Tokenizer {
    let vocabulary = #"{"a":0,"b":1,"ab":2,"abc</w>":3,"<|startoftext|>":4,"<|endoftext|>":5\#(more)}"#
    return try Tokenizer(vocabulary: Data(vocabulary.utf8), merges: merges)
  }

  func testMergesApplyInTheirOrderAndUnknownSymbolsEndTheText() throws {
    let tokenizer = try tiny()
    XCTAssertEqual(tokenizer.encode("abc"), [4, 3, 5])
    XCTAssertEqual(tokenizer.encode("abab"), [4, 2, 0, 5, 5])
    XCTAssertEqual(tokenizer.encode("abc<|endoftext|>abc"), [4, 3, 5, 3, 5])
    let padded = try tokenizer.padding(with: "a").encode77("abc")
    XCTAssertEqual(Array(padded.ids[..<4]), [4, 3, 5, 0])
    XCTAssertThrowsError(try tokenizer.padding(with: "!"))
  }

  func testHostileVocabulariesAndMergesAreErrors() throws {
    for more in [#","x":2147483648"#, #","x":-1"#, #","x":1.5"#, #","x":"y""#] {
      XCTAssertThrowsError(try tiny(more: more), more) { error in
        guard case PipelineError.vocabulary = error else { return XCTFail("\(error)") }
      }
    }
    for (merges, at) in [("v\na", 2), ("v\na b\n\nab c</w>", 3), ("v\na b c", 2), ("v\na b\nb a", 3)] {
      XCTAssertThrowsError(try tiny(merges: merges), merges) { error in
        guard case PipelineError.merges(let line, _) = error else { return XCTFail("\(error)") }
        XCTAssertEqual(line, at, merges)
      }
    }
    XCTAssertNoThrow(try tiny(merges: ""))
  }
}
