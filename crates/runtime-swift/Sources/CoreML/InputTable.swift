import CGesso
import Foundation

/// The inputs of one prediction as the C ABI takes them, without a copy of their elements.
final class InputTable {
  private var entries: [GessoInput] = []
  private var arrays: [MLMultiArray] = []
  private var names: [UnsafeMutablePointer<CChar>] = []
  private var numbers: [UnsafeMutablePointer<Int64>] = []

  /// Looks up every input of the model's function; an error names the feature and both sides.
  init(_ provider: any MLFeatureProvider, for model: MLModel) throws {
    for input in model.function.inputs {
      guard let description = model.modelDescription.inputDescriptionsByName[input.name] else { continue }
      guard let value = provider.featureValue(for: input.name), !value.isUndefined else {
        if description.isOptional { continue }
        throw MLModelError(.featureType, "feature `\(input.name)` is required but not given")
      }
      guard let array = value.multiArrayValue else {
        throw MLModelError(.featureType, "feature `\(input.name)` takes an array, and the value is \(value)")
      }
      if let refusal = description.multiArrayConstraint?.refusal(of: array) {
        throw MLModelError(.featureType, "feature `\(input.name)`: \(refusal)")
      }
      add(array, as: input.name)
    }
  }

  deinit {
    names.forEach { free($0) }
    numbers.forEach { $0.deallocate() }
  }

  /// Gives the table; its pointers hold as long as `body` runs.
  func withEntries<Value>(_ body: (UnsafeBufferPointer<GessoInput>) throws -> Value) throws -> Value {
    try withExtendedLifetime(self) { try entries.withUnsafeBufferPointer(body) }
  }

  private func add(_ array: MLMultiArray, as name: String) {
    var array = array
    if array.dataType == .int8 {
      let wide = MLMultiArray(shape: array.sizes, dataType: .int32, strides: Layout.rowMajor(array.sizes))
      array.transfer(to: wide)
      array = wide
    }
    arrays.append(array)
    guard let text = strdup(name) else { return }
    names.append(text)
    let rank = array.sizes.count
    let both = UnsafeMutablePointer<Int64>.allocate(capacity: max(2 * rank, 1))
    numbers.append(both)
    for axis in 0..<rank {
      both[axis] = Int64(array.sizes[axis])
      both[rank + axis] = Int64(array.steps[axis])
    }
    entries.append(
      GessoInput(
        name: text, data: array.dataPointer, bytes: array.byteCount, shape: both, strides: both + rank, rank: rank,
        dtype: array.dataType.engine))
  }
}
