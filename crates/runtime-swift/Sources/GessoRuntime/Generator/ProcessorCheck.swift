@preconcurrency import CoreML
import Foundation

/// Whether a model runs where it was meant to.
enum ProcessorCheck {
  /// What runs ops.
  enum Processor: String, CaseIterable, Sendable {
    case cpu = "CPU"
    case gpu = "GPU"
    case neuralEngine = "Neural Engine"
  }

  /// Least share of a model's work that is expected on the processor that its compute units ask for.
  static let leastShare = 0.5

  /// What to say of a model whose work lies on processors as `costs` tells; nil when it is as expected, or nothing is.
  static func note(model: String, costs: [Processor: Double], wanted: MLComputeUnits) -> String? {
    let expected: Processor
    switch wanted {
    case .cpuAndNeuralEngine: expected = .neuralEngine
    case .cpuAndGPU: expected = .gpu
    default: return nil
    }
    let all = costs.values.reduce(0, +)
    guard all > 0 else { return nil }
    let share = (costs[expected] ?? 0) / all
    if share >= leastShare { return nil }
    let shares = Processor.allCases.map { "\($0.rawValue) \(Int(((costs[$0] ?? 0) / all * 100).rounded())) %" }
    return "`\(model)` was meant for the \(expected.rawValue), but its work lies elsewhere: \(shares.joined(separator: ", "))"
  }

  /// What to say of a compiled model, where the system can tell what runs on what (iOS 17.4, macOS 14.4) and estimates
  /// what it costs.
  static func note(_ url: URL, _ model: String, _ units: MLComputeUnits) async -> String? {
    guard #available(iOS 17.4, macOS 14.4, *) else { return nil }
    let configuration = MLModelConfiguration()
    configuration.computeUnits = units
    guard let plan = try? await MLComputePlan.load(contentsOf: url, configuration: configuration),
      case .program(let program) = plan.modelStructure
    else { return nil }
    var costs: [Processor: Double] = [:]
    for function in program.functions.values { add(function.block, plan, &costs) }
    return note(model: model, costs: costs, wanted: units)
  }

  @available(iOS 17.4, macOS 14.4, *)
  private static func add(
    _ block: MLModelStructure.Program.Block, _ plan: MLComputePlan, _ costs: inout [Processor: Double]
  ) {
    for operation in block.operations {
      for inner in operation.blocks { add(inner, plan, &costs) }
      guard let usage = plan.deviceUsage(for: operation), let cost = plan.estimatedCost(of: operation) else { continue }
      let processor: Processor =
        switch usage.preferred {
        case .cpu: .cpu
        case .gpu: .gpu
        case .neuralEngine: .neuralEngine
        @unknown default: .cpu
        }
      costs[processor, default: 0] += cost.weight
    }
  }
}
