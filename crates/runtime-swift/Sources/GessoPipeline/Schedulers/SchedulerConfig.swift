import Foundation

/// How the training variances grow.
public enum BetaSchedule: String, Decodable, Sendable {
  /// β linear from `beta_start` to `beta_end`.
  case linear
  /// √β linear; Stable Diffusion.
  case scaledLinear = "scaled_linear"
  /// Cosine ᾱ, each β at most 0.999.
  case squaredcosCapV2 = "squaredcos_cap_v2"
}

/// What the network predicts.
public enum PredictionType: String, Decodable, Sendable {
  /// The noise ε.
  case epsilon
  /// The velocity v = √ᾱ·ε − √(1−ᾱ)·x0.
  case vPrediction = "v_prediction"
  /// The clean sample x0.
  case sample
}

/// Which of the training timesteps are visited (table 2 of arXiv 2305.08891).
public enum TimestepSpacing: String, Decodable, Sendable {
  /// Evenly from the last to the first.
  case linspace
  /// Multiples of a whole ratio, plus `steps_offset`.
  case leading
  /// From the last down by a fractional ratio.
  case trailing
}

/// Where the last step of a sigma schedule ends.
public enum FinalSigmas: String, Decodable, Sendable {
  /// At sigma 0.
  case zero
  /// At the smallest training sigma.
  case sigmaMin = "sigma_min"
}

/// How DPM-Solver++ 2M weighs the difference of two predictions, or the form of B(h) of UniPC.
///
/// As in diffusers, DPM-Solver++ reads UniPC's and unknown forms as midpoint, and UniPC reads those of DPM-Solver++ as
/// bh2.
public enum SolverType: String, Decodable, Sendable {
  case midpoint, heun, logrho, bh1, bh2
}

/// The values of a `scheduler_config.json`, with diffusers' defaults for those that are missing.
///
/// One config may be run by any scheduler, as diffusers' `from_config` does; keys of other schedulers are not read, nor
/// is `clip_sample`, which `StableDiffusionPipeline` turns off. (LCM's defaults of β differ, but diffusers always
/// writes β into the file.)
/// Options that change the result and are not supported by the scheduler are errors when it is built.
public struct SchedulerConfig: Sendable {
  /// Class name; see `SchedulerKind.init(className:)`.
  public var className: String?
  /// Training timesteps.
  public var trainTimesteps = 1000
  /// First β.
  public var betaStart = 0.0001
  /// Last β.
  public var betaEnd = 0.02
  /// How β grows between them.
  public var betaSchedule = BetaSchedule.linear
  /// Explicit βs instead.
  public var trainedBetas: [Double]?
  /// What the network predicts.
  public var predictionType = PredictionType.epsilon
  /// Timesteps visited; the default depends on the scheduler.
  public var timestepSpacing: TimestepSpacing?
  /// Added to the timesteps of leading spacing.
  public var stepsOffset = 0
  /// Whether βs are rescaled so that the last timestep is pure noise.
  public var rescaleBetasZeroSNR = false
  /// Sigmas spaced after Karras et al. 2022.
  public var usesKarrasSigmas = false
  /// Smallest Karras sigma, where it is not that of the schedule (Euler).
  public var sigmaMin: Double?
  /// Largest Karras sigma, where it is not that of the schedule (Euler).
  public var sigmaMax: Double?
  /// Last sigma.
  public var finalSigmas = FinalSigmas.zero
  /// Order of DPM-Solver++ (1 or 2) or UniPC (1 to 3).
  public var solverOrder = 2
  /// Form of DPM-Solver++ 2M or UniPC.
  public var solverType = SolverType.midpoint
  /// DPM-Solver algorithm; `dpmsolver++` is supported.
  public var algorithmType = "dpmsolver++"
  /// Whether DPM-Solver++ takes a first-order last step below 15 steps, and UniPC lower orders at the end.
  public var lowerOrderFinal = true
  /// Whether DPM-Solver++ always takes a first-order last step.
  public var eulerAtFinal = false
  /// DPM-Solver: timesteps whose λ lies below are left out.
  public var lambdaMinClipped: Double?
  /// PNDM: whether the Runge–Kutta start is left out; only `true` is supported.
  public var skipsPRKSteps = false
  /// PNDM, DDIM: whether ᾱ before the first timestep is 1; the default depends on the scheduler.
  public var setsAlphaToOne: Bool?
  /// UniPC: whether it predicts x0; only `true` is supported.
  public var predictsX0 = true
  /// UniPC: steps after which the corrector is left out.
  public var disabledCorrector: [Int] = []
  /// LCM: steps of the schedule that was distilled, of which the visited ones are a part.
  public var originalInferenceSteps = 50
  /// LCM: factor of the timestep in the boundary condition.
  public var timestepScaling = 10.0
  /// Euler: `linear` is supported.
  public var interpolationType = "linear"
  /// Euler: `discrete` is supported.
  public var timestepType = "discrete"
  /// Options of diffusers that are set and that no scheduler here has.
  public var unsupported: [String] = []

  /// diffusers' defaults.
  public init() {}

  /// The schedule of Stable Diffusion 1 and 2: scaled-linear β from 0.00085 to 0.012, leading timesteps, offset 1.
  public static func stableDiffusion() -> SchedulerConfig {
    var config = SchedulerConfig()
    config.betaStart = 0.00085
    config.betaEnd = 0.012
    config.betaSchedule = .scaledLinear
    config.timestepSpacing = .leading
    config.stepsOffset = 1
    config.skipsPRKSteps = true
    config.setsAlphaToOne = false
    return config
  }

