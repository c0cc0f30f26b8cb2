@preconcurrency import CoreML
import Foundation

/// The models of one base, loaded when they are needed.
actor ModelStore {
  /// Makes a network of a compiled model: where it lies, its name, and whether it has slots.
  typealias Loader = @Sendable (_ url: URL, _ name: String, _ hasSlots: Bool) async throws -> any Network

  nonisolated let base: BaseDescription
  private let manager: ModelManager
  private let load: Loader
  private var loaded: [String: any Network] = [:]
  /// Seconds spent on loading since they were asked for last.
  private var seconds = 0.0

  init(base: BaseDescription, manager: ModelManager, load: @escaping Loader) {
    self.base = base
    self.manager = manager
    self.load = load
  }

  /// Names of the models in memory.
  var names: Set<String> { Set(loaded.keys) }

  /// Whether the folder has a model, compiled or as a package.
  nonisolated func has(_ name: String) -> Bool {
    ["mlmodelc", "mlpackage"].contains { FileManager.default.fileExists(atPath: url(name, $0).path) }
  }

  /// A model, loaded if it is not yet.
  ///
  /// - Throws: `GenerationError.missingModel`, `GenerationError.model`, `GessoError` of compiling and slots.
  func network(_ name: String) async throws -> any Network {
    if let network = loaded[name] { return network }
    let start = ContinuousClock.now
    let url = try await compiled(name)
    try Task.checkCancellation()
    let network = try await load(url, name, name.hasSuffix("Adaptable"))
    try Task.checkCancellation()
    seconds += start.duration(to: .now).seconds
    loaded[name] = network
    return network
  }

  /// Lets models go; nil lets all of them go.
  func release(_ names: Set<String>? = nil) {
    if let names {
      for name in names { loaded[name] = nil }
    } else {
      loaded = [:]
    }
  }

  /// Seconds spent on loading since the last call.
  func takeLoadSeconds() -> Double {
    defer { seconds = 0 }
    return seconds
  }

  /// The compiled model: the folder's own, or one that the cache has or makes of the package.
  func compiled(_ name: String) async throws -> URL {
    let own = url(name, "mlmodelc")
    if FileManager.default.fileExists(atPath: own.path) { return own }
    let package = url(name, "mlpackage")
    guard FileManager.default.fileExists(atPath: package.path) else {
      throw GenerationError.missingModel(
        name: name, folder: base.folder.path, hint: "convert again without leaving it out")
    }
    let entry = try await manager.compileAndSaveLoRA(at: package)
    return entry.appendingPathComponent(name + ".mlmodelc", isDirectory: true)
  }

  private nonisolated func url(_ name: String, _ kind: String) -> URL {
    base.folder.appendingPathComponent("\(name).\(kind)", isDirectory: true)
  }
}

extension Duration {
  /// In seconds.
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
