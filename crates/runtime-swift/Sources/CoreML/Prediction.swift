import CGesso
import Foundation

extension MLModel {
  /// Runs the function. Features of `input` that the model does not have are ignored.
  public func prediction(from input: any MLFeatureProvider) throws -> any MLFeatureProvider {
    try run(input, backings: [:])
  }

  public func prediction(from input: any MLFeatureProvider, options: MLPredictionOptions) throws -> any MLFeatureProvider {
    try run(input, backings: options.outputBackings)
  }

  /// Runs the function away from the task's thread; cancelling the task ends it before its next op, with
  /// `MLModelError.predictionCancelled`.
  public func prediction(
    from input: any MLFeatureProvider, options: MLPredictionOptions = MLPredictionOptions()
  ) async throws -> any MLFeatureProvider {
    let backings = options.outputBackings
    return try await cancellable { try self.run(input, backings: backings, token: $0) }
  }

  /// Runs the function with a state, which it changes.
  public func prediction(from inputFeatures: any MLFeatureProvider, using state: MLState) throws -> any MLFeatureProvider {
    try run(inputFeatures, backings: [:], state: state)
  }

  public func prediction(
    from inputFeatures: any MLFeatureProvider, using state: MLState, options: MLPredictionOptions
  ) throws -> any MLFeatureProvider {
    try run(inputFeatures, backings: options.outputBackings, state: state)
  }

  public func prediction(
    from input: any MLFeatureProvider, using state: MLState, options: MLPredictionOptions = MLPredictionOptions()
  ) async throws -> any MLFeatureProvider {
    let backings = options.outputBackings
    return try await cancellable { try self.run(input, backings: backings, state: state, token: $0) }
  }

  /// Runs the function for each set of features, one after the other; an error names the run.
  public func predictions(fromBatch inputBatch: any MLBatchProvider) throws -> any MLBatchProvider {
    try predictions(from: inputBatch, options: MLPredictionOptions())
  }

  public func predictions(
    from inputBatch: any MLBatchProvider, options: MLPredictionOptions
  ) throws -> any MLBatchProvider {
    guard options.outputBackings.isEmpty else {
      throw MLModelError(.generic, "a batch has no output backings: each run would write over the one before")
    }
    var results: [any MLFeatureProvider] = []
    for index in 0..<inputBatch.count {
      do {
        results.append(try run(inputBatch.features(at: index), backings: [:]))
      } catch let error as MLModelError {
        throw MLModelError(error.code, "run \(index) of \(inputBatch.count): \(error.localizedDescription)")
      }
    }
    return MLArrayBatchProvider(array: results)
  }

  private func cancellable<Value>(_ body: @escaping (CancellationToken) throws -> Value) async throws -> Value {
    let token = try CancellationToken()
    return try await withTaskCancellationHandler {
      try await onQueue { try body(token) }
    } onCancel: {
      token.set()
    }
  }

  private func run(
    _ input: any MLFeatureProvider, backings: [String: Any], state: MLState? = nil, token: CancellationToken? = nil
  ) throws -> MLDictionaryFeatureProvider {
    let targets = try outputTargets(backings)
    let inputs = try InputTable(input, for: self)
    var outputs: OpaquePointer?
    defer { _ = gesso_outputs_free(&outputs) }
    try inputs.withEntries { entries in
      let (first, count) = (entries.baseAddress, entries.count)
      if let state {
        try check(
          gesso_predict_outputs_with_state(
            engine.pointer, function.name, state.pointer, first, count, nil, token?.pointer, &outputs))
      } else {
        try check(
          gesso_predict_outputs(engine.pointer, function.name, first, count, nil, token?.pointer, &outputs))
      }
    }
    return try collect(outputs, into: targets)
  }

  /// Arrays that outputs go into, by name.
  private func outputTargets(_ backings: [String: Any]) throws -> [String: MLMultiArray] {
    var targets: [String: MLMultiArray] = [:]
    for (name, backing) in backings {
      guard let constraint = modelDescription.outputDescriptionsByName[name]?.multiArrayConstraint else {
        throw MLModelError(.featureType, "output backing `\(name)`: the model has no such output")
      }
      guard let array = backing as? MLMultiArray else {
        throw MLModelError(.featureType, "output backing `\(name)`: a \(type(of: backing)) is no array")
      }
      guard array.dataType == constraint.dataType else {
        throw MLModelError(
          .featureType,
          "output backing `\(name)`: the output has \(constraint.dataType.word), the array \(array.dataType.word)")
      }
      targets[name] = array
    }
    return targets
  }

  private func collect(
    _ outputs: OpaquePointer?, into targets: [String: MLMultiArray]
  ) throws -> MLDictionaryFeatureProvider {
    var count = 0
    try check(gesso_outputs_count(outputs, &count))
    var values: [String: MLFeatureValue] = [:]
    for index in 0..<count {
      var feature = GessoFeature()
      try check(gesso_outputs_feature(outputs, index, &feature))
      let name = String(cString: feature.name)
      let sizes = (0..<feature.rank).map { Int(feature.shape[$0]) }
      guard let constraint = modelDescription.outputDescriptionsByName[name]?.multiArrayConstraint else { continue }
      let array: MLMultiArray
      if let target = targets[name] {
        guard target.sizes == sizes else {
          throw MLModelError(
            .featureType, "output backing `\(name)`: the output has the shape \(sizes), the array \(target.sizes)")
        }
        array = target
      } else {
        array = try MLMultiArray(
          allocating: sizes, dataType: constraint.dataType, steps: Layout.rowMajor(sizes))
      }
      try copy(feature, of: outputs, to: array)
      values[name] = MLFeatureValue(multiArray: array)
    }
    return MLDictionaryFeatureProvider(values: values)
  }

  private func copy(_ feature: GessoFeature, of outputs: OpaquePointer?, to array: MLMultiArray) throws {
    let steps = array.steps.map(Int64.init)
    try steps.withUnsafeBufferPointer { steps in
      var output = GessoOutput(
        name: feature.name, data: array.dataPointer, bytes: array.byteCount, shape: feature.shape,
        strides: steps.baseAddress, rank: feature.rank, dtype: array.dataType.engine)
      try check(gesso_outputs_copy(outputs, &output))
    }
  }
}

extension MLMultiArrayDataType {
  /// As the C ABI counts them; it has no `int8`, which is converted first.
  var engine: Int32 {
    switch self {
    case .float32: number(GESSO_DTYPE_F32)
    case .float16: number(GESSO_DTYPE_F16)
    case .double: number(GESSO_DTYPE_F64)
    case .int32, .int8: number(GESSO_DTYPE_I32)
    }
  }
}
