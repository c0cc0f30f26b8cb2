import Foundation
import GessoPipeline

/// A request that has been checked against a base: everything that can be known before a model is loaded.
struct RunPlan: Sendable {
  /// Channels of a latent.
  static let channels = 4
  /// Pixels per element of a latent along each axis.
  static let scale = 8

  let prompt: EncodedPrompt
  let negative: EncodedPrompt
  let settled: Settled
  let scheduler: any Scheduler
  let seed: UInt64
  /// Planes `[3, H, W]` of the start image.
  let start: [Float]?
  /// By latent element, whether it is made new; nil without a mask.
  let mask: [Bool]?
  /// Height and width of a latent.
  let rows: Int
  let columns: Int

  /// Elements of a latent.
  var count: Int { Self.channels * rows * columns }

  /// The prompt and the adapters that it names, all of which the request has.
  ///
  /// - Throws: `PipelineError.prompt`, `GenerationError.unknownAdapter`.
  static func prompt(_ request: GenerationRequest) throws -> (prompt: Prompt, mentions: [Mention]) {
    let parsed = try Prompt.parse(request.prompt)
    if let mention = parsed.mentions.first(where: { request.namedAdapters[$0.name] == nil }) {
      throw GenerationError.unknownAdapter(name: mention.name, known: request.namedAdapters.keys.sorted())
    }
    return parsed
  }

  /// - Throws: `PipelineError`, `GenerationError`.
  init(
    _ request: GenerationRequest, _ prompt: Prompt, _ settled: Settled, _ base: BaseDescription, _ tokenizer: Tokenizer
  ) throws {
    self.settled = settled
    if let asked = request.size, asked != base.size { throw GenerationError.size(asked: asked, base: base.size) }
    if let control = request.controlImages.first {
      throw GenerationError.unsupported(what: "the control image for `\(control.name)`", family: base.family)
    }
    guard settled.guidance.isFinite else {
      throw PipelineError.request(name: "guidance", found: "\(settled.guidance)", expected: "a finite number")
    }
    if let every = request.previewEvery, every < 1 {
      throw PipelineError.request(name: "previewEvery", found: "\(every)", expected: "1 or more")
    }
    self.prompt = tokenizer.encode(prompt)
    negative = tokenizer.encode(try Prompt.parseNegative(request.negativePrompt))
    seed = request.seed ?? UInt64(UInt32.random(in: .min ... .max))
    (rows, columns) = (base.size.height / Self.scale, base.size.width / Self.scale)
    for (what, image) in [("start image", request.startImage), ("mask", request.mask)] {
      let found = image.map { ImageSize(width: $0.width, height: $0.height) }
      if let found, found != base.size {
        throw GenerationError.inputSize(what: what, found: found, expected: base.size)
      }
    }
    guard request.startImage != nil || request.mask == nil else {
      throw PipelineError.request(name: "mask", found: "given", expected: "a start image beside it")
    }
    start = request.startImage?.planes
    mask = request.mask.map { Self.latentMask($0.brightness, base.size) }
    var skipped = 0
    if start != nil {
      guard (0...1).contains(request.strength) else {
        throw PipelineError.request(name: "strength", found: "\(request.strength)", expected: "0 to 1")
      }
      let taken = min(Int(Double(max(settled.steps, 0)) * request.strength), settled.steps)
      guard taken > 0 else {
        throw PipelineError.request(
          name: "strength", found: "\(request.strength)", expected: "enough for one of \(settled.steps) steps")
      }
      skipped = settled.steps - taken
    }
    var config = base.scheduler
    config.timestepSpacing = settled.spacing ?? config.timestepSpacing
    scheduler = try settled.scheduler.scheduler(config, steps: settled.steps, skipping: skipped)
  }

  /// An element of a latent is made new when half of its pixels are white.
  private static func latentMask(_ brightness: [Float], _ size: ImageSize) -> [Bool] {
    let columns = size.width / scale
    var sums = [Float](repeating: 0, count: columns * (size.height / scale))
    for (pixel, value) in brightness.enumerated() {
      sums[pixel / size.width / scale * columns + pixel % size.width / scale] += value
    }
    let half = Float(scale * scale) / 2
    return sums.map { $0 >= half }
  }
}
