import Foundation

/// What Core ML may assume about the use of a model. The engine is the same for all of them.
public struct MLOptimizationHints: Equatable, Sendable {
  /// How often the shapes of the inputs change.
  public enum ReshapeFrequency: Int, Sendable {
    case frequent
    case infrequent
  }

  /// How much time loading may take to make predictions faster.
  public enum SpecializationStrategy: Int, Sendable {
    case `default`
    case fastPrediction
  }

  public var reshapeFrequency: MLOptimizationHints.ReshapeFrequency = .frequent
  public var specializationStrategy: MLOptimizationHints.SpecializationStrategy = .default

  public init() {}

  public static func == (a: MLOptimizationHints, b: MLOptimizationHints) -> Bool {
    a.reshapeFrequency == b.reshapeFrequency && a.specializationStrategy == b.specializationStrategy
  }
}

/// How a model is loaded. `functionName` chooses the function; the processors are always the CPU.
open class MLModelConfiguration: NSObject, NSCopying {
  open var computeUnits: MLComputeUnits = .all
  /// Function of a model that has several; nil is its default one.
  open var functionName: String?
  open var modelDisplayName: String?
  /// Without effect: nothing runs on a GPU.
  open var allowLowPrecisionAccumulationOnGPU: Bool = false
  /// The models of the engine have no parameters: loading with some fails with `MLModelError.parameters`.
  open var parameters: [MLParameterKey: Any]?
  public var optimizationHints: MLOptimizationHints = .init()

  public override init() { super.init() }

  open func copy(with zone: NSZone? = nil) -> Any {
    let copy = MLModelConfiguration()
    copy.computeUnits = computeUnits
    copy.functionName = functionName
    copy.modelDisplayName = modelDisplayName
    copy.allowLowPrecisionAccumulationOnGPU = allowLowPrecisionAccumulationOnGPU
    copy.parameters = parameters
    copy.optimizationHints = optimizationHints
    return copy
  }
}

/// How a prediction runs.
open class MLPredictionOptions: NSObject {
  /// Arrays that outputs are written into, by name: their shape and dtype must be the output's.
  open var outputBackings: [String: Any] = [:]

  @available(*, deprecated, message: "use MLModelConfiguration.computeUnits")
  open var usesCPUOnly: Bool {
    get { cpuOnly }
    set { cpuOnly = newValue }
  }
  private var cpuOnly = false

  public override init() { super.init() }
}
