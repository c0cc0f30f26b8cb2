import CGesso
import Foundation

/// Where predictions and loads run that a task waits for: they would block its thread.
private let queue = DispatchQueue(label: "CoreML", attributes: .concurrent)

/// Runs something on the queue; its value goes from there to the caller, and nobody else has it.
func onQueue<Value>(_ body: @escaping () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Value, any Error>) in
    queue.async { continuation.resume(with: Result(catching: body)) }
  }
}

/// A compiled model in memory, run by the reference engine.
open class MLModel: NSObject {
  let engine: EngineModel
  let function: Contents.Function
  open var configuration: MLModelConfiguration { own.copied }
  public let modelDescription: MLModelDescription
  private let own: MLModelConfiguration

  init(engine: EngineModel, configuration: MLModelConfiguration) throws {
    if let key = configuration.parameters?.keys.map(\.name).min() {
      throw MLModelError(.parameters, "the model has no parameter `\(key)`")
    }
    self.engine = engine
    function = try engine.function(named: configuration.functionName)
    own = configuration.copied
    modelDescription = engine.contents.description(of: function)
  }

  /// Loads a compiled model (`.mlmodelc`); a package has to be compiled first.
  public convenience init(contentsOf url: URL) throws {
    try self.init(contentsOf: url, configuration: MLModelConfiguration())
  }

  public convenience init(contentsOf url: URL, configuration: MLModelConfiguration) throws {
    try self.init(engine: MLModel.compiled(at: url), configuration: configuration)
  }

  open class func load(_ asset: MLModelAsset, configuration: MLModelConfiguration, completionHandler handler: @escaping (MLModel?, (any Error)?) -> Void) {
    let configuration = configuration.copied
    queue.async {
      do {
        handler(try MLModel(engine: asset.engine(), configuration: configuration), nil)
      } catch {
        handler(nil, error)
      }
    }
  }

  open class func load(asset: MLModelAsset, configuration: MLModelConfiguration) async throws -> MLModel {
    let configuration = configuration.copied
    return try await onQueue { try MLModel(engine: asset.engine(), configuration: configuration) }
  }

  /// Parameters are of updatable models, which programs are not.
  open func parameterValue(for key: MLParameterKey) throws -> Any {
    throw MLModelError(.parameters, "the model has no parameter `\(key.name)`")
  }

  static func compiled(at url: URL) throws -> EngineModel { try EngineModel(path: compiledPath(of: url)) }

  /// Path of a compiled model; a package and what is not there are errors.
  static func compiledPath(of url: URL) throws -> String {
    var isFolder: ObjCBool = false
    guard url.isFileURL, FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw MLModelError(.io, "there is no model at `\(url.path)`")
    }
    let program = url.appendingPathComponent("model.mil").path
    guard isFolder.boolValue, FileManager.default.fileExists(atPath: program) else {
      throw MLModelError(
        .io, "`\(url.path)` is not a compiled model; compile a package with `MLModel.compileModel(at:)`")
    }
    return url.path
  }
}

extension MLModel {
  public class func load(
    contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration(), completionHandler handler: @escaping (Result<MLModel, any Error>) -> Void
  ) {
    let configuration = configuration.copied
    queue.async { handler(Result { try MLModel(contentsOf: url, configuration: configuration) }) }
  }

  public class func load(
    contentsOf url: URL, configuration: MLModelConfiguration = MLModelConfiguration()
  ) async throws -> MLModel {
    let configuration = configuration.copied
    return try await onQueue { try MLModel(contentsOf: url, configuration: configuration) }
  }

  /// Processors that models run on: the CPU.
  public static var availableComputeDevices: [MLComputeDevice] { MLComputeDevice.allComputeDevices }
}

extension MLModel {
  /// Compiles a package, or a `.mlmodel` file that holds its weights, into a folder of its own among the temporary
  /// ones; the caller moves it to where it stays.
  public class func compileModel(at modelURL: URL) throws -> URL {
    var isFolder: ObjCBool = false
    guard modelURL.isFileURL, FileManager.default.fileExists(atPath: modelURL.path, isDirectory: &isFolder) else {
      throw MLModelError(.io, "there is no model at `\(modelURL.path)`")
    }
    let name = modelURL.deletingPathExtension().lastPathComponent
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("CoreML-\(UUID().uuidString)")
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw MLModelError(.io, "`\(folder.path)` cannot be made: \(error.localizedDescription)")
    }
    let target = folder.appendingPathComponent(name + ".mlmodelc", isDirectory: true)
    do {
      var package = modelURL
      if !isFolder.boolValue {
        package = folder.appendingPathComponent(name + ".mlpackage", isDirectory: true)
        try MLModelAsset.write(try contents(of: modelURL), [:], as: package)
      }
      try check(gesso_compile(package.path, target.path, 0))
      if !isFolder.boolValue { try? FileManager.default.removeItem(at: package) }
    } catch {
      try? FileManager.default.removeItem(at: folder)
      throw error
    }
    return target
  }

  public class func compileModel(at url: URL) async throws -> URL {
    try await onQueue { try compileNow(url) }
  }

  public class func compileModel(at url: URL, completionHandler handler: @escaping (Result<URL, any Error>) -> Void) {
    queue.async { handler(Result { try compileNow(url) }) }
  }

  private class func contents(of file: URL) throws -> Data {
    do {
      return try Data(contentsOf: file)
    } catch {
      throw MLModelError(.io, "`\(file.path)` cannot be read: \(error.localizedDescription)")
    }
  }

  private class func compileNow(_ url: URL) throws -> URL { try compileModel(at: url) }
}

extension MLModelConfiguration {
  /// A copy, so that later changes do not reach a model.
  var copied: MLModelConfiguration { (copy() as? MLModelConfiguration) ?? self }
}
