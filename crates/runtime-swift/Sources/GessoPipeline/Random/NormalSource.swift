/// A source of normal deviates, mean 0, standard deviation 1.
///
/// Seeds give the same latents as in the program that the source restates. One call is one draw there: for torch and
/// nvidia the numbers depend on how many are asked at once.
public protocol NormalSource: Sendable {
  /// Draws `count` numbers in one call.
  mutating func normal(_ count: Int) -> [Float]
}

/// Whose random numbers to draw; the raw value is the name on a command line.
public enum RngKind: String, CaseIterable, Sendable {
  /// `numpy.random.RandomState(seed).normal`, the default of Apple's package.
  case numpy
  /// `torch.randn` with a CPU generator, as diffusers uses it.
  case torch
  /// The Philox generator of CUDA torch.
  case nvidia

  /// A fresh generator. Torch uses the low 32 bits of the seed, as PyTorch does.
  ///
  /// - Throws: `PipelineError.request` when `numpy` is given more than 32 bits.
  public func source(seed: UInt64) throws -> any NormalSource {
    switch self {
    case .numpy:
      guard let seed = UInt32(exactly: seed) else {
        throw PipelineError.request(
          name: "seed", found: String(seed), expected: "at most 4294967295 for the numpy generator")
      }
      return NumpyRng(seed: seed)
    case .torch: return TorchRng(seed: seed)
    case .nvidia: return NvidiaRng(seed: seed)
    }
  }
}
