@preconcurrency import CoreML
import Foundation
import GessoPipeline

/// Makes pictures with one base model in memory and any number of styles.
///
/// ```swift
/// let generator = ImageGenerator()
/// try await generator.loadBaseModel(modelURL: folder)  // what `gesso convert` wrote
/// let picture = try await generator.generateImage(prompt: "a lighthouse", loraURL: style)
/// ```
///
/// One picture is made at a time; other calls wait in the order of their coming. Nothing runs on the main actor.
/// Cancelling the calling task ends a run before its next op or step.
public actor ImageGenerator {
  /// How a generator works.
  public struct Options: Sendable {
    /// Where models run; nil is where the base's attention runs well (`BaseDescription.Attention.computeUnits`).
    public var computeUnits: MLComputeUnits?
    /// Loads each model when its stage begins and lets it go when the stage ends: slower, with less memory.
    public var reducesMemory = false
    /// How large pictures may be.
    public var memory = MemoryPolicy()
    /// When a run ends early.
    public var lifecycle = LifecyclePolicy()
    /// Where the generator learns of the device.
    public var conditions: any DeviceConditionsSource = SystemConditions()
    /// What `generateImage(prompt:loraURL:)` asks for beside its prompt and adapter.
    public var template = GenerationRequest(prompt: "")
    /// Adapters kept in memory, the last used ones.
    public var adaptersKept = 8

    public init() {}
  }

  struct Base {
    let description: BaseDescription
    let tokenizer: Tokenizer
    let store: ModelStore
  }

  public nonisolated let options: Options
  /// The cache of compiled models.
  public nonisolated let manager: ModelManager
  let turn = Turnstile()
  var base: Base?
  private let loader: @Sendable (BaseDescription, MLComputeUnits) -> ModelStore.Loader
  private var adapters = AdapterShelf()
  private var observation: AnyObject?

  /// A generator without a base. `manager` caches adapters, and models that are still packages.
  public init(options: Options = Options(), manager: ModelManager = ModelManager()) {
    self.init(options: options, manager: manager) { base, units in
      { url, name, hasSlots in
        try await LoadedModel(
          contentsOf: url, name: name, computeUnits: units, slotsOf: hasSlots ? base.sourceHash : nil)
      }
    }
  }

  init(
    options: Options, manager: ModelManager,
    loader: @escaping @Sendable (BaseDescription, MLComputeUnits) -> ModelStore.Loader
  ) {
    self.options = options
    self.manager = manager
    self.loader = loader
  }

  /// What the loaded base is.
  public var baseDescription: BaseDescription? { base?.description }

  /// Names of the models in memory.
  public var loadedModels: Set<String> { get async { await base?.store.names ?? [] } }

  /// Takes a folder that `gesso convert` wrote, in place of the base before. Models are loaded when they are needed;
  /// `prewarm(selfTest:progress:)` loads them now.
  ///
  /// - Throws: `GenerationError.base`, `.family`, `.missingModel`; `PipelineError` for the tokenizer's files.
  public func loadBaseModel(modelURL: URL) async throws {
    try await turn.enter()
    do {
      let description = try BaseDescription(folder: modelURL)
      let tokenizer = try Family.tokenizer(description)
      let units = options.computeUnits ?? description.attention.computeUnits
      let store = ModelStore(base: description, manager: manager, load: loader(description, units))
      for name in ["TextEncoder", "VAEDecoder"] where !store.has(name) {
        throw GenerationError.missingModel(
          name: name, folder: modelURL.path, hint: "convert again without leaving it out")
      }
      await base?.store.release()
      base = Base(description: description, tokenizer: tokenizer, store: store)
      observeConditions()
    } catch {
      await turn.leave()
      throw error
    }
    await turn.leave()
  }

  /// Lets the base, its models and the adapters in memory go.
  public func unload() async {
    await base?.store.release()
    base = nil
    adapters = AdapterShelf()
  }

  /// Lets the models in memory go; the next picture loads what it needs.
  public func releaseModels() async {
    await base?.store.release()
    adapters = AdapterShelf()
  }

  /// Makes a picture.
  ///
  /// - Throws: `GenerationError`, `PipelineError` for what is wrong with the request, `GessoError` for adapters,
  ///   `CancellationError`.
  public func generate(_ request: GenerationRequest) async throws -> GeneratedImage {
    guard base != nil else { throw GenerationError.noBase }
    try await turn.enter()
    do {
      guard let base else { throw GenerationError.noBase }
      let image = try await run(request, base)
      if options.reducesMemory { await base.store.release() }
      await turn.leave()
      return image
    } catch {
      if options.reducesMemory { await base?.store.release() }
      await turn.leave()
      throw error
    }
  }

  private func run(_ request: GenerationRequest, _ base: Base) async throws -> GeneratedImage {
    try options.memory.check(base.description.size)
    let conditions = options.conditions.current
    let (prompt, mentions) = try RunPlan.prompt(request)
    let styles = try await styles(request, mentions)
    let settled = try Settled(request, hints: styles.hints + base.description.hints)
    let plan = try RunPlan(request, prompt, settled, base.description, base.tokenizer)
    try stopIfNeeded(since: conditions, step: 0, of: plan.scheduler.timesteps.count)
    let sampler = Sampler(plan: plan, scalingFactor: base.description.scalingFactor)
    var report = GenerationReport(
      prompt: plan.prompt, negativePrompt: plan.negative, seed: plan.seed, scheduler: settled.scheduler,
      steps: settled.steps, guidance: settled.guidance)
    report.notes = settled.notes
    report.timesteps = plan.scheduler.timesteps
    if plan.prompt.isTruncated || plan.negative.isTruncated {
      report.notes.append("a prompt is longer than \(Tokenizer.context) tokens; its end was cut off")
    }
    var source = try request.rng.source(seed: plan.seed)

    var stage = Stage("text encoder")
    let encoder = try await network("TextEncoder", "text_encoder", styles, &report, base)
    let states = try await sampler.textStates(encoder.network)
    await finish(&stage, encoder.names, base, &report)

    var start: [Float]?
    if let planes = plan.start {
      guard base.store.has("VAEEncoder") else {
        throw GenerationError.missingModel(
          name: "VAEEncoder", folder: base.description.folder.path, hint: "a start image needs it; convert again with it")
      }
      stage = Stage("vae encoder")
      start = try await sampler.encodedStart(try await base.store.network("VAEEncoder"), planes, &source)
      await finish(&stage, ["VAEEncoder"], base, &report)
    }
    try stopIfNeeded(since: conditions, step: 0, of: report.timesteps.count)

    stage = Stage("unet")
    let unet = try await unet(styles, &report, base)
    let seconds = Guarded<[Double]>([])
    let sample = try await sampler.sample(unet.networks, states: states, start: start, source: &source) { progress in
      seconds.change { $0.append(progress.seconds) }
      try await self.tell(progress, request, sampler, base)
      try await self.stopIfNeeded(since: conditions, step: progress.step, of: progress.total)
    }
    report.stepSeconds = seconds.value
    await finish(&stage, unet.names, base, &report)

    stage = Stage("vae decoder")
    let decoder = try await base.store.network("VAEDecoder")
    var image = try picture(try await sampler.decoded(decoder, sample), base)
    if let mask = request.mask, let under = request.startImage {
      image = try image.masked(by: mask.brightness, over: under)
    }
    await finish(&stage, ["VAEDecoder"], base, &report)
    return GeneratedImage(image: image, latents: sample, report: report)
  }

  private func picture(_ planes: [Float], _ base: Base) throws -> RGBAImage {
    try RGBAImage(planes: planes, width: base.description.size.width, height: base.description.size.height)
  }

  private func tell(
    _ progress: Sampler.Progress, _ request: GenerationRequest, _ sampler: Sampler, _ base: Base
  ) async throws {
    guard let onStep = request.onStep else { return }
    var preview: RGBAImage?
    if let every = request.previewEvery, progress.step % every == 0 {
      let decoder = try await base.store.network("VAEDecoder")
      preview = try picture(try await sampler.decoded(decoder, progress.latents), base)
    }
    onStep(
      GenerationStep(
        step: progress.step, total: progress.total, timestep: progress.timestep, latents: progress.latents,
        preview: preview))
  }

  private func stopIfNeeded(since start: DeviceConditions, step: Int, of total: Int) throws {
    if let reason = options.lifecycle.reason(start: start, now: options.conditions.current) {
      throw GenerationError.stopped(reason: reason, step: step, total: total)
    }
  }

  /// Ends a stage: its line in the report, and its models gone when memory is short.
  private func finish(
    _ stage: inout Stage, _ names: Set<String>, _ base: Base, _ report: inout GenerationReport
  ) async {
    report.stages.append(stage.finished(loadSeconds: await base.store.takeLoadSeconds()))
    if options.reducesMemory { await base.store.release(names) }
  }

  /// The request's adapters, in the order in which they are stacked.
  private func styles(_ request: GenerationRequest, _ mentions: [Mention]) async throws -> AdapterSet {
    var uses = request.adapters
    for mention in mentions {
      if let url = request.namedAdapters[mention.name] { uses.append(AdapterUse(url, strength: mention.strength)) }
    }
    var members: [AdapterSet.Member] = []
    for use in uses {
      let adapter: Adapter
      if let kept = adapters[use.url] {
        adapter = kept
      } else {
        adapter = try await manager.adapter(at: use.url)
        adapters.keep(adapter, use.url, most: options.adaptersKept)
      }
      members.append(AdapterSet.Member(adapter, strength: use.strength.map { Float($0) }))
    }
    return AdapterSet(members)
  }

  /// A model with the styles in its slots. Once the adaptable one is in memory it stays in use: without styles it is the
  /// base, exactly.
  private func network(
    _ name: String, _ component: String, _ styles: AdapterSet, _ report: inout GenerationReport, _ base: Base
  ) async throws -> (network: any Network, names: Set<String>) {
    let adaptable = name + "Adaptable"
    let isTouched = styles.members.contains { $0.adapter.factors[component] != nil }
    let isLoaded = await base.store.names.contains(adaptable)
    guard isTouched || isLoaded else {
      return (try await base.store.network(name), [name])
    }
    guard base.store.has(adaptable) else {
      throw GessoError.noSlots(base: base.description.name, component: component)
    }
    await base.store.release([name])
    let network = try await base.store.network(adaptable)
    let start = ContinuousClock.now
    try await network.fuse(styles)
    report.adapterSeconds += start.duration(to: .now).seconds
    return (network, [adaptable])
  }

  private func unet(
    _ styles: AdapterSet, _ report: inout GenerationReport, _ base: Base
  ) async throws -> (networks: [any Network], names: Set<String>) {
    let chunks = ["UnetChunk1", "UnetChunk2"]
    let isTouched = styles.members.contains { $0.adapter.factors["unet"] != nil }
    if !isTouched, chunks.allSatisfy(base.store.has) {
      var networks: [any Network] = []
      for chunk in chunks { networks.append(try await base.store.network(chunk)) }
      return (networks, Set(chunks))
    }
    let (network, names) = try await network("Unet", "unet", styles, &report, base)
    return ([network], names)
  }

  /// A memory warning while nothing runs lets the models go; while something runs it ends that.
  private func observeConditions() {
    guard observation == nil, options.lifecycle.stopsOnMemoryWarning else { return }
    let seen = Guarded(options.conditions.current.memoryWarnings)
    observation = options.conditions.observe { [weak self] now in
      let isNew = seen.change { last in
        defer { last = now.memoryWarnings }
        return now.memoryWarnings > last
      }
      if isNew { Task { await self?.releaseIfIdle() } }
    }
  }

  private func releaseIfIdle() async {
    if await !turn.isBusy { await releaseModels() }
  }
}

extension AdapterSet {
  /// What its members that are in use ask of the sampler, with their names.
  fileprivate var hints: [(name: String, hint: SchedulerHint)] {
    members.compactMap { member in
      guard member.unet != 0, let hint = member.adapter.manifest.schedulerHint else { return nil }
      return (member.adapter.name, hint)
    }
  }
}

/// The clock and the footprint of a stage.
private struct Stage {
  private let name: String
  private let start = ContinuousClock.now
  private let watch = Footprint.Watch()

  init(_ name: String) { self.name = name }

  func finished(loadSeconds: Double) -> GenerationReport.Stage {
    GenerationReport.Stage(
      name: name, seconds: start.duration(to: .now).seconds, loadSeconds: loadSeconds, peakBytes: watch.stop())
  }
}
