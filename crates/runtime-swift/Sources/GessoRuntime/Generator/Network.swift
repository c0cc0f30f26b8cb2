@preconcurrency import CoreML
import Foundation

/// An array of numbers in row-major order.
struct Tensor: Sendable, Equatable {
  var shape: [Int]
  var values: [Float]

  init(_ shape: [Int], _ values: [Float]) {
    self.shape = shape
    self.values = values
  }
}

/// A model that can be asked.
protocol Network: Sendable {
  /// All float outputs by name.
  func predict(_ inputs: [String: Tensor]) async throws -> [String: Tensor]

  /// Puts adapters into the model's slots in place of what is there.
  func fuse(_ adapters: AdapterSet) async throws
}

/// A model on Core ML. An actor: its slots belong to one prediction at a time.
actor LoadedModel: Network {
  private let name: String
  private let model: MLModel
  private let slots: SlotInputs?
  /// The `MLState` of a model whose slots are states, from iOS 18 on.
  private let state: Any?

  /// Loads a compiled model. `sourceHash` is the base's; nil for a model without slots.
  ///
  /// - Throws: `GenerationError.model`; `GessoError` for slots that are not in order.
  init(contentsOf url: URL, name: String, computeUnits: MLComputeUnits, slotsOf sourceHash: String?) async throws {
    let configuration = MLModelConfiguration()
    configuration.computeUnits = computeUnits
    let model: MLModel
    do {
      model = try await MLModel.load(contentsOf: url, configuration: configuration)
    } catch {
      try Task.checkCancellation()
      throw GenerationError.model(name: name, reason: error.localizedDescription)
    }
    self.name = name
    self.model = model
    slots = try sourceHash.map { try SlotInputs(model: model, name: name, sourceHash: $0) }
    if slots?.areStates == true {
      guard #available(iOS 18, macOS 15, *) else {
        throw GenerationError.model(name: name, reason: "its slots are states, which need iOS 18 or macOS 15")
      }
      state = model.makeState()
    } else {
      state = nil
    }
  }

  func fuse(_ adapters: AdapterSet) throws {
    if let slots {
      guard slots.fused != adapters else { return }
      try slots.fuse(adapters)
      if #available(iOS 18, macOS 15, *), let state = state as? MLState { try slots.write(to: state) }
    } else if !adapters.members.isEmpty {
      throw GenerationError.model(name: name, reason: "it has no adapter slots")
    }
  }

  func predict(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
    var features: [String: Any] = slots?.features ?? [:]
    do {
      for (input, tensor) in inputs { features[input] = MLFeatureValue(multiArray: try tensor.multiArray()) }
      let provider = try MLDictionaryFeatureProvider(dictionary: features)
      let outputs: any MLFeatureProvider
      if #available(iOS 18, macOS 15, *), let state = state as? MLState {
        outputs = try await model.prediction(from: provider, using: state, options: MLPredictionOptions())
      } else {
        outputs = try await model.prediction(from: provider, options: MLPredictionOptions())
      }
      var tensors: [String: Tensor] = [:]
      for output in outputs.featureNames {
        if let array = outputs.featureValue(for: output)?.multiArrayValue { tensors[output] = Tensor(array) }
      }
      return tensors
    } catch {
      try Task.checkCancellation()
      throw GenerationError.model(name: name, reason: error.localizedDescription)
    }
  }
}

extension Tensor {
  /// A float32 array of Core ML.
  fileprivate func multiArray() throws -> MLMultiArray {
    let array = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: .float32)
    let expected = shape.reduce(1, *)
    guard values.count == expected else {
      throw GenerationError.model(name: "input", reason: "\(values.count) numbers for the shape \(shape)")
    }
    values.withUnsafeBytes { source in
      array.withUnsafeMutableBytes { target, _ in
        // A new array of Core ML has no gaps.
        target.copyMemory(from: source)
      }
    }
    return array
  }

  /// The numbers of an array of any float type, whatever its strides are.
  fileprivate init(_ array: MLMultiArray) {
    shape = array.shape.map(\.intValue)
    var rowMajor: [Int] = []
    var step = 1
    for size in shape.reversed() {
      rowMajor.insert(step, at: 0)
      step *= size
    }
    if array.dataType == .float32, array.strides.map(\.intValue) == rowMajor {
      values = array.withUnsafeBytes { Array($0.bindMemory(to: Float.self).prefix(step)) }
    } else {
      values = MLShapedArray<Float>(converting: array).scalars
    }
  }
}
