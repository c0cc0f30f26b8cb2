import Foundation

/// `DDIMScheduler` with η = 0 and without clipping: x_before = √ᾱ_before·x0 + √(1−ᾱ_before)·ε.
///
/// Source: arXiv 2010.02502 formula 12; diffusers 0.35.2 `scheduling_ddim.py`.
public struct DDIM: Scheduler {
  static let className = "DDIMScheduler"

  public let timesteps: [Double]
  public let sigmas: [Float] = []
  /// ᾱ at each step's timestep and at the one before it.
  private let alphas: [(here: Double, before: Double)]
  private let prediction: PredictionType
  private var done = 0

  /// A run of `steps` steps without the first `skipped`. Default spacing: leading; ᾱ before the first timestep is 1 by
  /// default.
  ///
  /// - Throws: `PipelineError.steps`; `.schedulerOption` for Karras sigmas and for timesteps outside of the schedule.
  public init(_ config: SchedulerConfig, steps: Int, skipping skipped: Int = 0) throws {
    try config.refuseUnsupported(Self.className)
    if config.usesKarrasSigmas {
      throw PipelineError.schedulerOption(scheduler: Self.className, option: "use_karras_sigmas", value: "true")
    }
    let table = try NoiseSchedule.alphasCumprod(config, Self.className)
    try Spacing.checkSteps(steps, table.count)
    let all = Spacing.rising(
      config.timestepSpacing ?? .leading, trained: table.count, steps: steps, offset: config.stepsOffset, isWhole: true)
    timesteps = Array(all.reversed().dropFirst(skipped))
    let last = config.setsAlphaToOne == false ? Double(table[0]) : 1
    let ratio = Double(table.count / steps)
    let at = { (timestep: Double) -> Double in
      guard let place = Spacing.place(timestep, in: table.count) else {
        throw PipelineError.schedulerOption(
          scheduler: Self.className, option: "steps_offset", value: String(config.stepsOffset))
      }
      return Double(table[place])
    }
    alphas = try timesteps.map { (try at($0), $0 - ratio < 0 ? last : try at($0 - ratio)) }
    prediction = config.predictionType
  }

  public func mixture(at index: Int) -> (signal: Double, noise: Double) {
    guard index < alphas.count else { return (1, 0) }
    return (alphas[index].here.squareRoot(), (1 - alphas[index].here).squareRoot())
  }

  public mutating func step(_ input: StepInput) throws -> [Float] {
    try input.check(expected: done, total: timesteps.count)
    let (alpha, before) = alphas[input.index]
    let (signal, noise) = (alpha.squareRoot(), (1 - alpha).squareRoot())
    let (signalBefore, noiseBefore) = (before.squareRoot(), (1 - before).squareRoot())
    let mixed = { (x0: Double, epsilon: Double) in signalBefore * x0 + noiseBefore * epsilon }
    let next =
      switch prediction {
      case .epsilon: input.pairwise { mixed(($1 - noise * $0) / signal, $0) }
      case .vPrediction: input.pairwise { mixed(signal * $1 - noise * $0, signal * $0 + noise * $1) }
      case .sample: input.pairwise { mixed($0, ($1 - signal * $0) / noise) }
      }
    done += 1
    return next.map { Float($0) }
  }
}
