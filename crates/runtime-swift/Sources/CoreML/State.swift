import CGesso
import Foundation

/// What a stateful model keeps between predictions: named buffers, zero at first. Predictions with one state come one
/// after the other. A state of a model without states is empty.
public final class MLState: NSObject, @unchecked Sendable {
  private(set) var pointer: OpaquePointer?
  private let names: [String]

  init(engine: EngineModel, function: Contents.Function) throws {
    names = function.states.map(\.name)
    super.init()
    try check(gesso_state_new(engine.pointer, function.name, &pointer))
  }

  deinit { _ = gesso_state_free(&pointer) }

  /// Gives the buffer of a state to read and write; it is good inside `body` alone, which must not predict with the
  /// state. A name that the state does not have is a fault of the program and ends it.
  public func withMultiArray<R>(for stateName: String, _ body: (MLMultiArray) throws -> R) rethrows -> R {
    precondition(names.contains(stateName), "the state has no buffer `\(stateName)`; it has \(names)")
    return try lent(stateName, body)
  }

  /// The buffer of a model with one state; with another number of them it throws.
  @available(*, deprecated, message: "use withMultiArray(for:)")
  public func withMultiArray<R>(_ body: (MLMultiArray) -> R) throws -> R {
    guard names.count == 1, let name = names.first else {
      throw MLModelError(.generic, "`withMultiArray` without a name is for models with one state; this one has \(names)")
    }
    return lent(name, body)
  }

  private func lent<R>(_ name: String, _ body: (MLMultiArray) throws -> R) rethrows -> R {
    var buffer = GessoStateBuffer()
    demand(gesso_state_lock(pointer, name, &buffer))
    defer { demand(gesso_state_unlock(pointer, name)) }
    guard let data = buffer.data, let shape = buffer.shape, let strides = buffer.strides else {
      preconditionFailure("the buffer `\(name)` is nowhere")
    }
    let array = MLMultiArray(
      memory: data, sizes: (0..<buffer.rank).map { Int(shape[$0]) }, dataType: MLMultiArrayDataType(engine: buffer.dtype),
      steps: (0..<buffer.rank).map { Int(strides[$0]) }, release: { _ in })
    return try body(array)
  }

  /// Ends the program when a buffer cannot be lent or given back: it is lent already, or an integer is too large.
  private func demand(_ status: Int32) {
    do {
      try check(status)
    } catch {
      preconditionFailure(error.localizedDescription)
    }
  }
}

extension MLModel {
  /// A state of zeros for the model's function.
  public func makeState() -> MLState {
    do {
      return try MLState(engine: engine, function: function)
    } catch {
      preconditionFailure(error.localizedDescription)
    }
  }
}

extension MLMultiArrayDataType {
  /// From a number of the C ABI.
  init(engine: Int32) {
    switch engine {
    case number(GESSO_DTYPE_F16): self = .float16
    case number(GESSO_DTYPE_F64): self = .double
    case number(GESSO_DTYPE_I32): self = .int32
    default: self = .float32
    }
  }
}
