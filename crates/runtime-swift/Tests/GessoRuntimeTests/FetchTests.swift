import Foundation
import XCTest

@testable import GessoRuntime

final class FetchTests: XCTestCase {
  private let content = Data((0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) })

  private func manager(_ folder: TemporaryFolder, most: Int = 1 << 20) -> ModelManager {
    var options = ModelManager.Options(root: folder.url.appendingPathComponent("cache"))
    options.mostAssetBytes = most
    return ModelManager(options: options)
  }

  private func fails(_ isRight: (any Error) -> Bool, _ body: () async throws -> URL) async {
    do {
      _ = try await body()
      XCTFail("it was taken")
    } catch { XCTAssert(isRight(error), "\(error)") }
  }

  func testAWholeDownloadWithProgress() async throws {
    let folder = try TemporaryFolder()
    let manager = manager(folder)
    let server = try FileServer(.init(content: content))
    defer { server.stop() }
    let seen = Recorder()
    let expected = ModelManager.Expectation(sha256: SHA256.hex(content).uppercased(), bytes: content.count)
    let file = try await manager.fetchAdapter(from: server.url, expecting: expected) { seen.add($0) }
    XCTAssertEqual(try Data(contentsOf: file), content)
    XCTAssertEqual(seen.all.last, .init(received: content.count, total: content.count))
    XCTAssertEqual(seen.all.map(\.received), seen.all.map(\.received).sorted())
    let again = try await manager.fetchAdapter(from: server.url, expecting: expected)
    XCTAssertEqual(again, file)
    XCTAssertEqual(server.requests.count, 1, "what is there and has the hash is not asked for again")
    try await manager.remove(file)
    XCTAssertFalse(FileManager.default.fileExists(atPath: file.path))
  }

  func testADownloadThatEndedEarlyGoesOn() async throws {
    let folder = try TemporaryFolder()
    let manager = manager(folder)
    let server = try FileServer(.init(content: content, cutAfter: 30_000))
    defer { server.stop() }
    let expected = ModelManager.Expectation(sha256: SHA256.hex(content))
    await fails({ if case GessoError.download = $0 { true } else { false } }) {
      try await manager.fetchAdapter(from: server.url, expecting: expected)
    }
    server.behaviour.cutAfter = nil
    // The next start of the app.
    let file = try await self.manager(folder).fetchAdapter(from: server.url, expecting: expected)
    XCTAssertEqual(try Data(contentsOf: file), content)
    let range = try XCTUnwrap(server.requests.last?["range"])
    let start = try XCTUnwrap(Int(range.dropFirst("bytes=".count).dropLast()))
    XCTAssert((1...30_000).contains(start), range)
    XCTAssertEqual(server.requests.last?["if-range"], "\"one\"")
  }

  func testAFileThatChangedStartsAnew() async throws {
    for hasRanges in [true, false] {
      let folder = try TemporaryFolder()
      let manager = manager(folder)
      let server = try FileServer(.init(content: Data(content.reversed()), cutAfter: 30_000))
      defer { server.stop() }
      await fails({ $0 is GessoError }) { try await manager.fetchAdapter(from: server.url) }
      server.behaviour = .init(content: content, tag: hasRanges ? "\"two\"" : "\"one\"", hasRanges: hasRanges)
      let file = try await manager.fetchAdapter(from: server.url)
      XCTAssertEqual(try Data(contentsOf: file), content)
    }
  }

  func testLimitsHashesAndStatuses() async throws {
    let folder = try TemporaryFolder()
    let manager = manager(folder, most: 50_000)
    let server = try FileServer(.init(content: content))
    defer { server.stop() }
    let isTooLarge = { (error: any Error) in if case GessoError.tooLarge(_, 50_000, _) = error { true } else { false } }
    await fails(isTooLarge) { try await manager.fetchAdapter(from: server.url) }
    server.behaviour.hidesLength = true
    await fails(isTooLarge) { try await manager.fetchAdapter(from: server.url) }
    let downloads = manager.folder.downloads.path
    XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: downloads), [])
    let wide = self.manager(folder)
    let wrong = String(repeating: "0", count: 64)
    await fails({
      $0 as? GessoError == .hash(file: server.url.absoluteString, expected: wrong, found: SHA256.hex(content))
    }) { try await wide.fetchAdapter(from: server.url, expecting: .init(sha256: wrong)) }
    XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: downloads), [])
    await fails({ if case GessoError.download = $0 { true } else { false } }) {
      try await wide.fetchAdapter(from: server.url, expecting: .init(bytes: content.count + 1))
    }
    server.behaviour.status = 404
    await fails({ "\($0)".contains("status 404") }) {
      try await wide.fetchAdapter(from: server.url, expecting: .init(sha256: wrong))
    }
    try await wide.prune()
    XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: downloads), [])
  }

  func testCallersOfOneAddressDownloadOnceAndMayCancel() async throws {
    let folder = try TemporaryFolder()
    let manager = manager(folder)
    let server = try FileServer(.init(content: content, delay: 4))
    defer { server.stop() }
    let files = try await withThrowingTaskGroup(of: URL.self) { group in
      for _ in 0..<8 { group.addTask { try await manager.fetchAdapter(from: server.url) } }
      return try await group.reduce(into: Set<URL>()) { $0.insert($1) }
    }
    XCTAssertEqual(files.count, 1)
    XCTAssertEqual(server.requests.count, 1)
    try await manager.remove(try XCTUnwrap(files.first))
    server.behaviour.delay = 20
    let task = Task { try await manager.fetchAdapter(from: server.url) }
    try await Task.sleep(for: .milliseconds(100))
    task.cancel()
    await fails({ $0 is CancellationError }) { try await task.value }
    server.behaviour.delay = 0
    let file = try await manager.fetchAdapter(from: server.url)
    XCTAssertEqual(try Data(contentsOf: file), content)
  }

  func testFilesAreCopied() async throws {
    let folder = try TemporaryFolder()
    let manager = manager(folder)
    let asset = try TestAsset(name: "a", components: ["unet"]).written(to: folder)
    let file = try await manager.fetchAdapter(from: asset)
    XCTAssertEqual(try Data(contentsOf: file), try Data(contentsOf: asset))
    await fails({ if case GessoError.io = $0 { true } else { false } }) {
      try await manager.fetchAdapter(from: folder.url.appendingPathComponent("nothing"))
    }
  }
}

/// Progress as it came.
private final class Recorder: @unchecked Sendable {
  private let lock = NSLock()
  private var list: [ModelManager.DownloadProgress] = []

  func add(_ progress: ModelManager.DownloadProgress) { lock.withLock { list.append(progress) } }
  var all: [ModelManager.DownloadProgress] { lock.withLock { list } }
}
