import CGesso
import Foundation

/// Throws what the last call of the C ABI on this thread said, when its status is not `OK`: files are `io`; names, shapes
/// and dtypes are `featureType`.
func check(_ status: Int32) throws {
  guard status != number(GESSO_STATUS_OK) else { return }
  var buffer = [CChar](repeating: 0, count: gesso_last_error(nil, 0) + 1)
  _ = gesso_last_error(&buffer, buffer.count)
  let message = buffer.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
  let code: MLModelError.Code =
    switch status {
    case number(GESSO_STATUS_IO), number(GESSO_STATUS_EXISTS), number(GESSO_STATUS_FORMAT),
      number(GESSO_STATUS_UNSUPPORTED):
      .io
    case number(GESSO_STATUS_NAME), number(GESSO_STATUS_MISSING_INPUT), number(GESSO_STATUS_SHAPE),
      number(GESSO_STATUS_BUFFER):
      .featureType
    case number(GESSO_STATUS_CANCELLED): .predictionCancelled
    default: .generic
    }
  throw MLModelError(code, message)
}

/// The number of an enum constant of the C header.
func number<Constant: RawRepresentable>(_ constant: Constant) -> Int32 where Constant.RawValue == UInt32 {
  Int32(bitPattern: constant.rawValue)
}

/// Ends predictions early.
final class CancellationToken: @unchecked Sendable {
  private(set) var pointer: OpaquePointer?

  init() throws { try check(gesso_token_new(&pointer)) }
  deinit { _ = gesso_token_free(&pointer) }
  func set() { _ = gesso_token_set(pointer) }
}

/// A model of the C ABI with what it says of itself. Any number of threads may use it.
final class EngineModel: @unchecked Sendable {
  private(set) var pointer: OpaquePointer?
  let contents: Contents
  /// Where its files lie.
  let path: String
  /// A folder with the model's files that goes when the model goes.
  private let temporary: URL?

  init(path: String, temporary: URL? = nil) throws {
    self.path = path
    self.temporary = temporary
    var model: OpaquePointer?
    var text: UnsafeMutablePointer<CChar>?
    defer {
      _ = gesso_string_free(&text)
      _ = gesso_model_free(&model)
    }
    try check(gesso_model_load(path, &model))
    try check(gesso_model_describe(model, &text))
    guard let text else { throw MLModelError(.generic, "the model at `\(path)` says nothing of itself") }
    contents = try JSONDecoder().decode(Contents.self, from: Data(bytes: text, count: strlen(text)))
    swap(&pointer, &model)
  }

  deinit {
    _ = gesso_model_free(&pointer)
    if let temporary { try? FileManager.default.removeItem(at: temporary) }
  }

  /// The function that a configuration names.
  func function(named name: String?) throws -> Contents.Function {
    let wanted = name ?? contents.defaultFunction
    guard let function = contents.functions.first(where: { $0.name == wanted }) else {
      let names = contents.functions.map { "`\($0.name)`" }.joined(separator: ", ")
      throw MLModelError(.generic, "the model has no function `\(wanted)`; it has \(names)")
    }
    return function
  }
}

/// What `gesso_model_describe` gives.
struct Contents: Decodable {
  struct Feature: Decodable {
    let name: String
    let dtype: String
    /// -1 where a size is not fixed.
    let shape: [Int]
    let optional: Bool?
    let defaultShape: [Int]?
    let shapeRanges: [[Int?]]?
    let enumeratedShapes: [[Int]]?

    enum CodingKeys: String, CodingKey {
      case name, dtype, shape, optional
      case defaultShape = "default_shape"
      case shapeRanges = "shape_ranges"
      case enumeratedShapes = "enumerated_shapes"
    }

    var dataType: MLMultiArrayDataType {
      switch dtype {
      case "fp16": .float16
      case "fp32": .float32
      case "fp64": .double
      default: .int32
      }
    }
  }

  struct Function: Decodable {
    let name: String
    let inputs: [Feature]
    let outputs: [Feature]
    let states: [Feature]
  }

  struct Metadata: Decodable {
    let author: String
    let description: String
    let license: String
    let version: String
    let userDefined: [String: String]

    enum CodingKeys: String, CodingKey {
      case author, description, license, version
      case userDefined = "user_defined"
    }
  }

  let defaultFunction: String
  let functions: [Function]
  let metadata: Metadata

  enum CodingKeys: String, CodingKey {
    case functions, metadata
    case defaultFunction = "default_function"
  }

  func description(of function: Function) -> MLModelDescription {
    MLModelDescription(
      inputs: function.inputs.map(MLFeatureDescription.init(array:)),
      outputs: function.outputs.map(MLFeatureDescription.init(array:)),
      states: function.states.map(MLFeatureDescription.init(state:)),
      metadata: [
        .author: metadata.author, .description: metadata.description, .license: metadata.license,
        .versionString: metadata.version, .creatorDefinedKey: metadata.userDefined,
      ])
  }
}

extension MLFeatureDescription {
  convenience init(array feature: Contents.Feature) {
    let ranges = (feature.shapeRanges ?? []).map { range in
      let lowest = range.first.flatMap { $0 } ?? 0
      return lowest...max(lowest, range.last.flatMap { $0 } ?? Int.max)
    }
    let shapes = MLMultiArrayShapeConstraint(shapes: feature.enumeratedShapes ?? [], ranges: ranges)
    let constraint = MLMultiArrayConstraint(
      dataType: feature.dataType, sizes: feature.defaultShape ?? feature.shape, shapeConstraint: shapes)
    self.init(
      name: feature.name, isOptional: feature.optional ?? false, multiArrayConstraint: constraint, stateConstraint: nil)
  }

  convenience init(state feature: Contents.Feature) {
    let constraint = MLStateConstraint(bufferShape: feature.shape, dataType: feature.dataType)
    self.init(name: feature.name, isOptional: false, multiArrayConstraint: nil, stateConstraint: constraint)
  }
}
