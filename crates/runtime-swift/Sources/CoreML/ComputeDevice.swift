import Foundation

/// Which processors a model may run on. The engine has one, the CPU: every value loads and runs there.
public enum MLComputeUnits: Int, Sendable {
  case cpuOnly = 0
  case cpuAndGPU = 1
  case all = 2
  case cpuAndNeuralEngine = 3
}

/// A processor.
public protocol MLComputeDeviceProtocol: NSObjectProtocol {}

/// The CPU.
public final class MLCPUComputeDevice: NSObject, MLComputeDeviceProtocol, Sendable {
  static let only = MLCPUComputeDevice()
}

/// A GPU; there is none here.
public final class MLGPUComputeDevice: NSObject, MLComputeDeviceProtocol, Sendable {}

/// The Neural Engine; there is none here.
public final class MLNeuralEngineComputeDevice: NSObject, MLComputeDeviceProtocol, Sendable {
  public var totalCoreCount: Int { 0 }
}

/// A processor that Core ML can use.
public enum MLComputeDevice: Hashable, CustomStringConvertible, Sendable {
  case cpu(MLCPUComputeDevice)
  case gpu(MLGPUComputeDevice)
  case neuralEngine(MLNeuralEngineComputeDevice)

  /// The CPU, alone.
  public static var allComputeDevices: [MLComputeDevice] { [.cpu(.only)] }

  public var description: String {
    switch self {
    case .cpu: "CPU"
    case .gpu: "GPU"
    case .neuralEngine: "Neural Engine"
    }
  }

  public static func == (a: MLComputeDevice, b: MLComputeDevice) -> Bool {
    switch (a, b) {
    case (.cpu(let a), .cpu(let b)): a === b
    case (.gpu(let a), .gpu(let b)): a === b
    case (.neuralEngine(let a), .neuralEngine(let b)): a === b
    default: false
    }
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(description) }
  public var hashValue: Int {
    var hasher = Hasher()
    hash(into: &hasher)
    return hasher.finalize()
  }
}
