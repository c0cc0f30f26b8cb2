import Foundation

/// `PNDMScheduler` with `skip_prk_steps`: linear multistep of up to four outputs; n steps are n + 1 evaluations,
/// since the second repeats the first interval with the mean of two outputs (n = 1 has one evaluation).
///
/// Source: arXiv 2202.09778 formula 9; diffusers 0.35.2 `scheduling_pndm.py`.
public struct PNDM: Scheduler {
  static let className = "PNDMScheduler"

  public let timesteps: [Double]
  public let sigmas: [Float] = []
  private let alphasCumprod: [Float]
  private let finalAlpha: Double
  private let ratio: Int
  private let prediction: PredictionType
  private var done = 0
  /// Newest output last.
  private var outputs: [[Double]] = []
  private var firstSample: [Float] = []

  /// A run of `steps` steps without the first `skipped`, whose interval is then the one that is repeated. Default
  /// spacing: leading.
  ///
  /// - Throws: `PipelineError.steps`; `.schedulerOption` without `skip_prk_steps`, for `sample` prediction, zero-SNR
  ///   rescaling, Karras sigmas, and timesteps outside of the schedule.
  public init(_ config: SchedulerConfig, steps: Int, skipping skipped: Int = 0) throws {
    try config.refuseUnsupported(Self.className)
    for (option, value, isRefused) in [
      ("skip_prk_steps", "false", !config.skipsPRKSteps), ("prediction_type", "sample", config.predictionType == .sample),
      ("rescale_betas_zero_snr", "true", config.rescaleBetasZeroSNR),
      ("use_karras_sigmas", "true", config.usesKarrasSigmas),
    ] where isRefused {
      throw PipelineError.schedulerOption(scheduler: Self.className, option: option, value: value)
    }
    alphasCumprod = try NoiseSchedule.alphasCumprod(config, Self.className)
    let trained = alphasCumprod.count
    try Spacing.checkSteps(steps, trained)
    let rising = Spacing.rising(
      config.timestepSpacing ?? .leading, trained: trained, steps: steps, offset: config.stepsOffset, isWhole: true)
    var timesteps: [Double] = Array(rising.reversed().dropFirst(skipped))
    if timesteps.count > 1 { timesteps.insert(timesteps[1], at: 1) }
    guard timesteps.allSatisfy({ Spacing.place($0, in: trained) != nil }) else {
      throw PipelineError.schedulerOption(
        scheduler: Self.className, option: "steps_offset", value: String(config.stepsOffset))
    }
    self.timesteps = timesteps
    finalAlpha = config.setsAlphaToOne == true ? 1 : Double(alphasCumprod[0])
    ratio = trained / steps
    prediction = config.predictionType
  }

  /// ᾱ at a timestep, held at the noisy end; the final ᾱ before the first timestep.
  private func alpha(_ timestep: Int) -> Double {
    timestep < 0 ? finalAlpha : Double(alphasCumprod[min(timestep, alphasCumprod.count - 1)])
  }

  private static let weights: [[Double]] = [
    [1],
    [3.0 / 2, -1.0 / 2],
    [23.0 / 12, -16.0 / 12, 5.0 / 12],
    [55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24],
  ]

  /// The outputs so far, combined (Adams–Bashforth weights).
  private func combined(_ newest: [Double]) -> [Double] {
    var history = Array(outputs.reversed())
    var weights = Self.weights[max(history.count, 1) - 1]
    if done == 1 {
      history.insert(newest, at: 0)
      weights = [0.5, 0.5]
    }
    var sum = [Double](repeating: 0, count: newest.count)
    for (weight, output) in zip(weights, history) {
      for i in sum.indices { sum[i] += weight * output[i] }
    }
    return sum
  }

  public func mixture(at index: Int) -> (signal: Double, noise: Double) {
    guard index < timesteps.count else { return (1, 0) }
    // Before the second evaluation the sample stands where it does after it.
    let alpha = alpha(Int(timesteps[index]))
    return (alpha.squareRoot(), (1 - alpha).squareRoot())
  }

  public mutating func step(_ input: StepInput) throws -> [Float] {
    try input.check(expected: done, total: timesteps.count)
    if let count = outputs.first?.count, count != input.sample.count {
      throw PipelineError.length(what: "sample", expected: count, found: input.sample.count)
    }
    var timestep = Int(timesteps[input.index])
    var before = timestep - ratio
    let output = input.pairwise { output, _ in output }
    if done == 1 {
      (timestep, before) = (timestep + ratio, timestep)
    } else {
      outputs.append(output)
      if outputs.count > 4 { outputs.removeFirst() }
    }
    let combined = combined(output)
    if done == 0 { firstSample = input.sample }
    let sample = done == 1 ? firstSample : input.sample
    let (a, b) = (alpha(timestep), alpha(before))
    let onSample = (b / a).squareRoot()
    let onNoise = (b - a) / (a * (1 - b).squareRoot() + (a * (1 - a) * b).squareRoot())
    let (signal, deviation) = (a.squareRoot(), (1 - a).squareRoot())
    let isVelocity = prediction == .vPrediction
    done += 1
    return zip(sample, combined).map { sample, output in
      let x = Double(sample)
      return Float(onSample * x - onNoise * (isVelocity ? signal * output + deviation * x : output))
    }
  }
}
