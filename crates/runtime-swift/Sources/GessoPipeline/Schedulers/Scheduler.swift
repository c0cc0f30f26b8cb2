import Foundation

/// What `Scheduler.step` needs.
public struct StepInput: Sendable {
  /// Which step, from 0; steps are taken in order.
  public var index: Int
  /// The network's output, whatever the prediction type.
  public var modelOutput: [Float]
  /// The sample before `scaledModelInput`.
  public var sample: [Float]
  /// Standard normal noise, for the steps where `wantsNoise`.
  public var noise: [Float]?

  public init(index: Int, modelOutput: [Float], sample: [Float], noise: [Float]? = nil) {
    self.index = index
    self.modelOutput = modelOutput
    self.sample = sample
    self.noise = noise
  }

  /// Checks the order of steps and the lengths of the arrays.
  func check(expected: Int, total: Int) throws {
    guard index == expected, expected < total else {
      throw PipelineError.stepOrder(expected: expected, found: index, total: total)
    }
    for (what, count) in [("model output", modelOutput.count), ("noise", noise?.count ?? sample.count)]
    where count != sample.count {
      throw PipelineError.length(what: what, expected: sample.count, found: count)
    }
  }

  /// Combines output and sample element by element in double precision.
  func pairwise(_ combine: (_ output: Double, _ sample: Double) -> Double) -> [Double] {
    var out = [Double](repeating: 0, count: sample.count)
    for i in out.indices { out[i] = combine(Double(modelOutput[i]), Double(sample[i])) }
    return out
  }

  /// The clean sample that the network's output stands for, at a noise-to-signal ratio.
  func predictedX0(_ prediction: PredictionType, ratio: Double) -> [Double] {
    let (alpha, sigma) = signalAndNoise(ratio)
    return switch prediction {
    case .epsilon: pairwise { ($1 - sigma * $0) / alpha }
    case .vPrediction: pairwise { alpha * $1 - sigma * $0 }
    case .sample: pairwise { output, _ in output }
    }
  }
}

/// α and σ of the variance-preserving form from their ratio.
func signalAndNoise(_ ratio: Double) -> (alpha: Double, sigma: Double) {
  let alpha = 1 / (ratio * ratio + 1).squareRoot()
  return (alpha, ratio * alpha)
}

/// One run of a sampler over a fixed number of steps.
public protocol Scheduler: Sendable {
  /// Timesteps in the order of the steps, as the network is told them.
  var timesteps: [Double] { get }

  /// Sigmas of the steps and the final one; empty for schedulers that work on ᾱ.
  var sigmas: [Float] { get }

  /// What the initial standard normal latents are multiplied by.
  var initNoiseSigma: Float { get }

  /// The network's input for step `index`.
  func scaledModelInput(_ sample: [Float], at index: Int) -> [Float]

  /// Whether step `index` draws noise.
  func wantsNoise(at index: Int) -> Bool

  /// How much signal and how much noise a sample has before step `index`; after the last step, signal alone.
  func mixture(at index: Int) -> (signal: Double, noise: Double)

  /// The sample after this step.
  ///
  /// - Throws: `PipelineError.stepOrder`, `.length` when output, sample or noise differ in length, `.noNoise`.
  mutating func step(_ input: StepInput) throws -> [Float]
}

extension Scheduler {
  public var initNoiseSigma: Float { 1 }
  public func scaledModelInput(_ sample: [Float], at index: Int) -> [Float] { sample }
  public func wantsNoise(at index: Int) -> Bool { false }

  /// A clean sample with noise as before step `index`: where image to image begins, and what surrounds a mask.
  public func noised(_ clean: [Float], with noise: [Float], at index: Int) -> [Float] {
    let (signal, deviation) = mixture(at: index)
    return zip(clean, noise).map { Float(signal * Double($0) + deviation * Double($1)) }
  }
}

/// The schedulers; the raw value is the name on a command line.
public enum SchedulerKind: String, CaseIterable, Sendable {
  /// DPM-Solver++ 2M.
  case dpmPP2M = "dpmpp-2m"
  /// PNDM (PLMS).
  case pndm
  /// Euler.
  case euler
  /// Euler ancestral.
  case eulerAncestral = "euler-a"
  /// DDIM.
  case ddim
  /// UniPC.
  case uniPC = "unipc"
  /// Latent consistency models.
  case lcm

  /// diffusers' class name (`_class_name` of a `scheduler_config.json`).
  public var className: String {
    switch self {
    case .dpmPP2M: DPMPP2M.className
    case .pndm: PNDM.className
    case .euler: Euler.className
    case .eulerAncestral: EulerAncestral.className
    case .ddim: DDIM.className
    case .uniPC: UniPC.className
    case .lcm: LCM.className
    }
  }

  /// The kind with this diffusers class name.
  public init?(className: String) {
    guard let kind = Self.allCases.first(where: { $0.className == className }) else { return nil }
    self = kind
  }

  /// A run of `steps` steps, without the first `skipped` of them: image to image begins later.
  ///
  /// - Throws: `PipelineError.steps`; `.schedulerOption` for options that this scheduler does not support.
  public func scheduler(_ config: SchedulerConfig, steps: Int, skipping skipped: Int = 0) throws -> any Scheduler {
    guard skipped >= 0, skipped == 0 || skipped < steps else {
      throw PipelineError.request(
        name: "skipped steps", found: String(skipped), expected: "0 to one less than the \(steps) steps")
    }
    switch self {
    case .dpmPP2M: return try DPMPP2M(config, steps: steps, skipping: skipped)
    case .pndm: return try PNDM(config, steps: steps, skipping: skipped)
    case .euler: return try Euler(config, steps: steps, skipping: skipped)
    case .eulerAncestral: return try EulerAncestral(config, steps: steps, skipping: skipped)
    case .ddim: return try DDIM(config, steps: steps, skipping: skipped)
    case .uniPC: return try UniPC(config, steps: steps, skipping: skipped)
    case .lcm: return try LCM(config, steps: steps, skipping: skipped)
    }
  }
}
