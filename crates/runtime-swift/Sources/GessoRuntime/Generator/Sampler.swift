import Foundation
import GessoPipeline

/// The sampling loop around the networks of one run.
struct Sampler: Sendable {
  let plan: RunPlan
  let scalingFactor: Float

  /// States of both prompts `[2, D, 1, 77]`, negative first.
  func textStates(_ encoder: any Network) async throws -> Tensor {
    var rows: [Float] = []
    var width = 0
    for prompt in [plan.negative, plan.prompt] {
      try Task.checkCancellation()
      let ids = Tensor([1, prompt.ids.count], prompt.ids.map { Float($0) })
      let states = try await encoder.predict(["input_ids": ids]).named("last_hidden_state", "text encoder")
      width = states.values.count / Tokenizer.context
      guard width > 0, states.values.count == width * Tokenizer.context, rows.isEmpty || rows.count == states.values.count
      else { throw GenerationError.model(name: "text encoder", reason: "its states have the shape \(states.shape)") }
      let weighted = emphasised(states.values, weights: prompt.weights)
      try check(weighted, "text states", step: 0)
      for channel in 0..<width {
        for token in 0..<Tokenizer.context { rows.append(weighted[token * width + channel]) }
      }
    }
    return Tensor([2, width, 1, Tokenizer.context], rows)
  }

  /// A latent of the start image, drawn from what the encoder gives: `latent [1, 8, h, w]`, means and log-variances.
  func encodedStart(_ encoder: any Network, _ planes: [Float], _ source: inout any NormalSource) async throws -> [Float] {
    let image = Tensor([1, 3, plan.rows * RunPlan.scale, plan.columns * RunPlan.scale], planes)
    let moments = try await encoder.predict(["x": image]).named("latent", "vae encoder").values
    guard moments.count == 2 * plan.count else {
      throw GenerationError.model(name: "vae encoder", reason: "its latent has \(moments.count) numbers")
    }
    let noise = source.normal(plan.count)
    var latent = [Float](repeating: 0, count: plan.count)
    for i in latent.indices {
      let deviation = exp(0.5 * min(max(moments[plan.count + i], -30), 20))
      latent[i] = (moments[i] + deviation * noise[i]) * scalingFactor
    }
    try check(latent, "start latent", step: 0)
    return latent
  }

  /// The image planes `[3, H, W]` of a sample.
  func decoded(_ decoder: any Network, _ sample: [Float]) async throws -> [Float] {
    let latent = Tensor([1, RunPlan.channels, plan.rows, plan.columns], sample.map { $0 / scalingFactor })
    return try await decoder.predict(["z": latent]).named("image", "vae decoder").values
  }

  /// What the loop tells after each step.
  struct Progress: Sendable {
    let step: Int
    let total: Int
    let timestep: Double
    let latents: [Float]
    let seconds: Double
  }

  /// The last sample. `start` is the start image's latent; `after` runs after each step and may throw to end the run.
  func sample(
    _ unet: [any Network], states: Tensor, start: [Float]?, source: inout any NormalSource,
    after: @Sendable (Progress) async throws -> Void
  ) async throws -> [Float] {
    var scheduler = plan.scheduler
    let initial = source.normal(plan.count)
    var sample: [Float]
    if let start {
      sample = scheduler.noised(start, with: initial, at: 0)
    } else {
      let scale = scheduler.initNoiseSigma
      sample = initial.map { $0 * scale }
    }
    let timesteps = scheduler.timesteps
    let shape = [2, RunPlan.channels, plan.rows, plan.columns]
    for (index, timestep) in timesteps.enumerated() {
      try Task.checkCancellation()
      let clock = ContinuousClock.now
      let row = scheduler.scaledModelInput(sample, at: index)
      let time = Tensor([2], [Float(timestep), Float(timestep)])
      let inputs = ["sample": Tensor(shape, row + row), "timestep": time, "encoder_hidden_states": states]
      let guided = try guided(try await Self.through(unet, inputs).named("noise_pred", "unet"), step: index)
      let noise = scheduler.wantsNoise(at: index) ? source.normal(plan.count) : nil
      sample = try scheduler.step(StepInput(index: index, modelOutput: guided, sample: sample, noise: noise))
      if let start, let mask = plan.mask {
        let kept = scheduler.noised(start, with: initial, at: index + 1)
        for i in sample.indices where !mask[i % mask.count] { sample[i] = kept[i] }
      }
      try check(sample, "sample", step: index)
      try await after(
        Progress(
          step: index + 1, total: timesteps.count, timestep: timestep, latents: sample,
          seconds: clock.duration(to: .now).seconds))
    }
    return sample
  }

  /// Runs a network in one piece or in chunks: what a chunk gives comes in place of inputs of the same name.
  static func through(_ chunks: [any Network], _ inputs: [String: Tensor]) async throws -> [String: Tensor] {
    var features = inputs
    var outputs: [String: Tensor] = [:]
    for chunk in chunks {
      outputs = try await chunk.predict(features)
      features.merge(outputs) { _, new in new }
    }
    return outputs
  }

  /// Classifier-free guidance in float32, as diffusers computes it.
  private func guided(_ prediction: Tensor, step: Int) throws -> [Float] {
    let n = plan.count
    guard prediction.values.count == 2 * n else {
      throw PipelineError.length(what: "noise prediction", expected: 2 * n, found: prediction.values.count)
    }
    var guided = Array(prediction.values[n...])
    if plan.settled.guidance > 1 {
      for i in guided.indices {
        let u = prediction.values[i]
        guided[i] = u + plan.settled.guidance * (guided[i] - u)
      }
    }
    try check(guided, "noise prediction", step: step)
    return guided
  }

  private func check(_ values: [Float], _ what: String, step: Int) throws {
    guard values.allSatisfy(\.isFinite) else { throw PipelineError.notFinite(what: what, step: step) }
  }
}

extension [String: Tensor] {
  /// The output of this name.
  func named(_ name: String, _ network: String) throws -> Tensor {
    guard let tensor = self[name] else {
      throw GenerationError.model(
        name: network, reason: "it has no output `\(name)`, only `\(keys.sorted().joined(separator: "`, `"))`")
    }
    return tensor
  }
}
