import Foundation

/// Which processors a model may run on. The engine has one, the CPU: every value loads and runs there.
public enum MLComputeUnits: Int, Sendable {
  case cpuOnly = 0
  case cpuAndGPU = 1
  case all = 2
  case cpuAndNeuralEngine = 3
}
