import Foundation

/// `UniPCMultistepScheduler` with `predict_x0`, orders 1 to 3, B(h) of form bh1 or bh2.
///
/// Each step first corrects its sample with the network's new output, then predicts the next one. With bh1 and a final
/// sigma of 0 the last step is not finite, as in diffusers, and is refused when it is built.
/// Source: arXiv 2302.04867; diffusers 0.35.2 `scheduling_unipc_multistep.py`.
public struct UniPC: Scheduler {
  static let className = "UniPCMultistepScheduler"

  public let timesteps: [Double]
  public let sigmas: [Float]
  private let prediction: PredictionType
  private let isBH1: Bool
  private let order: Int
  private let lowerOrderFinal: Bool
  private let uncorrected: [Int]
  private var done = 0
  /// Predictions of x0, newest last.
  private var history: [[Double]] = []
  /// The sample that the last prediction started from, and its order.
  private var last: (sample: [Double], order: Int)?

  /// A run of `steps` steps without the first `skipped`. Default spacing: linspace.
  ///
  /// - Throws: `PipelineError.steps`; `.schedulerOption` for other orders, without `predict_x0`, and for bh1 ending at
  ///   sigma 0.
  public init(_ config: SchedulerConfig, steps: Int, skipping skipped: Int = 0) throws {
    try config.refuseUnsupported(Self.className)
    isBH1 = config.solverType == .bh1
    for (option, value, isRefused) in [
      ("solver_order", String(config.solverOrder), !(1...3).contains(config.solverOrder)),
      ("predict_x0", "false", !config.predictsX0),
      ("solver_type", "bh1 with final sigma 0", isBH1 && config.finalSigmas == .zero),
    ] where isRefused {
      throw PipelineError.schedulerOption(scheduler: Self.className, option: option, value: value)
    }
    let trained = NoiseSchedule.sigmas(try NoiseSchedule.positiveAlphasCumprod(config, Self.className))
    try Spacing.checkSteps(steps, trained.count)
    let (visited, exact) = Self.schedule(config, trained, steps)
    timesteps = Array(visited.dropFirst(skipped))
    let before = exact.map { Float($0) }
    let end: Float =
      switch config.finalSigmas {
      case .zero: 0
      case .sigmaMin: config.usesKarrasSigmas ? before[before.count - 1] : trained[0]
      }
    sigmas = before.dropFirst(skipped) + [end]
    prediction = config.predictionType
    order = config.solverOrder
    lowerOrderFinal = config.lowerOrderFinal
    uncorrected = config.disabledCorrector
  }

  /// Timesteps and sigmas without the final one.
  private static func schedule(
    _ config: SchedulerConfig, _ trained: [Float], _ steps: Int
  ) -> (timesteps: [Double], sigmas: [Double]) {
    if config.usesKarrasSigmas {
      let sigmas = Spacing.karras(min: Double(trained[0]), max: Double(trained[trained.count - 1]), steps: steps)
      let logs = Spacing.logs(trained)
      return (sigmas.map { Spacing.timestep(ofSigma: $0, logs).rounded(.toNearestOrEven) }, sigmas)
    }
    let timesteps = Spacing.multistep(
      config.timestepSpacing ?? .linspace, trained: trained.count, last: trained.count, steps: steps,
      offset: config.stepsOffset)
    return (timesteps, timesteps.map { Spacing.interpolated(trained, at: $0) })
  }

  /// The multistep update of a sample from step `from` to the next, of some order. With `newest`, the prediction of
  /// x0 at its end, it is the corrector, else the predictor.
  private func updated(_ sample: [Double], from: Int, order: Int, newest: [Double]?) -> [Double] {
    let (ratio, ratioNext) = (Double(sigmas[from]), Double(sigmas[from + 1]))
    let (sigma, (alphaNext, sigmaNext)) = (signalAndNoise(ratio).sigma, signalAndNoise(ratioNext))
    let h = log(ratio / ratioNext)
    let phi1 = ratioNext / ratio - 1
    let scale = isBH1 ? -h : phi1
    let newestFirst = Array(history.reversed())
    var differences: [(point: Double, prediction: [Double])] = zip(newestFirst.dropFirst().prefix(order - 1), 1...)
      .map { prediction, back in (log(ratio / Double(sigmas[max(from - back, 0)])) / h, prediction) }
    if let newest { differences.append((1, newest)) }
    let points = differences.map(\.point)
    // diffusers takes one half for a single difference of the lowest orders, instead of solving.
    let weights = points.count == 1 ? [0.5] : Self.solved(points, Self.moments(h, scale, points.count))
    return sample.indices.map { i in
      var correction = 0.0
      for (weight, (point, prediction)) in zip(weights, differences) {
        correction += weight * (prediction[i] - newestFirst[0][i]) / point
      }
      return sigmaNext / sigma * sample[i] - alphaNext * (phi1 * newestFirst[0][i] + scale * correction)
    }
  }

  /// k!·φ_k+1(−h)/B for k from 1: the right sides of the order conditions.
  private static func moments(_ h: Double, _ scale: Double, _ count: Int) -> [Double] {
    var phi = expm1(-h) / -h - 1
    var factorial = 1.0
    return (0..<count).map { k in
      let moment = phi * factorial / scale
      factorial *= Double(k + 2)
      phi = phi / -h - 1 / factorial
      return moment
    }
  }

  /// Solves Σ_j points_j^i · w_j = moments_i for i from 0, by Gauss's elimination with pivots.
  private static func solved(_ points: [Double], _ moments: [Double]) -> [Double] {
    var powers = [Double](repeating: 1, count: points.count)
    var rows: [[Double]] = moments.map { moment in
      defer { powers = zip(powers, points).map { $0 * $1 } }
      return powers + [moment]
    }
    let n = rows.count
    for column in 0..<n {
      let pivot = (column..<n).max { abs(rows[$0][column]) < abs(rows[$1][column]) } ?? column
      rows.swapAt(column, pivot)
      for index in 0..<n where index != column {
        let factor = rows[index][column] / rows[column][column]
        rows[index] = zip(rows[index], rows[column]).map { $0 - factor * $1 }
      }
    }
    return (0..<n).map { rows[$0][n] / rows[$0][$0] }
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
    if let count = history.first?.count, count != input.sample.count {
      throw PipelineError.length(what: "sample", expected: count, found: input.sample.count)
    }
    let x0 = input.predictedX0(prediction, ratio: Double(sigmas[index]))
    var sample = input.sample.map { Double($0) }
    if let last, index > 0, !uncorrected.contains(index - 1) {
      sample = updated(last.sample, from: index - 1, order: last.order, newest: x0)
    }
    history.append(x0)
    if history.count > order { history.removeFirst() }
    let wanted = lowerOrderFinal ? min(order, total - index) : order
    let taken = min(wanted, index + 1)
    let next = updated(sample, from: index, order: taken, newest: nil)
    last = (sample, taken)
    done += 1
    return next.map { Float($0) }
  }
}
