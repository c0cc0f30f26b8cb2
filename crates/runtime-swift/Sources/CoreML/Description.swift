import Foundation

/// Names of what a model's metadata say.
public struct MLModelMetadataKey: RawRepresentable, Hashable, Sendable {
  public let rawValue: String
  public init(rawValue: String) { self.rawValue = rawValue }

  public static let author = MLModelMetadataKey(rawValue: "MLModelAuthorKey")
  /// A dictionary of strings.
  public static let creatorDefinedKey = MLModelMetadataKey(rawValue: "MLModelCreatorDefinedKey")
  public static let description = MLModelMetadataKey(rawValue: "MLModelDescriptionKey")
  public static let license = MLModelMetadataKey(rawValue: "MLModelLicenseKey")
  public static let versionString = MLModelMetadataKey(rawValue: "MLModelVersionStringKey")
}

/// Features of one function of a model.
open class MLModelDescription: NSObject {
  public let inputDescriptionsByName: [String: MLFeatureDescription]
  public let outputDescriptionsByName: [String: MLFeatureDescription]
  public let stateDescriptionsByName: [String: MLFeatureDescription]
  public let metadata: [MLModelMetadataKey: Any]

  init(
    inputs: [MLFeatureDescription], outputs: [MLFeatureDescription], states: [MLFeatureDescription],
    metadata: [MLModelMetadataKey: Any]
  ) {
    func byName(_ features: [MLFeatureDescription]) -> [String: MLFeatureDescription] {
      Dictionary(features.map { ($0.name, $0) }) { first, _ in first }
    }
    inputDescriptionsByName = byName(inputs)
    outputDescriptionsByName = byName(outputs)
    stateDescriptionsByName = byName(states)
    self.metadata = metadata
  }

  /// Nil: programs of the engine are no classifiers.
  open var predictedFeatureName: String? { nil }
  open var predictedProbabilitiesName: String? { nil }
  open var classLabels: [Any]? { nil }
  /// False, as for every ML Program.
  open var isUpdatable: Bool { false }
  open var trainingInputDescriptionsByName: [String: MLFeatureDescription] { [:] }
}

/// Name, kind and shape of an input, an output or a state.
open class MLFeatureDescription: NSObject, NSCopying {
  public let name: String
  public let type: MLFeatureType
  public let isOptional: Bool
  public let multiArrayConstraint: MLMultiArrayConstraint?
  public let stateConstraint: MLStateConstraint?

  init(
    name: String, isOptional: Bool, multiArrayConstraint: MLMultiArrayConstraint?, stateConstraint: MLStateConstraint?
  ) {
    self.name = name
    self.isOptional = isOptional
    self.multiArrayConstraint = multiArrayConstraint
    self.stateConstraint = stateConstraint
    type = stateConstraint == nil ? .multiArray : .state
  }

  open func copy(with zone: NSZone? = nil) -> Any { self }

  /// Whether a value has the kind and a shape that the feature takes.
  open func isAllowedValue(_ value: MLFeatureValue) -> Bool {
    if value.isUndefined { return isOptional }
    guard let constraint = multiArrayConstraint, let array = value.multiArrayValue else { return false }
    return constraint.refusal(of: array) == nil
  }
}

/// Shape and dtype of an array.
open class MLMultiArrayConstraint: NSObject {
  public let dataType: MLMultiArrayDataType
  public let shapeConstraint: MLMultiArrayShapeConstraint
  let sizes: [Int]

  init(dataType: MLMultiArrayDataType, sizes: [Int], shapeConstraint: MLMultiArrayShapeConstraint) {
    self.dataType = dataType
    self.sizes = sizes
    self.shapeConstraint = shapeConstraint
  }

  /// The shape, or the default one where several are allowed.
  open var shape: [NSNumber] { sizes.map { NSNumber(value: $0) } }

  /// Why an array cannot be the feature's value; nil when it can.
  func refusal(of array: MLMultiArray) -> String? {
    if dataType.isInteger, !array.dataType.isInteger {
      return "it takes \(dataType.word), and the array has \(array.dataType.word)"
    }
    guard shapeConstraint.allows(array.sizes, fixed: sizes) else {
      return "it takes \(shapeConstraint.words(fixed: sizes)), and the array has the shape \(Self.word(array.sizes))"
    }
    return nil
  }

  static func word(_ sizes: [Int]) -> String { sizes.map(String.init).joined(separator: " × ") }
}

/// Shapes that an array may have.
open class MLMultiArrayShapeConstraint: NSObject {
  public let type: MLMultiArrayShapeConstraintType
  let shapes: [[Int]]
  let ranges: [ClosedRange<Int>]

  init(shapes: [[Int]], ranges: [ClosedRange<Int>]) {
    self.shapes = shapes
    self.ranges = ranges
    type = !ranges.isEmpty ? .range : !shapes.isEmpty ? .enumerated : .unspecified
  }

  /// All of them, when they are listed.
  open var enumeratedShapes: [[NSNumber]] { shapes.map { $0.map { NSNumber(value: $0) } } }

  /// For each dimension a value with an `NSRange`: lowest size, number of sizes.
  open var sizeRangeForDimension: [NSValue] {
    ranges.map { range in
      let length = range.upperBound == Int.max ? Int.max : range.upperBound - range.lowerBound + 1
      return NSValue(range: NSRange(location: range.lowerBound, length: length))
    }
  }

  func allows(_ sizes: [Int], fixed: [Int]) -> Bool {
    switch type {
    case .enumerated: shapes.contains(sizes)
    case .range: sizes.count == ranges.count && zip(ranges, sizes).allSatisfy { $0.contains($1) }
    case .unspecified:
      sizes.count == fixed.count && zip(fixed, sizes).allSatisfy { $0 == $1 || $0 < 0 }
    }
  }

  func words(fixed: [Int]) -> String {
    switch type {
    case .enumerated: "one of the shapes \(shapes.map(MLMultiArrayConstraint.word).joined(separator: ", "))"
    case .range:
      "a shape of " + ranges.map { range in
        if range.lowerBound == range.upperBound { return "\(range.lowerBound)" }
        return "\(range.lowerBound)…\(range.upperBound == Int.max ? "" : "\(range.upperBound)")"
      }.joined(separator: " × ")
    case .unspecified: "the shape \(MLMultiArrayConstraint.word(fixed))"
    }
  }
}

/// Shape and dtype of what a model keeps between predictions.
open class MLStateConstraint: NSObject {
  public let bufferShape: [Int]
  public let dataType: MLMultiArrayDataType

  init(bufferShape: [Int], dataType: MLMultiArrayDataType) {
    self.bufferShape = bufferShape
    self.dataType = dataType
  }
}
