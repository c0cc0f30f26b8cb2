import Foundation

/// A value that goes into a model or comes out of one. Images and sequences have no place here.
open class MLFeatureValue: NSObject, NSCopying {
  enum Content {
    case undefined(MLFeatureType)
    case int64(Int64)
    case double(Double)
    case string(String)
    case multiArray(MLMultiArray)
    case dictionary([AnyHashable: NSNumber])
  }

  let content: Content

  init(content: Content) { self.content = content }

  public convenience init(int64 value: Int64) { self.init(content: .int64(value)) }
  public convenience init(double value: Double) { self.init(content: .double(value)) }
  public convenience init(string value: String) { self.init(content: .string(value)) }
  public convenience init(multiArray value: MLMultiArray) { self.init(content: .multiArray(value)) }
  /// A value that is not there.
  public convenience init(undefined type: MLFeatureType) { self.init(content: .undefined(type)) }

  /// Keys are all strings or all integers.
  public convenience init(dictionary value: [AnyHashable: NSNumber]) throws {
    let strings = value.keys.filter { $0.base is String }.count
    let integers = value.keys.filter { $0.base is any FixedWidthInteger || $0.base is NSNumber }.count
    guard strings == value.count || integers == value.count else {
      throw MLModelError(.featureType, "the keys of a dictionary are all strings or all integers")
    }
    self.init(content: .dictionary(value))
  }

  public var type: MLFeatureType {
    switch content {
    case .undefined(let type): type
    case .int64: .int64
    case .double: .double
    case .string: .string
    case .multiArray: .multiArray
    case .dictionary: .dictionary
    }
  }

  public var isUndefined: Bool { if case .undefined = content { true } else { false } }
  public var int64Value: Int64 { if case .int64(let value) = content { value } else { 0 } }
  public var doubleValue: Double { if case .double(let value) = content { value } else { 0 } }
  public var stringValue: String { if case .string(let value) = content { value } else { "" } }
  public var multiArrayValue: MLMultiArray? { if case .multiArray(let value) = content { value } else { nil } }
  public var dictionaryValue: [AnyHashable: NSNumber] {
    if case .dictionary(let value) = content { value } else { [:] }
  }

  /// Whether both have the same type and the same value; arrays, the same shape and elements.
  public func isEqual(to value: MLFeatureValue) -> Bool {
    switch (content, value.content) {
    case (.undefined(let a), .undefined(let b)): return a == b
    case (.int64(let a), .int64(let b)): return a == b
    case (.double(let a), .double(let b)): return a == b
    case (.string(let a), .string(let b)): return a == b
    case (.dictionary(let a), .dictionary(let b)): return a == b
    case (.multiArray(let a), .multiArray(let b)):
      guard a !== b else { return true }
      guard a.sizes == b.sizes, a.dataType == b.dataType else { return false }
      return (0..<a.count).allSatisfy { a[$0] == b[$0] }
    default: return false
    }
  }

  open override func isEqual(_ object: Any?) -> Bool {
    (object as? MLFeatureValue).map { isEqual(to: $0) } ?? false
  }

  open override var hash: Int { type.rawValue }

  open func copy(with zone: NSZone? = nil) -> Any { self }

  open override var description: String {
    switch content {
    case .undefined(let type): "Undefined : \(type)"
    case .int64(let value): "Int64 : \(value)"
    case .double(let value): "Double : \(value)"
    case .string(let value): "String : \(value)"
    case .multiArray(let value): value.description
    case .dictionary(let value): "Dictionary : \(value)"
    }
  }
}

extension MLFeatureValue {
  /// An array with the scalars of a shaped one.
  public convenience init<Scalar>(shapedArray: MLShapedArray<Scalar>) where Scalar: MLShapedArrayScalar {
    self.init(multiArray: MLMultiArray(shapedArray))
  }

  /// The array, nil when there is none or its dtype is not `type`'s.
  public func shapedArrayValue<Scalar>(of type: Scalar.Type) -> MLShapedArray<Scalar>? where Scalar: MLShapedArrayScalar {
    guard let array = multiArrayValue, array.dataType == Scalar.multiArrayDataType else { return nil }
    return MLShapedArray(array)
  }

  public convenience init(_ value: MLSendableFeatureValue) { self.init(content: value.content) }

  /// The value of an entry of a dictionary: a feature value, an array, a number, a string, a dictionary.
  static func made(of value: Any, for name: String) throws -> MLFeatureValue {
    switch value {
    case let value as MLFeatureValue: return value
    case let value as MLMultiArray: return MLFeatureValue(multiArray: value)
    case let value as String: return MLFeatureValue(string: value)
    case let value as Double: return MLFeatureValue(double: value)
    case let value as Float: return MLFeatureValue(double: Double(value))
    case let value as any FixedWidthInteger: return MLFeatureValue(int64: Int64(truncatingIfNeeded: value))
    case let value as NSNumber:
      let isFloat = ["f", "d"].contains(String(cString: value.objCType))
      return isFloat ? MLFeatureValue(double: value.doubleValue) : MLFeatureValue(int64: value.int64Value)
    case let value as [AnyHashable: NSNumber]: return try MLFeatureValue(dictionary: value)
    default:
      throw MLModelError(.featureType, "feature `\(name)`: a \(Swift.type(of: value)) is no feature value")
    }
  }
}
