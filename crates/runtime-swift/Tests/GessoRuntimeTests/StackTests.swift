@preconcurrency import CoreML
import Foundation
import XCTest

@testable import GessoRuntime

/// Stacking follows `fixtures/swift/stack.json`, which the Rust side follows too.
final class StackTests: XCTestCase {
  private struct Document: Decodable {
    struct Source: Decodable {
      let name: String
      let rank: Int
      let rows: [SlotRow]
      let tensors: [String: [Float]]
    }

    struct Use: Decodable {
      let name: String
      let strength: Float

      init(from decoder: any Decoder) throws {
        var values = try decoder.unkeyedContainer()
        name = try values.decode(String.self)
        strength = try values.decode(Float.self)
      }
    }

    struct Case: Decodable {
      let uses: [Use]
      let inputs: [String: [Float]]
    }

    struct Refused: Decodable {
      let uses: [Use]
      let rank: Int
      let needed: Int
      let module: String
    }

    let rank: Int
    let rows: [SlotRow]
    let adapters: [Source]
    let cases: [Case]
    let refused: Refused
  }

  private func document() throws -> Document {
    let data = try Data(contentsOf: fixtures.appendingPathComponent("swift/stack.json"))
    return try JSONDecoder().decode(Document.self, from: data)
  }

  private func set(_ uses: [Document.Use], _ document: Document, _ table: SlotTable) throws -> AdapterSet {
    AdapterSet(
      try uses.map { use in
        let source = try XCTUnwrap(document.adapters.first { $0.name == use.name })
        return .init(try adapter(source, table.layoutHash), strength: use.strength)
      })
  }

  private func adapter(_ source: Document.Source, _ hash: String, base: String? = nil) throws -> Adapter {
    let tensors = source.tensors.map { (Int($0.key) ?? 0, $0.value.map(HalfFloat.bits)) }
    let factors = AdapterFactors(
      rank: source.rank, layoutHash: hash, rows: source.rows, tensors: Dictionary(uniqueKeysWithValues: tensors))
    return Adapter(manifest: try manifest(source.name, base: base), factors: ["unet": factors])
  }

  private func manifest(_ name: String, base: String?) throws -> AdapterManifest {
    let source = base.map { ", \"base_source_hash\": \"\($0)\"" } ?? ""
    let text = """
      {"schema": 1, "min_reader": 1, "name": "\(name)", "rank": 1, "default_strength": 1, "trigger_words": [],
       "metadata": {}, "components": {}, "rows": [], "members": {}\(source)}
      """
    return try JSONDecoder().decode(AdapterManifest.self, from: Data(text.utf8))
  }

  private func slots(_ table: SlotTable, _ type: MLMultiArrayDataType, sourceHash: String? = nil) throws -> SlotInputs {
    try SlotInputs(table: table, types: table.widths.mapValues { _ in type }, name: "Base", sourceHash: sourceHash)
  }

  private func values(_ slots: SlotInputs) throws -> [String: [Float]] {
    var values: [String: [Float]] = [:]
    for (name, feature) in slots.features {
      let array = try XCTUnwrap(feature.multiArrayValue)
      values[String(name.dropFirst("adapter_".count))] = (0..<array.count).map { array[$0].floatValue }
    }
    return values
  }

  func testStoredInputs() throws {
    let document = try document()
    let table = try SlotTable(component: "unet", rank: document.rank, rows: document.rows)
    for type in [MLMultiArrayDataType.float32, .float16] {
      let slots = try slots(table, type)
      // One after the other in the same arrays, and back: nothing of the case before may stay.
      for test in document.cases + document.cases.reversed() {
        try slots.fuse(set(test.uses, document, table))
        let want = test.inputs.mapValues { $0.map { type == .float32 ? $0 : HalfFloat.number(HalfFloat.bits($0)) } }
        for (width, found) in try values(slots) { XCTAssertEqual(found, want[width], "\(test.uses) \(width)") }
        for (width, numbers) in want where slots.features["adapter_\(width)"] == nil {
          XCTAssert(numbers.allSatisfy { $0 == 0 }, "\(test.uses) \(width)")
        }
      }
      slots.unfuse()
      XCTAssert(slots.features.isEmpty)
    }
  }

  func testTooMuchRankSaysHowMuchIsNeeded() throws {
    let document = try document()
    let table = try SlotTable(component: "unet", rank: document.rank, rows: document.rows)
    let slots = try slots(table, .float16)
    let before = try set(document.cases[0].uses, document, table)
    try slots.fuse(before)
    let inputs = try values(slots)
    let refused = document.refused
    XCTAssertThrowsError(try slots.fuse(set(refused.uses, document, table))) { error in
      XCTAssertEqual(
        error as? GessoError,
        .stack(
          adapters: ["`B` (rank 2)", "`C` (rank 3)", "`B` (rank 2)"], module: refused.module, rank: refused.rank,
          slots: document.rank, needed: refused.needed))
    }
    XCTAssertEqual(try values(slots), inputs)
    XCTAssertEqual(slots.fused, before)
  }

  func testStrengths() throws {
    let document = try document()
    let table = try SlotTable(component: "unet", rank: document.rank, rows: document.rows)
    let slots = try slots(table, .float16)
    var zero = try set(document.cases[0].uses, document, table)
    zero.members[0].unet = 0
    try slots.fuse(zero)
    XCTAssert(slots.features.isEmpty)
    for strength in [Float.nan, .infinity, 1e5] {
      zero.members[0].unet = strength
      XCTAssertThrowsError(try slots.fuse(zero)) {
        guard case GessoError.strength("A", "unet", _)? = $0 as? GessoError else { return XCTFail("\($0)") }
      }
    }
    zero.members[0].unet = 1
    let inside = try slots.withFused(zero) { $0.count }
    XCTAssertGreaterThan(inside, 0)
    XCTAssert(slots.features.isEmpty)
  }

  func testAdaptersOfAnotherBaseAreRefused() throws {
    let document = try document()
    let table = try SlotTable(component: "unet", rank: document.rank, rows: document.rows)
    let (own, other) = (String(repeating: "1", count: 64), String(repeating: "2", count: 64))
    let bound = AdapterSet([.init(try adapter(document.adapters[0], table.layoutHash, base: own))])
    try slots(table, .float16, sourceHash: own).fuse(bound)
    XCTAssertThrowsError(try slots(table, .float16, sourceHash: other).fuse(bound)) {
      XCTAssertEqual($0 as? GessoError, .otherBase(adapter: "A", base: "Base", expected: own, found: other))
    }
    XCTAssertThrowsError(try slots(table, .float16).fuse(bound))
    let layout = AdapterSet([.init(try adapter(document.adapters[0], other))])
    XCTAssertThrowsError(try slots(table, .float16).fuse(layout)) {
      XCTAssertEqual(
        $0 as? GessoError, .layout(adapter: "A", component: "unet", expected: table.layoutHash, found: other))
    }
  }

  func testTablesThatContradictThemselvesAreRefused() throws {
    let rows = try document().rows
    XCTAssertNotNil(try? SlotTable(component: "unet", rank: 1, rows: rows))
    var twice = rows
    twice[1] = rows[0]
    for (name, rows) in [("twice", twice), ("gap", Array(rows.dropFirst(2))), ("half", Array(rows.dropLast()))] {
      XCTAssertThrowsError(try SlotTable(component: "unet", rank: 1, rows: rows), name)
    }
    XCTAssertThrowsError(try SlotTable(component: "unet", rank: 0, rows: rows))
    XCTAssertThrowsError(try SlotTable(component: "vae", rank: 1, rows: rows))
  }
}
