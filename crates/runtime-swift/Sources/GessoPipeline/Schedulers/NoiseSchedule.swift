import Foundation

/// The training noise schedule: ᾱ and sigma of every timestep, in float32 as diffusers keeps them.
enum NoiseSchedule {
  /// ᾱ of the last timestep when the schedule is rescaled to zero SNR (2^-24: diffusers avoids an infinite sigma).
  private static let almostNoSignal: Float = 1.0 / 16_777_216

  /// ᾱ (`alphas_cumprod`) per training timestep.
  ///
  /// Source: diffusers 0.35.2, scheduler constructors; torch float32 arithmetic, cumulative product in float64.
  static func alphasCumprod(_ config: SchedulerConfig, _ scheduler: String) throws -> [Float] {
    var betas = try betas(config)
    guard betas.count >= 2, betas.allSatisfy({ (0..<1).contains($0) }) else {
      throw PipelineError.schedulerOption(
        scheduler: scheduler, option: "betas", value: "fewer than two, or outside [0, 1)")
    }
    if config.rescaleBetasZeroSNR { betas = zeroTerminalSNR(betas) }
    return cumulative(betas.map { 1 - $0 })
  }

  /// `alphasCumprod` for schedulers that divide by ᾱ: not quite zero at the last timestep.
  static func positiveAlphasCumprod(_ config: SchedulerConfig, _ scheduler: String) throws -> [Float] {
    var alphas = try alphasCumprod(config, scheduler)
    if config.rescaleBetasZeroSNR { alphas[alphas.count - 1] = almostNoSignal }
    return alphas
  }

  /// sqrt((1−ᾱ)/ᾱ) per training timestep. For ᾱ = 2^-24 it is 4096: the root lies next to a tie and torch rounds it up.
  static func sigmas(_ alphas: [Float]) -> [Float] {
    alphas.map { $0 == almostNoSignal ? 4096 : ((1 - $0) / $0).squareRoot() }
  }

  private static func betas(_ config: SchedulerConfig) throws -> [Float] {
    if let betas = config.trainedBetas { return betas.map { Float($0) } }
    let n = config.trainTimesteps
    guard (2...1_000_000).contains(n) else {
      throw PipelineError.schedulerConfig(reason: "`num_train_timesteps` is \(n), expected 2 to 1000000")
    }
    switch config.betaSchedule {
    case .linear: return linspace(config.betaStart, config.betaEnd, n)
    case .scaledLinear:
      let roots = linspace(config.betaStart.squareRoot(), config.betaEnd.squareRoot(), n)
      return roots.map { (root: Float) -> Float in root * root }
    case .squaredcosCapV2:
      func bar(_ index: Int) -> Double {
        let position = (Double(index) / Double(n) + 0.008) / 1.008
        let root = cos(position * (Double.pi / 2))
        return root * root
      }
      return (0..<n).map { (index: Int) -> Float in
        let beta: Double = 1 - bar(index + 1) / bar(index)
        return Float(min(beta, 0.999))
      }
    }
  }

  /// `torch.linspace` in float32: from both ends towards the middle, with fused multiply-add.
  private static func linspace(_ start: Double, _ end: Double, _ n: Int) -> [Float] {
    let (start, end) = (Float(start), Float(end))
    let step = (end - start) / Float(n - 1)
    return (0..<n).map { (index: Int) -> Float in
      if index < n / 2 { return start.addingProduct(step, Float(index)) }
      return end.addingProduct(-step, Float(n - index - 1))
    }
  }

  /// `torch.cumprod`: accumulated in float64, stored in float32.
  private static func cumulative(_ alphas: [Float]) -> [Float] {
    var product = 1.0
    return alphas.map {
      product *= Double($0)
      return Float(product)
    }
  }

  /// Rescales βs so that ᾱ of the last timestep is 0. Source: arXiv 2305.08891, algorithm 1.
  private static func zeroTerminalSNR(_ betas: [Float]) -> [Float] {
    let roots = cumulative(betas.map { 1 - $0 }).map { $0.squareRoot() }
    guard let first = roots.first, let last = roots.last else { return [] }
    let scale = first / (first - last)
    let bars = roots.map { (root: Float) -> Float in
      let moved = (root - last) * scale
      return moved * moved
    }
    let before: [Float] = [1] + bars
    return zip(bars, before).map { (bar: Float, before: Float) -> Float in 1 - bar / before }
  }
}
