import Foundation
import GessoPipeline
import GessoRuntime

/// What is wrong with the command line; exit code 2.
struct Misuse: Error, CustomStringConvertible {
  let description: String
}

/// The command line.
struct Arguments {
  static let usage = """
    Make a picture with a converted base, on Core ML

    Usage: gesso-generate [OPTIONS] --prompt <TEXT> -o <FILE> <BASE>

    Arguments:
      <BASE>  Folder that `gesso convert` wrote

    Options:
          --prompt <TEXT>       What the picture should show; (word:1.2), [word], <lora:name:0.8>
          --negative <TEXT>     What it should not show
      -o, --output <FILE>       Picture to write (.png)
          --steps <N>           Steps [default: what a few-step style asks for, else 20]
          --scheduler <NAME>    \(SchedulerKind.allCases.map(\.rawValue).joined(separator: ", ")) [default: as steps, else dpmpp-2m]
          --seed <N>            Seed of the random numbers [default: 0]
          --rng <NAME>          Whose random numbers: \(RngKind.allCases.map(\.rawValue).joined(separator: ", ")) [default: numpy]
          --guidance <X>        Classifier-free guidance [default: as steps, else 7.5]
          --size <WxH>          Expected size of the picture [default: the base's]
          --adapter <FILE[:S]>  An adapter asset, with its strength; any number of them
          --adapter-dir <DIR>   Where the adapters lie that the prompt names
          --start-image <FILE>  A picture to begin with (.png)
          --strength <X>        How much of it is changed, 0 to 1 [default: 0.75]
          --mask <FILE>         What of it is made new: white is, black stays (.png)
          --preview-every <N>   Write `<output>.<step>.png` every N steps
          --compute-units <U>   all, cpu, cpu-gpu or cpu-ane [default: what the base was converted for]
          --reduce-memory       Load each model for its stage alone
          --allow-large         More than 512x512 on devices below 6 GB, too
          --prewarm             Load and test the models first
          --cache <DIR>         Where compiled models and adapters are kept [default: the user's caches]
          --json                Print a JSON document
          --measure-swap        Instead of a picture, measure what switching between the adapters costs
      -h, --help                Print help
    """

  var base = ""
  var output: String?
  var adapters: [(path: String, strength: Double?)] = []
  var adapterFolder: String?
  var request = GenerationRequest(prompt: "")
  var options = ImageGenerator.Options()
  var cache: String?
  var isHelp = false
  var isPrewarmed = false
  var isJSON = false
  var measuresSwap = false

  /// - Throws: `Misuse`.
  init(_ words: [String]) throws {
    var rest = words[...]
    var bases: [String] = []
    request.seed = 0
    while let word = rest.popFirst() {
      let parts = word.hasPrefix("--") ? word.split(separator: "=", maxSplits: 1).map(String.init) : [word]
      let option = parts.first ?? word
      if !option.hasPrefix("-") || option == "-" {
        bases.append(word)
        continue
      }
      if let change = Self.flags[option] {
        guard parts.count == 1 else { throw Misuse(description: "`\(option)` takes no value") }
        change(&self)
        continue
      }
      guard let read = Self.values[option] else { throw Misuse(description: "there is no option `\(option)`") }
      guard let value = parts.count == 2 ? parts[1] : rest.popFirst() else {
        throw Misuse(description: "`\(option)` needs a value")
      }
      guard try read(&self, value) else { throw Misuse(description: "`\(value)` is no value for `\(option)`") }
    }
    if isHelp { return }
    guard let base = bases.first, bases.count == 1 else {
      throw Misuse(description: "expected one base folder, found \(bases.count)")
    }
    self.base = base
    if measuresSwap {
      guard adapters.count >= 2 else { throw Misuse(description: "`--measure-swap` needs two adapters") }
    } else if request.prompt.isEmpty {
      throw Misuse(description: "`--prompt` is missing")
    } else if output == nil {
      throw Misuse(description: "`--output` is missing")
    }
  }

  private static let flags: [String: @Sendable (inout Arguments) -> Void] = [
    "-h": { $0.isHelp = true }, "--help": { $0.isHelp = true },
    "--reduce-memory": { $0.options.reducesMemory = true },
    "--allow-large": { $0.options.memory.allowsLargePictures = true },
    "--prewarm": { $0.isPrewarmed = true }, "--json": { $0.isJSON = true },
    "--measure-swap": { $0.measuresSwap = true },
  ]

  /// Each reads a value; false when it is none.
  private static let values: [String: @Sendable (inout Arguments, String) throws -> Bool] = [
    "--prompt": { arguments, value in arguments.request.prompt = value; return true },
    "--negative": { arguments, value in arguments.request.negativePrompt = value; return true },
    "-o": { arguments, value in arguments.output = value; return true },
    "--output": { arguments, value in arguments.output = value; return true },
    "--steps": { arguments, value in set(&arguments.request.steps, Int(value)) },
    "--scheduler": { arguments, value in set(&arguments.request.scheduler, SchedulerKind(rawValue: value)) },
    "--seed": { arguments, value in set(&arguments.request.seed, UInt64(value)) },
    "--rng": { arguments, value in set(&arguments.request.rng, RngKind(rawValue: value)) },
    "--guidance": { arguments, value in set(&arguments.request.guidance, Float(value)) },
    "--size": { arguments, value in
      let sides = value.split(separator: "x").compactMap { Int($0) }
      guard sides.count == 2 else { return false }
      arguments.request.size = ImageSize(width: sides[0], height: sides[1])
      return true
    },
    "--adapter": { arguments, value in
      let colon = value.lastIndex(of: ":")
      let strength = colon.flatMap { Double(value[value.index(after: $0)...]) }
      let path = strength == nil ? value[...] : value[..<(colon ?? value.endIndex)]
      arguments.adapters.append((String(path), strength))
      return true
    },
    "--adapter-dir": { arguments, value in arguments.adapterFolder = value; return true },
    "--start-image": { arguments, value in arguments.request.startImage = try picture(value); return true },
    "--strength": { arguments, value in set(&arguments.request.strength, Double(value)) },
    "--mask": { arguments, value in arguments.request.mask = try picture(value); return true },
    "--preview-every": { arguments, value in set(&arguments.request.previewEvery, Int(value)) },
    "--compute-units": { arguments, value in
      set(
        &arguments.options.computeUnits,
        ["all": .all, "cpu": .cpuOnly, "cpu-gpu": .cpuAndGPU, "cpu-ane": .cpuAndNeuralEngine][value])
    },
    "--cache": { arguments, value in arguments.cache = value; return true },
  ]

  private static func set<Value>(_ target: inout Value?, _ value: Value?) -> Bool {
    if let value { target = value }
    return value != nil
  }

  private static func set<Value>(_ target: inout Value, _ value: Value?) -> Bool {
    if let value { target = value }
    return value != nil
  }

  private static func picture(_ path: String) throws -> RGBAImage {
    do {
      return try PNG.image(Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw Misuse(description: "`\(path)`: \(error.localizedDescription)")
    }
  }
}