  /// Reads a `scheduler_config.json`. `Infinity`, `-Infinity` and `NaN`, which Python writes there, are read as
  /// missing.
  ///
  /// - Throws: `PipelineError.schedulerConfig` for anything that is no such file.
  public init(json text: String) throws {
    do {
      let plain = String(decoding: withoutPythonNumbers(Array(text.utf8)), as: UTF8.self)
      self = try JSONDecoder().decode(SchedulerConfig.self, from: Data(plain.utf8))
    } catch {
      throw PipelineError.schedulerConfig(reason: String(describing: error))
    }
  }

  /// Refuses the options that no scheduler has.
  func refuseUnsupported(_ scheduler: String) throws {
    if let option = unsupported.first {
      throw PipelineError.schedulerOption(scheduler: scheduler, option: option, value: "true")
    }
  }
}

extension SchedulerConfig: Decodable {
  private enum CodingKeys: String, CodingKey, CaseIterable {
    case className = "_class_name"
    case trainTimesteps = "num_train_timesteps"
    case betaStart = "beta_start"
    case betaEnd = "beta_end"
    case betaSchedule = "beta_schedule"
    case trainedBetas = "trained_betas"
    case predictionType = "prediction_type"
    case timestepSpacing = "timestep_spacing"
    case stepsOffset = "steps_offset"
    case rescaleBetasZeroSNR = "rescale_betas_zero_snr"
    case usesKarrasSigmas = "use_karras_sigmas"
    case sigmaMin = "sigma_min"
    case sigmaMax = "sigma_max"
    case finalSigmas = "final_sigmas_type"
    case solverOrder = "solver_order"
    case solverType = "solver_type"
    case algorithmType = "algorithm_type"
    case lowerOrderFinal = "lower_order_final"
    case eulerAtFinal = "euler_at_final"
    case lambdaMinClipped = "lambda_min_clipped"
    case skipsPRKSteps = "skip_prk_steps"
    case setsAlphaToOne = "set_alpha_to_one"
    case predictsX0 = "predict_x0"
    case disabledCorrector = "disable_corrector"
    case originalInferenceSteps = "original_inference_steps"
    case timestepScaling = "timestep_scaling"
    case interpolationType = "interpolation_type"
    case timestepType = "timestep_type"
    case thresholding = "thresholding"
    case usesExponentialSigmas = "use_exponential_sigmas"
    case usesBetaSigmas = "use_beta_sigmas"
    case usesLuLambdas = "use_lu_lambdas"
    case usesFlowSigmas = "use_flow_sigmas"

    static let unsupported: [CodingKeys] = [
      .thresholding, .usesExponentialSigmas, .usesBetaSigmas, .usesLuLambdas, .usesFlowSigmas,
    ]
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func read<T: Decodable>(_ key: CodingKeys, _ path: WritableKeyPath<SchedulerConfig, T>) throws {
      if values.contains(key) { self[keyPath: path] = try values.decode(T.self, forKey: key) }
    }
    className = try values.decodeIfPresent(String.self, forKey: .className)
    trainedBetas = try values.decodeIfPresent([Double].self, forKey: .trainedBetas)
    timestepSpacing = try values.decodeIfPresent(TimestepSpacing.self, forKey: .timestepSpacing)
    sigmaMin = try values.decodeIfPresent(Double.self, forKey: .sigmaMin)
    sigmaMax = try values.decodeIfPresent(Double.self, forKey: .sigmaMax)
    lambdaMinClipped = try values.decodeIfPresent(Double.self, forKey: .lambdaMinClipped)
    setsAlphaToOne = try values.decodeIfPresent(Bool.self, forKey: .setsAlphaToOne)
    try read(.trainTimesteps, \.trainTimesteps)
    try read(.betaStart, \.betaStart)
    try read(.betaEnd, \.betaEnd)
    try read(.betaSchedule, \.betaSchedule)
    try read(.predictionType, \.predictionType)
    try read(.stepsOffset, \.stepsOffset)
    try read(.rescaleBetasZeroSNR, \.rescaleBetasZeroSNR)
    try read(.usesKarrasSigmas, \.usesKarrasSigmas)
    try read(.finalSigmas, \.finalSigmas)
    try read(.solverOrder, \.solverOrder)
    try read(.solverType, \.solverType)
    try read(.algorithmType, \.algorithmType)
    try read(.lowerOrderFinal, \.lowerOrderFinal)
    try read(.eulerAtFinal, \.eulerAtFinal)
    try read(.skipsPRKSteps, \.skipsPRKSteps)
    try read(.predictsX0, \.predictsX0)
    try read(.disabledCorrector, \.disabledCorrector)
    try read(.originalInferenceSteps, \.originalInferenceSteps)
    try read(.timestepScaling, \.timestepScaling)
    try read(.interpolationType, \.interpolationType)
    try read(.timestepType, \.timestepType)
    unsupported = try CodingKeys.unsupported
      .filter { try values.contains($0) && values.decode(Bool.self, forKey: $0) }.map(\.rawValue)
  }
}

/// Replaces bare `Infinity`, `-Infinity` and `NaN` outside of strings by `null`.
private func withoutPythonNumbers(_ text: [UInt8]) -> [UInt8] {
  let words = ["-Infinity", "Infinity", "NaN"].map { Array($0.utf8) }
  var (out, isInString, at): ([UInt8], Bool, Int) = ([], false, 0)
  while at < text.count {
    if !isInString, let word = words.first(where: { text[at...].starts(with: $0) }) {
      out += Array("null".utf8)
      at += word.count
      continue
    }
    let taken = text[at] == UInt8(ascii: "\\") ? min(2, text.count - at) : 1
    if text[at] == UInt8(ascii: "\"") { isInString.toggle() }
    out += text[at..<(at + taken)]
    at += taken
  }
  return out
}
