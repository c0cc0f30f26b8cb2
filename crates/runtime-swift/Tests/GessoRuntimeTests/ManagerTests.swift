import Foundation
import XCTest

@testable import GessoRuntime

/// A compiler that makes a small folder and counts.
final class CountingCompiler: @unchecked Sendable {
  private let lock = NSLock()
  private var names: [String] = []

  var compiled: [String] { lock.withLock { names } }

  func options(_ root: URL) -> ModelManager.Options {
    var options = ModelManager.Options(root: root)
    options.compile = { package in
      self.lock.withLock { self.names.append(package.lastPathComponent) }
      try await Task.sleep(for: .milliseconds(5))
      let folder = FileManager.default.temporaryDirectory.appendingPathComponent("made-\(UUID().uuidString).mlmodelc")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      let model = try Data(contentsOf: package.appendingPathComponent("Data/com.apple.CoreML/model.mlmodel"))
      try model.write(to: folder.appendingPathComponent("model.mil"))
      return folder
    }
    return options
  }
}

final class ManagerTests: XCTestCase {
  private func manager(_ folder: TemporaryFolder, _ change: (inout ModelManager.Options) -> Void = { _ in }) -> (
    ModelManager, CountingCompiler
  ) {
    let compiler = CountingCompiler()
    var options = compiler.options(folder.url.appendingPathComponent("cache"))
    change(&options)
    return (ModelManager(options: options), compiler)
  }

  func testTheSecondCallFindsTheEntry() async throws {
    let folder = try TemporaryFolder()
    let (manager, compiler) = manager(folder)
    let asset = try TestAsset(name: "a", components: ["text_encoder", "unet"]).written(to: folder)
    let first = try await manager.compileAndSaveLoRA(at: asset)
    XCTAssertEqual(compiler.compiled, ["text_encoder.mlpackage", "unet.mlpackage"])
    let files = try Seal.names(in: first)
    XCTAssertEqual(files, ["manifest.json", "seal.json", "text_encoder.mlmodelc/model.mil", "unet.mlmodelc/model.mil"])
    let copy = folder.url.appendingPathComponent("b.mlmodelcassets")
    try FileManager.default.copyItem(at: asset, to: copy)
    let second = try await manager.compileAndSaveLoRA(at: copy)
    XCTAssertEqual(first, second)
    XCTAssertEqual(compiler.compiled.count, 2)
    let statistics = await manager.statistics
    XCTAssertEqual(statistics, .init(compilations: 2, hits: 1))
    let (other, none) = self.manager(folder)
    let third = try await other.compileAndSaveLoRA(at: asset)
    XCTAssertEqual(third, first)
    XCTAssertEqual(none.compiled, [])
    let contents = try await manager.contents
    XCTAssertEqual(contents.map(\.name), ["a"])
    XCTAssertEqual(contents.map(\.kind), [.adapter])
  }

  func testAnUnpackedFolderHasTheSameEntry() async throws {
    let folder = try TemporaryFolder()
    let (manager, compiler) = manager(folder)
    let asset = TestAsset(name: "a", components: ["unet"])
    let archive = try await manager.compileAndSaveLoRA(at: asset.written(to: folder))
    let unpacked = folder.url.appendingPathComponent("unpacked")
    for (name, bytes) in asset.members {
      let file = unpacked.appendingPathComponent(name)
      try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try bytes.write(to: file)
    }
    let again = try await manager.compileAndSaveLoRA(at: unpacked)
    XCTAssertEqual(archive, again)
    XCTAssertEqual(compiler.compiled.count, 1)
    let package = unpacked.appendingPathComponent("unet.mlpackage")
    let alone = try await manager.compileAndSaveLoRA(at: package)
    XCTAssertNotEqual(alone, archive)
    XCTAssertEqual(try Seal(reading: alone).kind, .package)
    try Data("!".utf8).write(to: package.appendingPathComponent("Manifest.json"))
    await refused(manager, unpacked) { if case .member(_, "unet.mlpackage/Manifest.json", _) = $0 { true } else { false } }
  }

  func testSixteenCallersCompileOnce() async throws {
    let folder = try TemporaryFolder()
    let (manager, compiler) = manager(folder)
    let assets = try ["a", "b"].map { try TestAsset(name: $0, components: ["unet"]).written(to: folder) }
    let urls = try await withThrowingTaskGroup(of: URL.self) { group in
      for index in 0..<16 { group.addTask { try await manager.compileAndSaveLoRA(at: assets[index % 2]) } }
      return try await group.reduce(into: Set<URL>()) { $0.insert($1) }
    }
    XCTAssertEqual(urls.count, 2)
    XCTAssertEqual(compiler.compiled.count, 2)
  }

