@preconcurrency import CoreML
import Foundation

/// What `ImageGenerator.prewarm` is at.
public struct PrewarmProgress: Sendable {
  /// What is done with a model.
  public enum Work: String, Sendable {
    /// It is compiled where the folder has only a package, and loaded, which prepares it for the device.
    case loading
    /// It computes what the folder has the answer to.
    case selfTest
  }

  /// Name of the model.
  public let model: String
  /// What is done with it.
  public let work: Work
  /// Pieces of work done, from 0.
  public let done: Int
  /// Pieces of work in all.
  public let total: Int
}

/// What `ImageGenerator.prewarm` found.
public struct PrewarmReport: Sendable {
  /// Seconds that loading took, by model.
  public internal(set) var loadSeconds: [String: Double] = [:]
  /// Signal to noise ratio in dB of each model that was tested; infinite for exact answers.
  public internal(set) var decibels: [String: Double] = [:]
  /// What a developer may want to know: a model without a test, or on an unexpected processor.
  public internal(set) var notes: [String] = []
}

extension ImageGenerator {
  /// Compiles and loads the base's models, so that the first picture does not wait for it, and tests them.
  ///
  /// The self-test gives text encoder and UNet fixed inputs and compares with the outputs that `gesso convert` computed.
  /// With `Options.reducesMemory` the models are let go again. Cancelling the task ends it.
  ///
  /// - Parameters:
  ///   - adaptable: Whether the models with adapter slots are loaded, where there are some, instead of the plain ones.
  ///   - selfTest: Whether models are tested.
  ///   - progress: Called before each piece of work, and once at the end with `done` = `total`.
  /// - Throws: `GenerationError.selfTest` for a model that computes something else; `.model`, `.missingModel`,
  ///   `CancellationError`.
  public func prewarm(
    adaptable: Bool = false, selfTest: Bool = true, progress: (@Sendable (PrewarmProgress) -> Void)? = nil
  ) async throws -> PrewarmReport {
    guard base != nil else { throw GenerationError.noBase }
    try await turn.enter()
    do {
      guard let base else { throw GenerationError.noBase }
      let report = try await prewarmed(base, adaptable, selfTest, progress ?? { _ in })
      if options.reducesMemory { await base.store.release() }
      await turn.leave()
      return report
    } catch {
      if options.reducesMemory { await base?.store.release() }
      await turn.leave()
      throw error
    }
  }

  private func prewarmed(
    _ base: Base, _ adaptable: Bool, _ selfTest: Bool, _ progress: @Sendable (PrewarmProgress) -> Void
  ) async throws -> PrewarmReport {
    var report = PrewarmReport()
    let plain = ["TextEncoder", "Unet", "VAEDecoder"]
    let chunks = ["UnetChunk1", "UnetChunk2"]
    var names = plain.map { adaptable && base.store.has($0 + "Adaptable") ? $0 + "Adaptable" : $0 }
    if names.contains("Unet"), chunks.allSatisfy(base.store.has) {
      names = names.flatMap { $0 == "Unet" ? chunks : [$0] }
    }
    let test = selfTest ? try SelfTest(folder: base.description.folder) : nil
    if selfTest, test == nil { report.notes.append("the folder has no self-test") }
    let cases = test?.cases ?? []
    let total = names.count + cases.count
    let units = options.computeUnits ?? base.description.attention.computeUnits
    for (index, name) in names.enumerated() {
      try Task.checkCancellation()
      progress(PrewarmProgress(model: name, work: .loading, done: index, total: total))
      _ = await base.store.takeLoadSeconds()
      _ = try await base.store.network(name)
      report.loadSeconds[name] = await base.store.takeLoadSeconds()
      if let note = await ProcessorCheck.note(try await base.store.compiled(name), name, units) { report.notes.append(note) }
      if options.reducesMemory, cases.isEmpty { await base.store.release([name]) }
    }
    for (index, one) in cases.enumerated() {
      try Task.checkCancellation()
      progress(PrewarmProgress(model: one.model, work: .selfTest, done: names.count + index, total: total))
      let tested = names.filter { $0.hasPrefix(one.model) }
      var networks: [any Network] = []
      for name in tested {
        let network = try await base.store.network(name)
        try await network.fuse(AdapterSet())
        networks.append(network)
      }
      let found = try await Sampler.through(networks, one.inputs).named(one.output, one.model)
      guard let expected = one.expected else {
        report.notes.append("`\(one.model)` was run but not compared: the folder has inputs for it, but no outputs")
        continue
      }
      let decibels = SelfTest.decibels(expected.values, found.values)
      report.decibels[one.model] = decibels
      guard decibels >= SelfTest.least else {
        throw GenerationError.selfTest(model: one.model, decibels: decibels, least: SelfTest.least)
      }
    }
    progress(PrewarmProgress(model: names.last ?? "", work: cases.isEmpty ? .loading : .selfTest, done: total, total: total))
    return report
  }
}
