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
