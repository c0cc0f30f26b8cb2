import Foundation
import XCTest

@testable import GessoRuntime

/// The archives of `fixtures/attacks/zip`, with what `fixtures/attacks/expected.tsv` says of each: the message of the Rust reader.
final class AttackTests: XCTestCase {
  func testEveryHostileArchiveIsRefusedByTheSameReason() throws {
    let attacks = fixtures.appendingPathComponent("attacks")
    let lines = try String(contentsOf: attacks.appendingPathComponent("expected.tsv"), encoding: .utf8).split(separator: "\n")
    var count = 0
    for line in lines.map({ $0.split(separator: "\t").map(String.init) }) where line.count == 3 && line[0] == "zip" {
      let file = attacks.appendingPathComponent("zip/\(line[1])")
      XCTAssertThrowsError(try Asset.open(file, limit: 1 << 20).verify(), line[1]) { error in
        XCTAssert(error is GessoError, "\(line[1]): \(error)")
        XCTAssert("\(error)".contains(line[2]), "\(line[1]): expected `\(line[2])`, found `\(error)`")
      }
      count += 1
    }
    XCTAssertGreaterThan(count, 30)
  }

  func testJSONOfStrangers() {
    let right = ["{}", " [1, -0.5e+3, true, null, \"\\u00e9\\ud83d\\ude00ü\"]\n", "0", "{\"a\": {\"a\": []}}"]
    for text in right { XCTAssertNoThrow(try JSONText.check(Data(text.utf8)), text) }
    let wrong = [
      "", "{", "[1,]", "{\"a\": 1, }", "[1 2]", "01", "1.", "-", "tru", "nul", "\"a", "\"\u{1}\"", "{\"\u{12}\": 1}", "\"\\x\"",
      "{\"\\ud800\": 1}", "\"\\udc00\\ud800\"", "\"\\u12g4\"", "{} {}", "{1: 2}", "{\"a\" 1}", "NaN", "{\"a\": 1, \"\\u0061\": 2}",
      String(repeating: "[", count: 100_000),
    ]
    for text in wrong { XCTAssertThrowsError(try JSONText.check(Data(text.utf8)), String(text.prefix(40))) }
    XCTAssertThrowsError(try JSONText.check(Data([0x22, 0xff, 0x22])))
  }

  /// Archives that are right but for a manifest with a few bytes changed: an error or a reading, never the end of the process.
  func testDamagedManifestsDoNotEndTheProcess() throws {
    let delta = fixtures.appendingPathComponent("swift/sketch-delta.mlmodelcassets")
    let real = try StoredArchive(InputFile(delta))
    let small = try real.members.map { member in
      var bytes = Data()
      try real.stream(member) { bytes.append(contentsOf: $0) }
      return (member.name, bytes)
    }
    let folder = try TemporaryFolder()
    let file = folder.url.appendingPathComponent("a.mlmodelcassets")
    var random = Sequence(3)
    let numbers = ["-1", "0", "9223372036854775807", "-9223372036854775808", "18446744073709551616", "1e308", "null", "[]", "{}"]
    for (members, rounds) in [(TestAsset(name: "a", components: ["text_encoder", "unet"]).members, 800), (small, 15)] {
      var refusals = 0
      for _ in 0..<rounds {
        let changed = members.map { name, bytes -> (String, Data) in
          guard name == "manifest.json" else { return (name, bytes) }
          var text = [UInt8](bytes)
          for _ in 0..<1 + random.next(below: 2) {
            let at = random.next(below: text.count)
            let start = text[at...].firstIndex { (0x30...0x39).contains($0) } ?? at
            let end = text[start...].firstIndex { !(0x30...0x39).contains($0) } ?? text.endIndex
            switch random.next(below: 3) {
            case 0: text[at] ^= UInt8(1 << random.next(below: 7))
            case 1: text.remove(at: at)
            default: text.replaceSubrange(start..<end, with: Array(numbers[random.next(below: numbers.count)].utf8))
            }
          }
          return (name, Data(text))
        }
        try archive(of: changed).write(to: file)
        do {
          try Asset.open(file, limit: 1 << 20).verify()
        } catch {
          XCTAssert(error is GessoError, "\(error)")
          refusals += 1
        }
      }
      XCTAssertGreaterThan(refusals, rounds / 3)
    }
  }

  func testNamesThatMayNotBeWritten() {
    for name in ["", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "C:a", "a b", "ü", String(repeating: "a", count: 201)] {
      XCTAssertNotNil(StoredArchive.unsafeName(name), name)
    }
    for name in ["a", "unet.mlpackage/Data/com.apple.CoreML/model.mlmodel", "..a", "a..", String(repeating: "a", count: 200)] {
      XCTAssertNil(StoredArchive.unsafeName(name), name)
    }
  }

  func testLinksAndDeepFoldersAreRefused() throws {
    let folder = try TemporaryFolder()
    let package = folder.url.appendingPathComponent("a.mlpackage")
    try FileManager.default.createDirectory(at: package, withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      atPath: package.appendingPathComponent("Manifest.json").path, withDestinationPath: "/etc/hostname")
    XCTAssertThrowsError(try Asset.open(package, limit: 1 << 20)) {
      XCTAssert("\($0)".contains("neither a file nor a folder"), "\($0)")
    }
    let many = folder.url.appendingPathComponent("b")
    try FileManager.default.createDirectory(at: many, withIntermediateDirectories: true)
    for index in 0..<100 { try Data().write(to: many.appendingPathComponent("\(index)")) }
    XCTAssertThrowsError(try Asset.open(many, limit: 1 << 20)) {
      XCTAssert("\($0)".contains("too many members"), "\($0)")
    }
  }
}
