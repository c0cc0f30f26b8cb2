import Foundation

/// Where the operations of a model will run. There is one place, the CPU, whatever the configuration says.
public final class MLComputePlan {
  /// The processors that can run something, and the one that will.
  public struct DeviceUsage: Sendable {
    public let supported: [MLComputeDevice]
    public let preferred: MLComputeDevice
  }

  /// Part of the time of the whole model, from 0 to 1.
  public struct Cost: Sendable {
    public let weight: Double
  }

  public let modelStructure: MLModelStructure

  private init(modelStructure: MLModelStructure) { self.modelStructure = modelStructure }

  /// Loads a compiled model, as the engine would to run it: an operation that it cannot run is an error.
  public static func load(
    contentsOf url: URL, configuration: MLModelConfiguration
  ) async throws -> MLComputePlan {
    let configuration = configuration.copied
    return try await onQueue { try made(MLModelAsset(url: url), configuration) }
  }

  public static func load(asset: MLModelAsset, configuration: MLModelConfiguration) async throws -> MLComputePlan {
    let configuration = configuration.copied
    return try await onQueue { try made(asset, configuration) }
  }

  private static func made(_ asset: MLModelAsset, _ configuration: MLModelConfiguration) throws -> MLComputePlan {
    _ = try MLModel(engine: asset.engine(), configuration: configuration)
    return MLComputePlan(modelStructure: try MLModelStructure.read(asset))
  }

  /// Nil: the engine runs no neural networks.
  public func deviceUsage(for layer: MLModelStructure.NeuralNetwork.Layer) -> MLComputePlan.DeviceUsage? { nil }

  /// The CPU; nil for a constant, which is not run.
  public func deviceUsage(for operation: MLModelStructure.Program.Operation) -> MLComputePlan.DeviceUsage? {
    guard operation.operatorName != "const" else { return nil }
    let cpu = MLComputeDevice.cpu(.only)
    return DeviceUsage(supported: [cpu], preferred: cpu)
  }

  /// Nil: the engine makes no estimates.
  public func estimatedCost(of operation: MLModelStructure.Program.Operation) -> MLComputePlan.Cost? { nil }
}
