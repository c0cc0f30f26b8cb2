/// How a few-step release (LCM-LoRA, Hyper-SD, Lightning, …) wants to be sampled; what a user asks for goes before it
/// (`docs/adapter-format.md` section 2).
public struct SchedulerHint: Codable, Sendable, Equatable {
  /// `lcm`, `ddim`, `euler` or `euler-a`.
  public let scheduler: String
  /// diffusers' `timestep_spacing` for that scheduler; nil is the model's own.
  public let timestepSpacing: String?
  /// Steps, 1 to 1000.
  public let steps: Int
  /// Weight of the prompt against the negative prompt; 1 is none.
  public let guidance: Float
  /// Which release it is, and where that was read.
  public let because: String

  enum CodingKeys: String, CodingKey {
    case scheduler, steps, guidance, because
    case timestepSpacing = "timestep_spacing"
  }

  /// What a hint from a file cannot be.
  var problem: String? {
    if !(1...1000).contains(steps) { return "`scheduler_hint`: \(steps) steps" }
    return guidance.isFinite ? nil : "`scheduler_hint`: the guidance is not finite"
  }
}
