import Foundation

/// Kind of a feature. The engine's models have arrays only.
public enum MLFeatureType: Int, Sendable {
  case invalid = 0
  case int64 = 1
  case double = 2
  case string = 3
  case image = 4
  case multiArray = 5
  case dictionary = 6
  case sequence = 7
  case state = 8
}

/// Element type of an array.
public enum MLMultiArrayDataType: Int, Sendable {
  case double = 0x10040
  case float32 = 0x10020
  case float16 = 0x10010
  case int32 = 0x20020
  case int8 = 0x20008

  public static var float64: MLMultiArrayDataType { .double }
  public static var float: MLMultiArrayDataType { .float32 }

  /// Bytes of one element.
  var size: Int {
    switch self {
    case .double: 8
    case .float32, .int32: 4
    case .float16: 2
    case .int8: 1
    }
  }

  /// Word for messages.
  var word: String {
    switch self {
    case .double: "double"
    case .float32: "float32"
    case .float16: "float16"
    case .int32: "int32"
    case .int8: "int8"
    }
  }

  var isInteger: Bool { self == .int32 || self == .int8 }
}

/// How the shapes that an array may have are given.
public enum MLMultiArrayShapeConstraintType: Int, Sendable {
  case unspecified = 1
  case enumerated = 2
  case range = 3
}
