import GessoPipeline

/// Sampler, steps and guidance of a picture: what the user asks for, else what a few-step release asks for, else the
/// usual. The twin of the Rust program's.
struct Settled: Sendable {
  let scheduler: SchedulerKind
  /// Spacing in place of the model's own.
  let spacing: TimestepSpacing?
  let steps: Int
  let guidance: Float
  /// What was chosen on whose behalf.
  private(set) var notes: [String] = []

  /// The first of `hints`, each with the name of what it comes from, fills in what the request leaves open; its spacing
  /// holds for its own scheduler only.
  ///
  /// - Throws: `GenerationError.hint` for a scheduler or spacing that is not known here, unless the request names a
  ///   scheduler.
  init(_ request: GenerationRequest, hints: [(name: String, hint: SchedulerHint)]) throws {
    guard let (name, hint) = hints.first else {
      scheduler = request.scheduler ?? .dpmPP2M
      spacing = nil
      steps = request.steps ?? GenerationRequest.usualSteps
      guidance = request.guidance ?? GenerationRequest.usualGuidance
      return
    }
    let own = SchedulerKind(rawValue: hint.scheduler)
    guard let scheduler = request.scheduler ?? own else {
      throw GenerationError.hint(adapter: name, what: "the sampler `\(hint.scheduler)`")
    }
    var spacing: TimestepSpacing?
    if let word = hint.timestepSpacing, scheduler == own {
      guard let known = TimestepSpacing(rawValue: word) else {
        throw GenerationError.hint(adapter: name, what: "the timestep spacing `\(word)`")
      }
      spacing = known
    }
    (self.scheduler, self.spacing) = (scheduler, spacing)
    steps = request.steps ?? hint.steps
    guidance = request.guidance ?? hint.guidance
    var taken: [String] = []
    if request.scheduler == nil {
      taken.append("sampler \(scheduler.rawValue)" + (hint.timestepSpacing.map { " (\($0))" } ?? ""))
    }
    if request.steps == nil { taken.append("\(steps) steps") }
    if request.guidance == nil { taken.append("guidance \(guidance)") }
    if !taken.isEmpty { notes.append("\(taken.joined(separator: ", ")) for `\(name)` (\(hint.because))") }
    for (other, its) in hints.dropFirst()
    where (its.scheduler, its.steps, its.timestepSpacing) != (hint.scheduler, hint.steps, hint.timestepSpacing) {
      notes.append("`\(other)` wants \(its.steps) steps of `\(its.scheduler)` (\(its.because)); `\(name)` comes first")
    }
  }
}
