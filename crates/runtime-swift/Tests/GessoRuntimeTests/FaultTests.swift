import Foundation
import XCTest

@testable import GessoRuntime

#if os(Linux)
  import Glibc
#endif

/// Numbers that are the same in every run.
struct Sequence {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next(below limit: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int(state >> 33) % limit
  }
}

final class FaultTests: XCTestCase {
  private func asset(_ name: String) -> URL { fixtures.appendingPathComponent("swift/\(name).mlmodelcassets") }

  #if os(Linux) || os(macOS)
    /// Processes are killed at every step, and at random times, of compiling, keeping and taking away. What they leave is repaired
    /// by the next start: nothing lies around, and every entry is whole.
    func testTwoHundredKillsLeaveNothingBehind() async throws {
      let folder = try TemporaryFolder()
      let root = folder.url.appendingPathComponent("cache")
      let temporary = folder.url.appendingPathComponent("temporary")
      let probe = try XCTUnwrap(Self.probe, "gesso-cache-probe is not beside the tests")
      let sample = fixtures.appendingPathComponent("formats/samples/base_fp16_ios16/base_fp16_ios16.mlpackage")
      let assets = try ["a", "b"].map { name in
        try TestAsset(name: name, components: ["text_encoder", "unet"], package: sample).written(to: folder).path
      }
      var random = Sequence(7)
      var leftovers = 0
      var entries = 0
      for round in 0..<200 {
        try FileManager.default.createDirectory(at: temporary, withIntermediateDirectories: true)
        let process = Process()
        process.executableURL = probe
        process.environment = ["TMPDIR": temporary.path]
        let moment = round % 2 == 0 ? ["step", "\(round / 2 % 40)"] : ["after", "\(random.next(below: 80_000))"]
        process.arguments = [root.path] + moment + assets
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        XCTAssertEqual(process.terminationReason, .uncaughtSignal, "\(moment): \(process.terminationStatus)")
        // The compiler's own place is the system's to clear.
        let others = try FileManager.default.contentsOfDirectory(atPath: temporary.path).filter { !$0.hasPrefix("CoreML-") }
        XCTAssertEqual(others, [], "\(moment)")
        try FileManager.default.removeItem(at: temporary)
        guard FileManager.default.fileExists(atPath: root.path) else { continue }
        let cache = CacheFolder(root: root)
        leftovers += (try? FileManager.default.contentsOfDirectory(atPath: cache.staging.path))?.isEmpty == false ? 1 : 0
        try await ModelManager(options: .init(root: root)).prepare()
        XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: cache.staging.path), [], "\(moment)")
        let keys = try FileManager.default.contentsOfDirectory(atPath: cache.entries.path)
        for key in keys {
          try Seal(reading: cache.entry(key)).check(cache.entry(key), hashes: true)
          entries += 1
        }
        let marks = try FileManager.default.contentsOfDirectory(atPath: cache.used.path)
        XCTAssert(Set(marks).isSubset(of: keys), "\(moment): marks of use without an entry")
      }
      // The kills hit something.
      XCTAssertGreaterThan(leftovers, 50)
      XCTAssertGreaterThan(entries, 50)
      let manager = ModelManager(options: .init(root: root))
      _ = try await manager.compileAndSaveLoRA(at: URL(fileURLWithPath: assets[0]))
    }

    private static var probe: URL? {
      let places = [Bundle(for: FaultTests.self).bundleURL, URL(fileURLWithPath: CommandLine.arguments[0])]
      return places.flatMap { [$0, $0.deletingLastPathComponent()] }.map { $0.appendingPathComponent("gesso-cache-probe") }
        .first { FileManager.default.isExecutableFile(atPath: $0.path) }
    }
  #endif

  /// Also when the cache has the whole asset already.
  func testAHundredFlippedBytesAreRefused() async throws {
    let folder = try TemporaryFolder()
    let manager = ModelManager(options: .init(root: folder.url.appendingPathComponent("cache")))
    let asset = asset("watercolor")
    _ = try await manager.compileAndSaveLoRA(at: asset)
    let whole = try Data(contentsOf: asset)
    let file = folder.url.appendingPathComponent("flipped.mlmodelcassets")
    var random = Sequence(11)
    for round in 0..<100 {
      var bytes = whole
      // Half of them in the directory and the end record, where the headers are.
      let at = round % 2 == 0 ? random.next(below: bytes.count) : bytes.count - 1 - random.next(below: 700)
      bytes[at] ^= UInt8(1 << random.next(below: 8))
      try bytes.write(to: file)
      await refused(manager, file) { _ in true }
    }
    for length in [0, 1, 21, 22, 1000, whole.count - 1] {
      try whole.prefix(length).write(to: file)
      await refused(manager, file) { if case .notAnAsset = $0 { true } else { false } }
    }
    let compilations = await manager.statistics.compilations
    XCTAssertEqual(compilations, 2)
    let contents = try await manager.contents
    XCTAssertEqual(contents.count, 1)
  }

  func testSixteenCallersOfRealAssets() async throws {
    let folder = try TemporaryFolder()
    let manager = ModelManager(options: .init(root: folder.url.appendingPathComponent("cache")))
    let assets = [asset("sketch"), asset("watercolor")]
    let names = try await withThrowingTaskGroup(of: String.self) { group in
      for index in 0..<16 { group.addTask { try await manager.adapter(at: assets[index % 2]).name } }
      return try await group.reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }
    XCTAssertEqual(names, ["sketch": 8, "watercolor": 8])
    let compilations = await manager.statistics.compilations
    XCTAssertEqual(compilations, 3)
  }

  /// Managers in one process and in several may share a folder.
  func testManagersThatShareAFolder() async throws {
    let folder = try TemporaryFolder()
    let root = folder.url.appendingPathComponent("cache")
    let managers = (0..<4).map { _ in ModelManager(options: .init(root: root)) }
    let asset = asset("watercolor")
    let urls = try await withThrowingTaskGroup(of: URL.self) { group in
      for manager in managers { group.addTask { try await manager.compileAndSaveLoRA(at: asset) } }
      return try await group.reduce(into: Set<URL>()) { $0.insert($1) }
    }
    XCTAssertEqual(urls.count, 1)
    XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: managers[0].folder.staging.path), [])
    let contents = try await managers[0].contents
    XCTAssertEqual(contents.count, 1)
  }

  #if os(Linux)
    /// On a file system of 150 kB, which needs the rights to make one.
    func testAFullDiskAndAReadOnlyOneAreNamed() async throws {
      let folder = try TemporaryFolder()
      let disk = folder.url.appendingPathComponent("disk")
      try FileManager.default.createDirectory(at: disk, withIntermediateDirectories: true)
      guard mount("tmpfs", disk.path, "tmpfs", 0, "size=150k") == 0 else {
        throw XCTSkip("a small file system cannot be made here: \(String(cString: strerror(errno)))")
      }
      defer { umount(disk.path) }
      let manager = ModelManager(options: .init(root: disk.appendingPathComponent("cache")))
      await refused(manager, asset("watercolor")) { if case .diskFull = $0 { true } else { false } }
      XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: manager.folder.staging.path), [])
      let contents = try await manager.contents
      XCTAssertEqual(contents, [])
      XCTAssertEqual(mount("tmpfs", disk.path, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), nil), 0)
      await refused(manager, asset("watercolor")) { if case .readOnly = $0 { true } else { false } }
      let fresh = ModelManager(options: .init(root: disk.appendingPathComponent("other")))
      await refused(fresh, asset("watercolor")) { if case .readOnly = $0 { true } else { false } }
      XCTAssertEqual(mount("tmpfs", disk.path, "tmpfs", UInt(MS_REMOUNT), "size=10m"), 0)
      _ = try await fresh.compileAndSaveLoRA(at: asset("watercolor"))
      XCTAssertEqual(mount("tmpfs", disk.path, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), nil), 0)
      // What is there can be used.
      let other = ModelManager(options: .init(root: disk.appendingPathComponent("other")))
      _ = try await other.adapter(at: asset("watercolor"))
    }
  #endif
}
