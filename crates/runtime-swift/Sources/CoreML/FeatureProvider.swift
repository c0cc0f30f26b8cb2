import Foundation

/// A set of named values.
public protocol MLFeatureProvider {
  var featureNames: Set<String> { get }
  func featureValue(for featureName: String) -> MLFeatureValue?
}

/// Named values in a dictionary.
open class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
  public let dictionary: [String: MLFeatureValue]

  /// Values are feature values, arrays, numbers, strings or dictionaries; another one is an error that names it.
  public init(dictionary: [String: Any]) throws {
    var values: [String: MLFeatureValue] = [:]
    for (name, value) in dictionary { values[name] = try MLFeatureValue.made(of: value, for: name) }
    self.dictionary = values
  }

  init(values: [String: MLFeatureValue]) { dictionary = values }

  open var featureNames: Set<String> { Set(dictionary.keys) }
  open func featureValue(for featureName: String) -> MLFeatureValue? { dictionary[featureName] }
  open subscript(featureName: String) -> MLFeatureValue? { dictionary[featureName] }
}

/// A row of sets of named values.
public protocol MLBatchProvider {
  var count: Int { get }
  func features(at index: Int) -> any MLFeatureProvider
}

/// A batch in an array.
open class MLArrayBatchProvider: NSObject, MLBatchProvider {
  public let array: [any MLFeatureProvider]

  public init(array: [any MLFeatureProvider]) { self.array = array }

  /// For each name its values, one for each run: all names have as many.
  public init(dictionary: [String: [Any]]) throws {
    let counts = Set(dictionary.values.map(\.count))
    guard counts.count <= 1 else {
      let list = dictionary.map { "`\($0.key)`: \($0.value.count)" }.sorted().joined(separator: ", ")
      throw MLModelError(.generic, "features of a batch have different numbers of values: \(list)")
    }
    array = try (0..<(counts.first ?? 0)).map { index in
      try MLDictionaryFeatureProvider(dictionary: dictionary.mapValues { $0[index] })
    }
  }

  open var count: Int { array.count }
  open func features(at index: Int) -> any MLFeatureProvider { array[index] }
}
