import Foundation

/// A model on disk or in memory that is not loaded yet.
open class MLModelAsset: NSObject {
  private let source: Source
  private let lock = NSLock()
  private var loaded: EngineModel?

  enum Source {
    case compiled(URL)
    case specification(Data, blobs: [URL: Data])
  }

  init(source: Source) { self.source = source }

  /// A compiled model; it is read when it is asked for.
  public convenience init(url compiledModelURL: URL) throws {
    guard FileManager.default.fileExists(atPath: compiledModelURL.path) else {
      throw MLModelError(.io, "there is no model at `\(compiledModelURL.path)`")
    }
    self.init(source: .compiled(compiledModelURL))
  }

  /// A specification (the bytes of a `.mlmodel`) whose weights are inside.
  public convenience init(specification specificationData: Data) throws {
    try self.init(specification: specificationData, blobMapping: [:])
  }

  /// A specification and the weight files that it names, each under its name there, `@model_path/weights/weight.bin`.
  public convenience init(specification specificationData: Data, blobMapping: [URL: Data]) throws {
    for url in blobMapping.keys { _ = try MLModelAsset.place(of: url) }
    self.init(source: .specification(specificationData, blobs: blobMapping))
  }

  open func functionNames(completionHandler handler: @escaping ([String]?, (any Error)?) -> Void) {
    finish(handler) { $0.contents.functions.map(\.name) }
  }

  open var functionNames: [String] {
    get async throws { try await onQueue { try self.engine().contents.functions.map(\.name) } }
  }

  open func modelDescription(completionHandler handler: @escaping (MLModelDescription?, (any Error)?) -> Void) {
    finish(handler) { try $0.contents.description(of: $0.function(named: nil)) }
  }

  open var modelDescription: MLModelDescription {
    get async throws { try await described(nil) }
  }

  open func modelDescription(of functionName: String) async throws -> MLModelDescription {
    try await described(functionName)
  }

  /// The model, loaded once.
  func engine() throws -> EngineModel {
    lock.lock()
    defer { lock.unlock() }
    if let loaded { return loaded }
    let model =
      switch source {
      case .compiled(let url): try MLModel.compiled(at: url)
      case .specification(let data, let blobs): try Self.written(data, blobs)
      }
    loaded = model
    return model
  }

  private func described(_ name: String?) async throws -> MLModelDescription {
    try await onQueue {
      let engine = try self.engine()
      return try engine.contents.description(of: engine.function(named: name))
    }
  }

  private func finish<Value>(
    _ handler: @escaping (Value?, (any Error)?) -> Void, _ value: @escaping (EngineModel) throws -> Value
  ) {
    DispatchQueue.global().async {
      do {
        handler(try value(self.engine()), nil)
      } catch {
        handler(nil, error)
      }
    }
  }

  /// A package of the specification and its blobs, among the temporary folders, which goes with the model.
  private static func written(_ specification: Data, _ blobs: [URL: Data]) throws -> EngineModel {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("CoreML-\(UUID().uuidString)")
    let package = folder.appendingPathComponent("Model.mlpackage")
    do {
      try write(specification, blobs, as: package)
      return try EngineModel(path: package.path, temporary: folder)
    } catch {
      try? FileManager.default.removeItem(at: folder)
      throw error
    }
  }

  /// Writes a package, and the folders that hold it.
  static func write(_ specification: Data, _ blobs: [URL: Data], as package: URL) throws {
    let root = package.appendingPathComponent("Data/com.apple.CoreML")
    do {
      try FileManager.default.createDirectory(
        at: root.appendingPathComponent("weights"), withIntermediateDirectories: true)
      try manifest.write(to: package.appendingPathComponent("Manifest.json"))
      try specification.write(to: root.appendingPathComponent("model.mlmodel"))
      for (url, data) in blobs {
        let file = root.appendingPathComponent(try place(of: url))
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try data.write(to: file)
      }
    } catch let error as MLModelError {
      throw error
    } catch {
      throw MLModelError(.io, "`\(package.path)` cannot be written: \(error.localizedDescription)")
    }
  }

  /// Where a blob lies beside the specification.
  private static func place(of url: URL) throws -> String {
    let text = url.relativeString.removingPercentEncoding ?? url.relativeString
    let path = text.hasPrefix("@model_path/") ? String(text.dropFirst("@model_path/".count)) : text
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    guard !path.contains(":"), !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else {
      throw MLModelError(.io, "blob `\(text)` is not below `@model_path/`")
    }
    return path
  }

  private static let manifest = Data(
    """
    {"fileFormatVersion": "1.0.0",
     "itemInfoEntries": {
       "6D6F6465-6C2E-4D6C-8000-6D6F64656C00": {"author": "com.apple.CoreML", "description": "CoreML Model Specification",
         "name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"},
       "77656967-6874-4D73-8000-776569676874": {"author": "com.apple.CoreML", "description": "CoreML Model Weights",
         "name": "weights", "path": "com.apple.CoreML/weights"}},
     "rootModelIdentifier": "6D6F6465-6C2E-4D6C-8000-6D6F64656C00"}
    """.utf8)
}