  func testACancelledCallerLeavesNothingAndAnotherOneIsServed() async throws {
    let folder = try TemporaryFolder()
    let (manager, _) = manager(folder) { options in
      let compile = options.compile
      options.compile = {
        try await Task.sleep(for: .milliseconds(200))
        return try await compile($0)
      }
    }
    let asset = try TestAsset(name: "a", components: ["unet"]).written(to: folder)
    let task = Task { try await manager.compileAndSaveLoRA(at: asset) }
    try await Task.sleep(for: .milliseconds(50))
    task.cancel()
    do {
      _ = try await task.value
      XCTFail("it went on")
    } catch { XCTAssert(error is CancellationError, "\(error)") }
    try await manager.prune()
    XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: manager.folder.staging.path), [])
    _ = try await manager.compileAndSaveLoRA(at: asset)
  }

  func testOneOfSeveralCallersMayCancel() async throws {
    let folder = try TemporaryFolder()
    let (manager, compiler) = manager(folder) { options in
      let compile = options.compile
      options.compile = {
        let made = try await compile($0)
        // Not to be stopped, like Core ML.
        await Task.detached { try? await Task.sleep(for: .milliseconds(150)) }.value
        return made
      }
    }
    let asset = try TestAsset(name: "a", components: ["unet"]).written(to: folder)
    let one = Task { try await manager.compileAndSaveLoRA(at: asset) }
    let other = Task { try await manager.compileAndSaveLoRA(at: asset) }
    try await Task.sleep(for: .milliseconds(50))
    one.cancel()
    let url = try await other.value
    do {
      _ = try await one.value
      XCTFail("it was not cancelled")
    } catch { XCTAssert(error is CancellationError, "\(error)") }
    XCTAssertEqual(compiler.compiled.count, 1)
    try await manager.remove(url)
    let last = Task { try await manager.compileAndSaveLoRA(at: asset) }
    try await Task.sleep(for: .milliseconds(50))
    last.cancel()
    // Comes while the work is being stopped.
    let again = try await manager.compileAndSaveLoRA(at: asset)
    XCTAssertEqual(again, url)
    XCTAssertEqual(compiler.compiled.count, 3)
  }

  func testDamagedEntriesAreMadeAgain() async throws {
    let folder = try TemporaryFolder()
    let (manager, compiler) = manager(folder)
    let asset = try TestAsset(name: "a", components: ["unet"]).written(to: folder)
    let entry = try await manager.compileAndSaveLoRA(at: asset)
    let model = entry.appendingPathComponent("unet.mlmodelc/model.mil")
    let whole = try Data(contentsOf: model)
    var flipped = whole
    flipped[flipped.count - 1] ^= 1
    let damages: [(String, () throws -> Void)] = [
      ("flipped", { try flipped.write(to: model) }), ("cut", { try whole.dropLast().write(to: model) }),
      ("missing", { try FileManager.default.removeItem(at: model) }),
      ("extra", { try whole.write(to: entry.appendingPathComponent("extra")) }),
      ("no seal", { try FileManager.default.removeItem(at: entry.appendingPathComponent(Seal.fileName)) }),
      ("no manifest", { try FileManager.default.removeItem(at: entry.appendingPathComponent("manifest.json")) }),
    ]
    for (index, (name, damage)) in damages.enumerated() {
      try damage()
      do {
        try await manager.check(entry)
        XCTFail("\(name): not seen")
      } catch GessoError.damagedEntry {}
      let again = try await manager.compileAndSaveLoRA(at: asset)
      XCTAssertEqual(again, entry)
      XCTAssertEqual(compiler.compiled.count, index + 2, name)
      XCTAssertEqual(try Data(contentsOf: model), whole, name)
    }
    let statistics = await manager.statistics
    XCTAssertEqual(statistics.rebuilt, damages.count)
    try flipped.write(to: model)
    try await manager.prune()
    let contents = try await manager.contents
    XCTAssertEqual(contents, [])
  }

  func testTheLeastRecentlyUsedGoesFirst() async throws {
    let folder = try TemporaryFolder()
    let one = try TestAsset(name: "a", components: ["unet"]).written(to: folder)
    let (measuring, _) = manager(folder)
    _ = try await measuring.compileAndSaveLoRA(at: one)
    let size = try await measuring.contents[0].bytes
    try await measuring.prune(to: 0)
    let empty = try await measuring.contents
    XCTAssertEqual(empty, [])
    let (manager, compiler) = manager(folder) { $0.capacity = 2 * size + size / 2 }
    func use(_ name: String) async throws {
      let asset = try TestAsset(name: name, components: ["unet"]).written(to: folder)
      _ = try await manager.compileAndSaveLoRA(at: asset)
      try await Task.sleep(for: .milliseconds(20))
    }
    for name in ["a", "b", "a", "c"] { try await use(name) }
    let names = try await manager.contents.map(\.name)
    XCTAssertEqual(names, ["c", "a"])
    XCTAssertEqual(compiler.compiled.count, 3)
    let statistics = await manager.statistics
    XCTAssertEqual(statistics.evictions, 1)
    let a = try await manager.contents[1].url
    try await manager.remove(a)
    let left = try await manager.contents.map(\.name)
    XCTAssertEqual(left, ["c"])
    for url in [a, folder.url, manager.folder.root] {
      do {
        try await manager.remove(url)
        XCTFail("\(url.path) was taken away")
      } catch GessoError.notAnEntry {}
    }
  }

  func testModelsThatWereGivenOutStay() async throws {
    let folder = try TemporaryFolder()
    let (manager, compiler) = manager(folder) { $0.capacity = 1 }
    let asset = try TestAsset(name: "a", components: ["unet"]).written(to: folder)
    let package = folder.url.appendingPathComponent("Base.mlpackage")
    for (name, bytes) in TestAsset(name: "b", components: ["x"]).members where name.hasPrefix("x.mlpackage/") {
      let file = package.appendingPathComponent(String(name.dropFirst("x.mlpackage/".count)))
      try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try bytes.write(to: file)
    }
    let base = try await manager.compileAndSaveLoRA(at: package)
    _ = try await manager.compileAndSaveLoRA(at: asset)
    let again = try await manager.compileAndSaveLoRA(at: package)
    XCTAssertEqual(again, base)
    XCTAssertEqual(compiler.compiled, ["Base.mlpackage", "unet.mlpackage"])
    try await manager.prune()
    let kinds = try await manager.contents.map(\.kind)
    XCTAssertEqual(kinds, [.package])
    try await manager.prune(to: 1)
    let rest = try await manager.contents
    XCTAssertEqual(rest, [])
  }

  func testPolicies() async throws {
    let folder = try TemporaryFolder()
    let unsigned = try TestAsset(name: "a", components: ["unet"]).written(to: folder)
    let signed = try TestAsset(name: "b", components: ["unet"], signature: "good").written(to: folder)
    let forged = try TestAsset(name: "c", components: ["unet"], signature: "bad").written(to: folder)
    let (manager, _) = manager(folder) {
      $0.signatures = .required { manifest, signature in
        XCTAssert(String(decoding: manifest, as: UTF8.self).contains("\"signature\": null"))
        return signature == "good"
      }
    }
    _ = try await manager.compileAndSaveLoRA(at: signed)
    await refused(manager, unsigned) { $0 == .unsigned(file: unsigned.path) }
    await refused(manager, forged) { $0 == .badSignature(file: forged.path) }
    // Entries of an earlier policy as well.
    let (lax, _) = self.manager(folder)
    let entry = try await lax.compileAndSaveLoRA(at: unsigned)
    do {
      _ = try await manager.adapter(at: entry)
      XCTFail("the entry was taken")
    } catch GessoError.unsigned {}
    let (small, _) = self.manager(folder) { $0.mostAssetBytes = 100 }
    await refused(small, signed) { if case .tooLarge(signed.path, 100, _) = $0 { true } else { false } }
    let newer = try TestAsset(name: "d", components: ["unet"], minReader: 99).written(to: folder)
    await refused(manager, newer) { $0 == .tooNew(file: newer.path, needed: 99, own: AdapterManifest.reader) }
  }

  func testWhatTheCompilerSaysIsNamed() async throws {
    let folder = try TemporaryFolder()
    let (manager, _) = manager(folder) { $0.compile = { _ in throw CocoaError(.featureUnsupported) } }
    let asset = try TestAsset(name: "a", components: ["unet"]).written(to: folder)
    await refused(manager, asset) { if case .model("unet.mlpackage", _) = $0 { true } else { false } }
    XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: manager.folder.staging.path), [])
    let (full, _) = self.manager(folder) { $0.compile = { _ in throw POSIXError(.ENOSPC) } }
    await refused(full, asset) { if case .diskFull = $0 { true } else { false } }
    let contents = try await full.contents
    XCTAssertEqual(contents, [])
  }
}

/// Checks that a manager refuses an asset with an error that `isRight` takes.
func refused(_ manager: ModelManager, _ asset: URL, _ isRight: (GessoError) -> Bool) async {
  do {
    _ = try await manager.compileAndSaveLoRA(at: asset)
    XCTFail("\(asset.lastPathComponent) was taken")
  } catch let error as GessoError {
    XCTAssert(isRight(error), "\(asset.lastPathComponent): \(error)")
  } catch { XCTFail("\(error)") }
}
