import GessoPipeline
import XCTest

/// Prompts with weights and adapters against the written-out cases that the Rust twin reads too.
final class PromptTests: XCTestCase {
  private func cases(_ name: String) throws -> [[String: Any]] {
    let all = try XCTUnwrap(try json("text/prompts.json") as? [String: Any])
    return try XCTUnwrap(all[name] as? [[String: Any]])
  }

  func testEveryWrittenCaseIsReadAsItSays() throws {
    let cases = try cases("prompts")
    XCTAssertEqual(cases.count, 80)
    for row in cases {
      let text = try XCTUnwrap(row["text"] as? String)
      if let want = row["error"] as? String {
        XCTAssertThrowsError(try Prompt.parse(text), text) { error in
          guard case PipelineError.prompt(let found, _) = error else { return XCTFail("\(text): \(error)") }
          XCTAssertEqual(found, want, text)
        }
        continue
      }
      let (prompt, mentions) = try Prompt.parse(text)
      let parts = try XCTUnwrap(row["parts"] as? [[Any]])
      XCTAssertEqual(prompt.parts.map { Array($0.text.utf8) }, parts.map { Array((($0[0] as? String) ?? "?").utf8) }, text)
      for (want, found) in zip(parts, prompt.parts) {
        let weight = try XCTUnwrap((want[1] as? NSNumber)?.doubleValue)
        XCTAssertLessThanOrEqual(abs(weight - found.weight), 4e-16 * abs(weight), text)
      }
      let adapters = try XCTUnwrap(row["adapters"] as? [[Any]])
      XCTAssertEqual(
        mentions,
        adapters.map { Mention(name: ($0[0] as? String) ?? "?", strength: ($0[1] as? NSNumber)?.doubleValue ?? .nan) },
        text)
    }
  }

  func testNegativePromptsNameNoAdapters() throws {
    XCTAssertEqual(try Prompt.parseNegative("(a)").parts, [Part(text: "a", weight: 1.1)])
    XCTAssertThrowsError(try Prompt.parseNegative("a <lora:sketch:1>")) { error in
      XCTAssertEqual(
        String(describing: error), "`<lora:sketch>` in the prompt: a negative prompt cannot name adapters")
    }
  }

  func testWeightsScaleTheRowsAndKeepTheMean() throws {
    let cases = try cases("emphasis")
    XCTAssertFalse(cases.isEmpty)
    for row in cases {
      let numbers = { (name: String) in try XCTUnwrap(row[name] as? [NSNumber]).map(\.doubleValue) }
      let found = emphasised(try numbers("states").map { Float($0) }, weights: try numbers("weights"))
      XCTAssertEqual(found, try numbers("out").map { Float($0) })
    }
  }

  func testPartsBecomeOneRowOfWeightedTokens() throws {
    let tokenizer = try Tokenizer(folder: fixtures.appendingPathComponent("shapes/base/tokenizer"))
    let encoded = { (text: String) in tokenizer.encode(try Prompt.parse(text).prompt) }
    for text in ["", "a large red star on cream", String(repeating: "star ", count: 80)] {
      let (ids, isTruncated) = tokenizer.encode77(text)
      let found = try encoded(text)
      XCTAssertEqual(found.ids, ids)
      XCTAssertEqual(found.isTruncated, isTruncated)
      XCTAssertEqual(found.weights, [Double](repeating: 1, count: 77))
    }
    let found = try encoded("a (red:1.5) star")
    XCTAssertEqual(found.ids, tokenizer.encode77("a red star").ids)
    XCTAssertEqual(Array(found.weights[..<5]), [1, 1, 1.5, 1, 1])
    let cut = try encoded("(a:2) " + String(repeating: "star ", count: 80))
    XCTAssertTrue(cut.isTruncated)
    XCTAssertEqual(cut.ids.count, 77)
    XCTAssertEqual(cut.ids[76], tokenizer.end)
    XCTAssertEqual([cut.weights[1], cut.weights[76]], [2, 1])
  }
}
