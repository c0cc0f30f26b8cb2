import Foundation

/// Why a picture was not made.
public enum GenerationError: Error, Equatable, Sendable {
  /// No base was loaded, or it was unloaded.
  case noBase
  /// The folder is not one that `gesso convert` wrote.
  case base(folder: String, reason: String)
  /// The base is of a family that is not generated with here.
  case family(name: String)
  /// A model that the request needs is not in the folder.
  case missingModel(name: String, folder: String, hint: String)
  /// A model could not be loaded or run, or has other features than it should.
  case model(name: String, reason: String)
  /// The request asks for a size that the base does not have: its models have one size.
  case size(asked: ImageSize, base: ImageSize)
  /// The picture is larger than the policy allows on this device.
  case tooLarge(asked: ImageSize, most: ImageSize, physicalMemory: UInt64)
  /// A start image or mask has another size than the picture.
  case inputSize(what: String, found: ImageSize, expected: ImageSize)
  /// Something that the family cannot do.
  case unsupported(what: String, family: String)
  /// The prompt names an adapter that the request has not.
  case unknownAdapter(name: String, known: [String])
  /// A few-step style asks for something that is not known here.
  case hint(adapter: String, what: String)
  /// The device's condition ended the run after a step.
  case stopped(reason: StopReason, step: Int, total: Int)
  /// The self-test's outputs are not those that the folder holds.
  case selfTest(model: String, decibels: Double, least: Double)
}

/// A condition of the device that ends a run.
public enum StopReason: String, Equatable, Sendable {
  /// The app went to the background.
  case background
  /// The system warned of low memory.
  case memoryWarning
  /// The device is too hot.
  case thermalState
  /// Low Power Mode was turned on.
  case lowPowerMode
}

extension GenerationError: CustomStringConvertible, LocalizedError {
  public var description: String {
    switch self {
    case .noBase: "no base is loaded; call `loadBaseModel(modelURL:)` first"
    case .base(let folder, let reason): "`\(folder)` is not a folder of `gesso convert`: \(reason)"
    case .family(let name): "a base of family `\(name)` cannot be generated with; `sd1` can"
    case .missingModel(let name, let folder, let hint): "`\(folder)` has no `\(name)`\n\nhint: \(hint)"
    case .model(let name, let reason): "model `\(name)`: \(reason)"
    case .size(let asked, let base): "a picture of \(asked) was asked, but the base makes \(base); convert it with `--size \(asked)`"
    case .tooLarge(let asked, let most, let physicalMemory):
      "a picture of \(asked) needs more memory than this device has (\(physicalMemory / 1_048_576) MiB): at most \(most)"
        + "\n\nhint: set `MemoryPolicy.allowsLargePictures` to make it anyway"
    case .inputSize(let what, let found, let expected): "the \(what) is \(found), expected \(expected)"
    case .unsupported(let what, let family): "\(what) cannot be used with a base of family `\(family)`"
    case .unknownAdapter(let name, let known):
      "the prompt names the adapter `\(name)`, but the request has "
        + (known.isEmpty ? "none" : "only `\(known.joined(separator: "`, `"))`")
    case .hint(let adapter, let what):
      "`\(adapter)` wants \(what), which is not known here\n\nhint: set `scheduler` in the request"
    case .stopped(let reason, let step, let total): "stopped after step \(step) of \(total): \(reason.words)"
    case .selfTest(let model, let decibels, let least):
      "the self-test of `\(model)` reached \(decibels) dB, expected at least \(least)"
        + "\n\nhint: the model does not compute on this device what it should; try other compute units"
    }
  }

  public var errorDescription: String? { description }
}

extension StopReason {
  var words: String {
    switch self {
    case .background: "the app went to the background"
    case .memoryWarning: "the system warned of low memory"
    case .thermalState: "the device is too hot"
    case .lowPowerMode: "Low Power Mode is on"
    }
  }
}

/// Width and height of a picture in pixels.
public struct ImageSize: Equatable, Hashable, Sendable, CustomStringConvertible {
  /// In pixels.
  public var width: Int
  /// In pixels.
  public var height: Int

  public init(width: Int, height: Int) {
    self.width = width
    self.height = height
  }

  public var description: String { "\(width)x\(height)" }
}
