@preconcurrency import CoreML
import Foundation
import GessoPipeline
import GessoRuntime

/// The command-line generator. Exit codes: 0 done, 2 wrong command line or input.
@main
struct GenerateCommand {
  static func main() async {
    do {
      let arguments = try Arguments(Array(CommandLine.arguments.dropFirst()))
      if arguments.isHelp {
        print(Arguments.usage)
      } else if arguments.measuresSwap {
        try await SwapCost.measure(arguments)
      } else {
        try await GenerateCommand(arguments: arguments).run()
      }
    } catch {
      let text = (error as? any LocalizedError)?.errorDescription ?? "\(error)"
      FileHandle.standardError.write(Data("error: \(text)\n".utf8))
      exit(2)
    }
  }

  let arguments: Arguments

  private func run() async throws {
    guard let output = arguments.output else { return }
    let folder = URL(fileURLWithPath: output).deletingLastPathComponent()
    guard FileManager.default.isWritableFile(atPath: folder.path) else {
      throw Misuse(description: "`\(folder.path)` is no folder that can be written")
    }
    let start = ContinuousClock.now
    let generator = try await Self.generator(arguments)
    var notes: [String] = []
    if arguments.isPrewarmed {
      let report = try await generator.prewarm { step in
        Self.say("prewarm \(step.done)/\(step.total): \(step.work.rawValue) \(step.model)")
      }
      for (model, decibels) in report.decibels.sorted(by: { $0.key < $1.key }) {
        Self.say("self-test of \(model): \(decibels) dB")
      }
      notes = report.notes
    }
    var request = arguments.request
    request.adapters = arguments.adapters.map { AdapterUse(URL(fileURLWithPath: $0.path), strength: $0.strength) }
    request.namedAdapters = try Self.named(arguments.adapterFolder)
    request.onStep = { step in
      Self.say("step \(step.step)/\(step.total)")
      if let preview = step.preview {
        try? PNG.data(preview).write(to: URL(fileURLWithPath: "\(output).\(step.step).png"), options: .atomic)
      }
    }
    let made = try await generator.generate(request)
    let texts: KeyValuePairs = ["parameters": parameters(made), "Software": "Gesso"]
    try PNG.data(made.image, texts: texts).write(to: URL(fileURLWithPath: output), options: .atomic)
    let seconds = start.duration(to: .now)
    notes += made.report.notes
    if arguments.isJSON {
      try Self.printJSON(document(made, output, notes))
    } else {
      for note in notes { print("note: \(note)") }
      print("wrote `\(output)` (\(made.image.width)x\(made.image.height)) in \(seconds)")
    }
  }

  /// A generator with the base loaded, and the cache where the arguments say.
  static func generator(_ arguments: Arguments) async throws -> ImageGenerator {
    let root = arguments.cache.map { URL(fileURLWithPath: $0, isDirectory: true) }
    let manager = ModelManager(options: ModelManager.Options(root: root))
    let generator = ImageGenerator(options: arguments.options, manager: manager)
    try await generator.loadBaseModel(modelURL: URL(fileURLWithPath: arguments.base, isDirectory: true))
    return generator
  }

  /// The assets of a folder by name.
  private static func named(_ folder: String?) throws -> [String: URL] {
    guard let folder else { return [:] }
    let url = URL(fileURLWithPath: folder, isDirectory: true)
    let files = try FileManager.default.contentsOfDirectory(at: url, includingPropertiesForKeys: nil)
    let assets = files.filter { $0.pathExtension == "mlmodelcassets" }
    return Dictionary(assets.map { ($0.deletingPathExtension().lastPathComponent, $0) }) { first, _ in first }
  }

  /// The parameters as one text, in the order that other tools write them.
  private func parameters(_ made: GeneratedImage) -> String {
    let request = arguments.request
    var text = request.prompt
    if !request.negativePrompt.isEmpty { text += "\nNegative prompt: \(request.negativePrompt)" }
    let report = made.report
    text += "\nSteps: \(report.steps), Sampler: \(report.scheduler.rawValue), CFG scale: \(report.guidance)"
    text += ", Seed: \(made.report.seed), RNG: \(request.rng.rawValue), Size: \(made.image.width)x\(made.image.height)"
    for adapter in arguments.adapters {
      text += ", Adapter: \(URL(fileURLWithPath: adapter.path).lastPathComponent)"
      if let strength = adapter.strength { text += ":\(strength)" }
    }
    return text
  }

  private func document(_ made: GeneratedImage, _ output: String, _ notes: [String]) -> [String: Any] {
    let stages = made.report.stages.map { stage in
      [
        "name": stage.name, "seconds": stage.seconds, "load_seconds": stage.loadSeconds,
        "peak_bytes": stage.peakBytes,
      ] as [String: Any]
    }
    return [
      "schema": 1, "picture": output, "tokens": made.report.prompt.ids, "truncated": made.report.prompt.isTruncated,
      "steps": made.report.timesteps.count, "seed": made.report.seed, "stages": stages, "notes": notes,
      "adapter_seconds": made.report.adapterSeconds, "step_seconds": made.report.stepSeconds,
    ]
  }

  /// Progress, where a person reads it.
  static func say(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

  static func printJSON(_ document: [String: Any]) throws {
    let data = try JSONSerialization.data(withJSONObject: document, options: [.prettyPrinted, .sortedKeys])
    print(String(decoding: data, as: UTF8.self))
  }
}
