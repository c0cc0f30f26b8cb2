import Foundation

/// `LCMScheduler` without clipping: with s = `timestep_scaling`·t, c_skip = ¼/(s²+¼) and c_out = s/√(s²+¼), the denoised
/// sample is c_out·x0 + c_skip·x, and all steps but the last add noise to it for the next timestep.
///
/// Source: arXiv 2310.04378; diffusers 0.35.2 `scheduling_lcm.py`.
public struct LCM: Scheduler {
  static let className = "LCMScheduler"

  public let timesteps: [Double]
  public let sigmas: [Float] = []
  /// ᾱ at each step's timestep.
  private let alphas: [Double]
  private let scaling: Double
  private let prediction: PredictionType
  private var done = 0

  /// A run of `steps` steps out of the `original_inference_steps` of the distillation, spaced evenly from the last,
  /// without the first `skipped`.
  ///
  /// - Throws: `PipelineError.steps`; `.schedulerOption` when there are more original steps than training timesteps.
  public init(_ config: SchedulerConfig, steps: Int, skipping skipped: Int = 0) throws {
    try config.refuseUnsupported(Self.className)
    let table = try NoiseSchedule.alphasCumprod(config, Self.className)
    let original = config.originalInferenceSteps
    guard (1...table.count).contains(original) else {
      throw PipelineError.schedulerOption(
        scheduler: Self.className, option: "original_inference_steps", value: String(original))
    }
    try Spacing.checkSteps(steps, original)
    let ratio = table.count / original
    let stride = Double(original) / Double(steps)
    let chosen = (skipped..<steps).map { (original - Int(Double($0) * stride)) * ratio - 1 }
    timesteps = chosen.map { Double($0) }
    alphas = chosen.map { Double(table[$0]) }
    scaling = config.timestepScaling
    prediction = config.predictionType
  }

  public func wantsNoise(at index: Int) -> Bool { index + 1 < timesteps.count }

  public func mixture(at index: Int) -> (signal: Double, noise: Double) {
    guard index < alphas.count else { return (1, 0) }
    return (alphas[index].squareRoot(), (1 - alphas[index]).squareRoot())
  }

  public mutating func step(_ input: StepInput) throws -> [Float] {
    try input.check(expected: done, total: timesteps.count)
    let alpha = alphas[input.index]
    let scaled = timesteps[input.index] * scaling
    let total = scaled * scaled + 0.25
    let (skip, out) = (0.25 / total, scaled / total.squareRoot())
    let (signal, noise) = (alpha.squareRoot(), (1 - alpha).squareRoot())
    let prediction = prediction
    let denoised = input.pairwise { output, sample in
      let x0 =
        switch prediction {
        case .epsilon: (sample - noise * output) / signal
        case .vPrediction: signal * sample - noise * output
        case .sample: output
        }
      return out * x0 + skip * sample
    }
    guard input.index + 1 < alphas.count else {
      done += 1
      return denoised.map { Float($0) }
    }
    guard let fresh = input.noise else { throw PipelineError.noNoise(scheduler: Self.className, step: input.index) }
    let next = alphas[input.index + 1]
    let (nextSignal, nextNoise) = (next.squareRoot(), (1 - next).squareRoot())
    done += 1
    return zip(denoised, fresh).map { Float(nextSignal * $0 + nextNoise * Double($1)) }
  }
}
