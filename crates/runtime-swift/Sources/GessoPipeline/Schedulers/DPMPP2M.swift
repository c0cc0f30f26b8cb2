import Foundation

/// `DPMSolverMultistepScheduler` with `algorithm_type` `dpmsolver++` and order 1 or 2.
///
/// With σ the noise-to-signal ratio, α = 1/√(σ²+1), λ = −ln σ, h = λ_next − λ:
/// x_next = (α_next σ_next)/(α σ)·x − α_next (e^−h − 1)·(D0 + D1/2), D0 the newest x0, D1 = (h/h_before)(x0 − x0_before).
/// The first step is of order 1, and so is the last one when it ends at σ = 0, or when `lower_order_final` and fewer
/// than 15 steps. Differs from diffusers where its search for the first timestep finds a duplicate: here the first
/// step is always step 0. Source: arXiv 2211.01095; diffusers 0.35.2 `scheduling_dpmsolver_multistep.py`.
public struct DPMPP2M: Scheduler {
  static let className = "DPMSolverMultistepScheduler"

  public let timesteps: [Double]
  public let sigmas: [Float]
  private let prediction: PredictionType
  private let solver: SolverType
  private let order: Int
  private let isFirstOrderLast: Bool
  private var done = 0
  private var before: [Double] = []

  /// A run of `steps` steps without the first `skipped`. Default spacing: linspace.
  ///
  /// - Throws: `PipelineError.steps`; `.schedulerOption` for other algorithms and orders.
  public init(_ config: SchedulerConfig, steps: Int, skipping skipped: Int = 0) throws {
    try config.refuseUnsupported(Self.className)
    if config.algorithmType != "dpmsolver++" {
      throw PipelineError.schedulerOption(
        scheduler: Self.className, option: "algorithm_type", value: config.algorithmType)
    }
    guard (1...2).contains(config.solverOrder) else {
      throw PipelineError.schedulerOption(
        scheduler: Self.className, option: "solver_order", value: String(config.solverOrder))
    }
    let alphas = try NoiseSchedule.positiveAlphasCumprod(config, Self.className)
    let trained = NoiseSchedule.sigmas(alphas)
    try Spacing.checkSteps(steps, trained.count)
    let (visited, before) = try Self.schedule(config, alphas, trained, steps)
    timesteps = Array(visited.dropFirst(skipped))
    sigmas = before.dropFirst(skipped) + [config.finalSigmas == .zero ? 0 : trained[0]]
    prediction = config.predictionType
    solver = config.solverType
    order = config.solverOrder
    isFirstOrderLast =
      config.eulerAtFinal || (config.lowerOrderFinal && visited.count < 15) || config.finalSigmas == .zero
  }

  /// Timesteps and their sigmas, without the final one.
  private static func schedule(
    _ config: SchedulerConfig, _ alphas: [Float], _ trained: [Float], _ steps: Int
  ) throws -> (timesteps: [Double], sigmas: [Float]) {
    let last = trained.count - clipped(config, alphas)
    try Spacing.checkSteps(steps, last)
    if config.usesKarrasSigmas {
      let logs = Spacing.logs(trained)
      let sigmas = Spacing.karras(min: Double(trained[0]), max: Double(trained[trained.count - 1]), steps: steps)
      let rule: FloatingPointRoundingRule = config.betaSchedule == .squaredcosCapV2 ? .towardZero : .toNearestOrEven
      return (sigmas.map { Spacing.timestep(ofSigma: $0, logs).rounded(rule) }, sigmas.map { Float($0) })
    }
    let timesteps = Spacing.multistep(
      config.timestepSpacing ?? .linspace, trained: trained.count, last: last, steps: steps, offset: config.stepsOffset)
    return (timesteps, timesteps.map { Float(Spacing.interpolated(trained, at: $0)) })
  }

  /// How many of the noisiest timesteps lie below `lambda_min_clipped`.
  private static func clipped(_ config: SchedulerConfig, _ alphas: [Float]) -> Int {
    guard let least = config.lambdaMinClipped else { return 0 }
    let above = alphas.lastIndex { !(0.5 * (log(Double($0)) - log(1 - Double($0))) < least) }
    return min(alphas.count - 1 - (above ?? -1), alphas.count - 1)
  }

  public func mixture(at index: Int) -> (signal: Double, noise: Double) {
    guard index < timesteps.count else { return (1, 0) }
    let (alpha, sigma) = signalAndNoise(Double(sigmas[index]))
    return (alpha, sigma)
  }

  public mutating func step(_ input: StepInput) throws -> [Float] {
    let total = timesteps.count
    try input.check(expected: done, total: total)
    let index = input.index
    let (ratio, ratioNext) = (Double(sigmas[index]), Double(sigmas[index + 1]))
    let x0 = input.predictedX0(prediction, ratio: ratio)
    let (sigma, (alphaNext, sigmaNext)) = (signalAndNoise(ratio).sigma, signalAndNoise(ratioNext))
    // e^-h; zero when the step ends at sigma 0.
    let shrink = ratioNext / ratio
    let onX0 = alphaNext * (1 - shrink)
    var onDifference = 0.0
    if order > 1, index > 0, !(index + 1 == total && isFirstOrderLast) {
      let h = -log(shrink)
      let hBefore = log(Double(sigmas[index - 1]) / ratio)
      let weight = solver == .heun ? alphaNext * ((shrink - 1) / h + 1) : 0.5 * onX0
      onDifference = weight * h / hBefore
    }
    if before.count != x0.count { before = x0 }
    var next = [Float](repeating: 0, count: x0.count)
    for i in next.indices {
      let value = sigmaNext / sigma * Double(input.sample[i]) + onX0 * x0[i]
      next[i] = Float(value + onDifference * (x0[i] - before[i]))
    }
    before = x0
    done += 1
    return next
  }
}
