import Foundation

/// A feature value that may go from one task to another.
public struct MLSendableFeatureValue: Hashable, CustomDebugStringConvertible, @unchecked Sendable {
  /// Arrays are copied on the way in, so that nobody else writes to them.
  let content: MLFeatureValue.Content
  private let strings: [String]?
  /// Type of the number that it was made of.
  private let floatingType: (any BinaryFloatingPoint.Type)?

  private init(
    _ content: MLFeatureValue.Content, strings: [String]? = nil, _ floatingType: (any BinaryFloatingPoint.Type)? = nil
  ) {
    self.content = content
    self.strings = strings
    self.floatingType = floatingType
  }

  public init(undefined type: MLFeatureType) { self.init(.undefined(type)) }
  public init(_ value: Int) { self.init(.int64(Int64(value))) }
  public init(_ value: Int32) { self.init(.int64(Int64(value))) }
  public init(_ value: Double) { self.init(.double(value), Double.self) }
  public init(_ value: Float) { self.init(.double(Double(value)), Float.self) }
  public init(_ value: Float16) { self.init(.double(Double(value)), Float16.self) }
  public init(_ value: String) { self.init(.string(value)) }
  public init(_ value: [String]) { self.init(.undefined(.sequence), strings: value) }
  public init(_ value: [String: Int]) { self.init(.dictionary(Self.numbers(value) { NSNumber(value: $0) })) }
  public init(_ value: [String: Double]) { self.init(.dictionary(Self.numbers(value) { NSNumber(value: $0) })) }
  public init(_ value: [Int: Int]) { self.init(.dictionary(Self.numbers(value) { NSNumber(value: $0) })) }
  public init(_ value: [Int: Double]) { self.init(.dictionary(Self.numbers(value) { NSNumber(value: $0) })) }

  public init<Scalar>(_ value: MLShapedArray<Scalar>) where Scalar: MLShapedArrayScalar {
    self.init(.multiArray(MLMultiArray(value)))
  }

  /// A copy of the value.
  public init?(_ value: MLFeatureValue) {
    if case .multiArray(let array) = value.content {
      let copy = MLMultiArray(shape: array.sizes, dataType: array.dataType, strides: Layout.rowMajor(array.sizes))
      array.transfer(to: copy)
      self.init(.multiArray(copy))
    } else if case .double = value.content {
      self.init(value.content, Double.self)
    } else {
      self.init(value.content)
    }
  }

  public var type: MLFeatureType { MLFeatureValue(content: content).type }
  public var isUndefined: Bool { strings == nil && MLFeatureValue(content: content).isUndefined }
  public var isShapedArray: Bool { type == .multiArray }
  /// Whether it is one number.
  public var isScalar: Bool { !isUndefined && [.int64, .double].contains(type) }

  public var integerValue: Int? { if case .int64(let value) = content { Int(value) } else { nil } }
  /// The number, if it was made of this type; so are the other two.
  public var doubleValue: Double? { number() }
  public var floatValue: Float? { number() }
  public var float16Value: Float16? { number() }
  public var stringValue: String? { if case .string(let value) = content { value } else { nil } }
  public var stringArrayValue: [String]? { strings }

  public var stringDictionaryValue: [String: Double]? {
    dictionary { $0.base as? String }
  }

  public var integerDictionaryValue: [Int: Double]? {
    dictionary { ($0.base as? Int) ?? ($0.base as? NSNumber)?.intValue }
  }

  public func shapedArrayValue<Scalar>(of type: Scalar.Type) -> MLShapedArray<Scalar>? where Scalar: MLShapedArrayScalar {
    MLFeatureValue(content: content).shapedArrayValue(of: type)
  }

  public var debugDescription: String {
    strings.map { "Sequence : \($0)" } ?? MLFeatureValue(content: content).description
  }

  public static func == (a: MLSendableFeatureValue, b: MLSendableFeatureValue) -> Bool {
    a.strings == b.strings && a.floatingType == b.floatingType
      && MLFeatureValue(content: a.content).isEqual(to: MLFeatureValue(content: b.content))
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(type) }

  private func number<Number: BinaryFloatingPoint>() -> Number? {
    guard case .double(let value) = content, floatingType == Number.self else { return nil }
    return Number(value)
  }

  private static func numbers<Key: Hashable, Value>(
    _ value: [Key: Value], _ number: (Value) -> NSNumber
  ) -> [AnyHashable: NSNumber] {
    var result: [AnyHashable: NSNumber] = [:]
    for (key, value) in value { result[key] = number(value) }
    return result
  }

  private func dictionary<Key: Hashable>(_ key: (AnyHashable) -> Key?) -> [Key: Double]? {
    guard case .dictionary(let entries) = content else { return nil }
    var result: [Key: Double] = [:]
    for (name, value) in entries {
      guard let name = key(name) else { return nil }
      result[name] = value.doubleValue
    }
    return result
  }
}
