import Foundation

/// Why text or settings could not be used.
public enum PipelineError: Error, Equatable, Sendable {
  /// `vocab.json` is not an object of token → id.
  case vocabulary(reason: String)
  /// A line of `merges.txt`, counted from one, is not a pair of symbols.
  case merges(line: Int, reason: String)
  /// A prompt has syntax that cannot be used.
  case prompt(found: String, reason: String)
  /// `scheduler_config.json` cannot be read.
  case schedulerConfig(reason: String)
  /// An option of a scheduler has a value that is not supported here.
  case schedulerOption(scheduler: String, option: String, value: String)
  /// The number of steps is zero or larger than the number of training timesteps.
  case steps(steps: Int, most: Int)
  /// A scheduler was stepped out of order.
  case stepOrder(expected: Int, found: Int, total: Int)
  /// An array has the wrong number of elements.
  case length(what: String, expected: Int, found: Int)
  /// A stochastic scheduler was stepped without noise.
  case noNoise(scheduler: String, step: Int)
  /// A value of the request is out of range.
  case request(name: String, found: String, expected: String)
  /// A network gave something that is not a number.
  case notFinite(what: String, step: Int)
}

extension PipelineError: CustomStringConvertible, LocalizedError {
  public var description: String {
    switch self {
    case .vocabulary(let reason): return "`vocab.json`: \(reason)"
    case .merges(let line, let reason): return "`merges.txt` line \(line): \(reason)"
    case .prompt(let found, let reason): return "`\(found)` in the prompt: \(reason)"
    case .schedulerConfig(let reason): return "`scheduler_config.json`: \(reason)"
    case .schedulerOption(let scheduler, let option, let value):
      return "scheduler `\(scheduler)` does not support `\(option)` = `\(value)`"
    case .steps(let steps, let most): return "\(steps) steps asked, expected 1 to \(most)"
    case .stepOrder(let expected, let found, let total):
      return "scheduler step \(found) out of order, expected \(expected) of \(total)"
    case .length(let what, let expected, let found): return "\(what): \(found) elements, expected \(expected)"
    case .noNoise(let scheduler, let step): return "scheduler `\(scheduler)` needs noise at step \(step)"
    case .request(let name, let found, let expected): return "`\(name)` is \(found), expected \(expected)"
    case .notFinite(let what, let step): return "\(what) of step \(step) has a value that is not finite"
    }
  }

  public var errorDescription: String? { description }
}
