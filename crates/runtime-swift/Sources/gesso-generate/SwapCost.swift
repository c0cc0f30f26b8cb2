import Foundation
import GessoPipeline
import GessoRuntime

/// What switching between adapters costs on a loaded base, beside one step of the UNet in the same run.
enum SwapCost {
  /// Switches that are measured.
  private static let switches = 6

  /// Prints the figures as JSON.
  ///
  /// The first picture loads the models; then one style after the other is put into the slots, with two steps each. An
  /// adapter is read from the cache once.
  static func measure(_ arguments: Arguments) async throws {
    let generator = try await GenerateCommand.generator(arguments)
    let styles = arguments.adapters.map { URL(fileURLWithPath: $0.path) }
    var entries: [URL] = []
    var readSeconds: [Double] = []
    for style in styles {
      let entry = try await generator.manager.compileAndSaveLoRA(at: style)
      let start = ContinuousClock.now
      _ = try await generator.manager.adapter(at: entry)
      readSeconds.append(seconds(since: start))
      entries.append(entry)
    }
    var request = arguments.request
    request.prompt = request.prompt.isEmpty ? "a lighthouse at dawn" : request.prompt
    request.steps = 2
    var swaps: [Double] = []
    var steps: [Double] = []
    var peaks: [UInt64] = []
    for turn in 0...switches {
      request.adapters = [AdapterUse(entries[turn % entries.count], strength: arguments.adapters[turn % entries.count].strength)]
      let report = try await generator.generate(request).report
      GenerateCommand.say(
        "turn \(turn): adapters \(report.adapterSeconds) s, steps \(report.stepSeconds) s, \(report.peakBytes) bytes")
      peaks.append(report.stages.first { $0.name == "unet" }?.peakBytes ?? 0)
      // The first turn loads.
      if turn == 0 { continue }
      swaps.append(report.adapterSeconds)
      steps += report.stepSeconds
    }
    let (swap, step) = (median(swaps), median(steps))
    try GenerateCommand.printJSON([
      "schema": 1, "swap_seconds": swap, "step_seconds": step, "swap_per_step": swap / step,
      "read_adapter_seconds": median(readSeconds), "unet_peak_bytes": peaks.map { Int($0) }, "all_swaps": swaps,
      "all_steps": steps,
    ])
  }

  private static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    return sorted.isEmpty ? 0 : (sorted[sorted.count / 2] + sorted[(sorted.count - 1) / 2]) / 2
  }

  private static func seconds(since start: ContinuousClock.Instant) -> Double {
    let parts = start.duration(to: .now).components
    return Double(parts.seconds) + Double(parts.attoseconds) * 1e-18
  }
}
