import Foundation

/// Which timesteps are visited, as NumPy computes them.
enum Spacing {
  /// `numpy.arange(stop, 0, -step)`: `stop`, `stop − step`, … as long as they are positive.
  private static func descending(_ stop: Double, _ step: Double) -> [Double] {
    let delta = (stop - step) - stop
    return (0..<Int((stop / step).rounded(.up))).map { stop + Double($0) * delta }
  }

  /// `numpy.linspace(0, stop, n)`.
  static func linspace(_ stop: Double, _ n: Int) -> [Double] {
    let step = stop / Double(max(n, 2) - 1)
    var values = (0..<n).map { Double($0) * step }
    if n > 1 { values[n - 1] = stop }
    return values
  }

  private static func whole(_ timestep: Double) -> Double { timestep.rounded(.toNearestOrEven) }

  /// Timesteps rising, of the schedulers that visit one per step (PNDM, DDIM, Euler; DPM-Solver++ spaces differently).
  ///
  /// Linspace timesteps are whole numbers if `isWhole`, else fractions rounded to float32.
  static func rising(
    _ spacing: TimestepSpacing, trained: Int, steps: Int, offset: Int, isWhole: Bool
  ) -> [Double] {
    switch spacing {
    case .linspace:
      return linspace(Double(trained - 1), steps).map { isWhole ? whole($0) : Double(Float($0)) }
    case .leading:
      let ratio = trained / steps
      return (0..<steps).map { Double($0 * ratio) + Double(offset) }
    case .trailing:
      return descending(Double(trained), Double(trained) / Double(steps)).map { whole($0) - 1 }.reversed()
    }
  }

  /// Timesteps falling, of the multistep solvers: linspace and leading have one more interval than steps, so that the
  /// last step ends below the last timestep. `last` of the `trained` timesteps are used.
  static func multistep(
    _ spacing: TimestepSpacing, trained: Int, last: Int, steps: Int, offset: Int
  ) -> [Double] {
    switch spacing {
    case .linspace: return linspace(Double(last - 1), steps + 1).dropFirst().map(whole).reversed()
    case .leading:
      let ratio = last / (steps + 1)
      return (1...steps).reversed().map { Double($0 * ratio) + Double(offset) }
    case .trailing:
      return descending(Double(last), Double(trained) / Double(steps)).map { whole($0) - 1 }
    }
  }

  /// Refuses step counts that a schedule of `trained` timesteps cannot have.
  static func checkSteps(_ steps: Int, _ trained: Int) throws {
    guard trained >= 1, (1...trained).contains(steps) else { throw PipelineError.steps(steps: steps, most: trained) }
  }

  /// Linear interpolation in a table at a fractional index, held at both ends (`numpy.interp`).
  static func interpolated(_ table: [Float], at position: Double) -> Double {
    let low = min(max(position, 0).rounded(.down), Double(table.count - 1))
    let index = Int(low)
    let value = Double(table[index])
    if index + 1 >= table.count { return value }
    return (Double(table[index + 1]) - value) * (max(position, 0) - low) + value
  }

  /// Sigmas from `max` down to `min`, evenly spaced in σ^(1/7) (Karras et al. 2022, ρ = 7).
  static func karras(min: Double, max: Double, steps: Int) -> [Double] {
    let rho = 7.0
    let (low, high) = (pow(min, 1 / rho), pow(max, 1 / rho))
    return linspace(1, steps).map { pow(high + $0 * (low - high), rho) }
  }

  /// The fractional timestep whose training sigma, interpolated in log σ, is `sigma`.
  static func timestep(ofSigma sigma: Double, _ logSigmas: [Float]) -> Double {
    let logSigma = log(max(sigma, 1e-10))
    let above = logSigmas.firstIndex { !($0 <= Float(logSigma)) } ?? logSigmas.count
    let low = min(max(above - 1, 0), logSigmas.count - 2)
    let (a, b) = (logSigmas[low], logSigmas[low + 1])
    let w = min(max((Double(a) - logSigma) / Double(a - b), 0), 1)
    return (1 - w) * Double(low) + w * Double(low + 1)
  }

  /// Natural logarithms in float32.
  static func logs(_ sigmas: [Float]) -> [Float] { sigmas.map { Float(log(Double($0))) } }

  /// The place of a timestep in a table of `count`.
  static func place(_ timestep: Double, in count: Int) -> Int? {
    timestep >= 0 && timestep < Double(count) ? Int(timestep) : nil
  }
}
