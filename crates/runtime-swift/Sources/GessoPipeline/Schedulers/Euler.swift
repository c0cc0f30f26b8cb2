import Foundation

/// Timesteps and sigmas of one run of Euler steps, one timestep per step.
struct SigmaRun: Sendable {
  let timesteps: [Double]
  /// One more than there are steps.
  let sigmas: [Float]
  let initNoiseSigma: Float

  /// The schedule of `config`; Karras sigmas run between those of the first and last timestep. Default spacing:
  /// linspace.
  init(_ config: SchedulerConfig, steps: Int, skipping skipped: Int, scheduler: String) throws {
    let trained = NoiseSchedule.sigmas(try NoiseSchedule.positiveAlphasCumprod(config, scheduler))
    try Spacing.checkSteps(steps, trained.count)
    let spaced = config.timestepSpacing ?? .linspace
    var timesteps: [Double] = Spacing.rising(
      spaced, trained: trained.count, steps: steps, offset: config.stepsOffset, isWhole: false
    ).reversed()
    var exact = timesteps.map { Spacing.interpolated(trained, at: $0) }
    if config.usesKarrasSigmas {
      exact = Spacing.karras(
        min: config.sigmaMin ?? exact[steps - 1], max: config.sigmaMax ?? exact[0], steps: steps)
      let logs = Spacing.logs(trained)
      timesteps = exact.map { Double(Float(Spacing.timestep(ofSigma: $0, logs))) }
    }
    let all = exact.map { Float($0) } + [config.finalSigmas == .zero ? 0 : trained[0]]
    let most = all.max() ?? 0
    self.timesteps = Array(timesteps.dropFirst(skipped))
    sigmas = Array(all.dropFirst(skipped))
    initNoiseSigma = spaced == .leading ? (most * most + 1).squareRoot() : most
  }

  /// x/√(σ²+1).
  func scaled(_ sample: [Float], at index: Int) -> [Float] {
    let sigma = index < sigmas.count ? sigmas[index] : 0
    let scale = (sigma * sigma + 1).squareRoot()
    return sample.map { $0 / scale }
  }

  func mixture(at index: Int) -> (signal: Double, noise: Double) {
    (1, index < timesteps.count ? Double(sigmas[index]) : 0)
  }

  /// One Euler step from the sigma of the input's step to `next`.
  func moved(_ input: StepInput, _ prediction: PredictionType, to next: Float) -> [Float] {
    let sigma = sigmas[input.index]
    let total = sigma * sigma + 1
    let onOutput = -sigma / total.squareRoot()
    return zip(input.modelOutput, input.sample).map { output, sample in
      let x0 =
        switch prediction {
        case .epsilon: sample - sigma * output
        case .vPrediction: output * onOutput + sample / total
        case .sample: output
        }
      return sample + (sample - x0) / sigma * (next - sigma)
    }
  }
}

/// `EulerDiscreteScheduler` without churn: x_next = x + (x − x0)/σ · (σ_next − σ), input x/√(σ²+1).
///
/// Computed in float32 in diffusers' order of operations: near σ = 4096 (zero terminal SNR) most digits of the sample
/// are rounded away there, and that rounding is part of the result.
/// Source: Karras et al. 2022, algorithm 1; diffusers 0.35.2 `scheduling_euler_discrete.py`.
public struct Euler: Scheduler {
  static let className = "EulerDiscreteScheduler"

  private let run: SigmaRun
  private let prediction: PredictionType
  private var done = 0

  /// A run of `steps` steps without the first `skipped`. Default spacing: linspace.
  ///
  /// - Throws: `PipelineError.steps`; `.schedulerOption` for other interpolation and timestep types.
  public init(_ config: SchedulerConfig, steps: Int, skipping skipped: Int = 0) throws {
    try config.refuseUnsupported(Self.className)
    for (option, value, supported) in [
      ("interpolation_type", config.interpolationType, "linear"), ("timestep_type", config.timestepType, "discrete"),
    ] where value != supported {
      throw PipelineError.schedulerOption(scheduler: Self.className, option: option, value: value)
    }
    run = try SigmaRun(config, steps: steps, skipping: skipped, scheduler: Self.className)
    prediction = config.predictionType
  }

  public var timesteps: [Double] { run.timesteps }
  public var sigmas: [Float] { run.sigmas }
  public var initNoiseSigma: Float { run.initNoiseSigma }
  public func scaledModelInput(_ sample: [Float], at index: Int) -> [Float] { run.scaled(sample, at: index) }
  public func mixture(at index: Int) -> (signal: Double, noise: Double) { run.mixture(at: index) }

  public mutating func step(_ input: StepInput) throws -> [Float] {
    try input.check(expected: done, total: timesteps.count)
    done += 1
    return run.moved(input, prediction, to: run.sigmas[input.index + 1])
  }
}

/// `EulerAncestralDiscreteScheduler`: with σ_up² = σ_next²(σ²−σ_next²)/σ² and σ_down² = σ_next²−σ_up², an Euler step to
/// σ_down and then noise of deviation σ_up. Noise is drawn at every step, also at the last, where σ_up is 0.
///
/// Computed in float32 like `Euler`. Source: diffusers 0.35.2 `scheduling_euler_ancestral_discrete.py`.
public struct EulerAncestral: Scheduler {
  static let className = "EulerAncestralDiscreteScheduler"

  private let run: SigmaRun
  private let prediction: PredictionType
  private var done = 0

  /// A run of `steps` steps without the first `skipped`. Default spacing: linspace.
  ///
  /// - Throws: `PipelineError.steps`; `.schedulerOption` for `sample` prediction.
  public init(_ config: SchedulerConfig, steps: Int, skipping skipped: Int = 0) throws {
    try config.refuseUnsupported(Self.className)
    if config.predictionType == .sample {
      throw PipelineError.schedulerOption(scheduler: Self.className, option: "prediction_type", value: "sample")
    }
    // The class has neither of these options.
    var config = config
    config.usesKarrasSigmas = false
    config.finalSigmas = .zero
    run = try SigmaRun(config, steps: steps, skipping: skipped, scheduler: Self.className)
    prediction = config.predictionType
  }

  public var timesteps: [Double] { run.timesteps }
  public var sigmas: [Float] { run.sigmas }
  public var initNoiseSigma: Float { run.initNoiseSigma }
  public func scaledModelInput(_ sample: [Float], at index: Int) -> [Float] { run.scaled(sample, at: index) }
  public func wantsNoise(at index: Int) -> Bool { true }
  public func mixture(at index: Int) -> (signal: Double, noise: Double) { run.mixture(at: index) }

  public mutating func step(_ input: StepInput) throws -> [Float] {
    try input.check(expected: done, total: timesteps.count)
    guard let noise = input.noise else { throw PipelineError.noNoise(scheduler: Self.className, step: input.index) }
    let (from, to) = (run.sigmas[input.index], run.sigmas[input.index + 1])
    let (from2, to2) = (from * from, to * to)
    let up = (to2 * (from2 - to2) / from2).squareRoot()
    let down = (to2 - up * up).squareRoot()
    done += 1
    return zip(run.moved(input, prediction, to: down), noise).map { $0 + $1 * up }
  }
}
