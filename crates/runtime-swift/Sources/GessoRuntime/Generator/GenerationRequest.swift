import Foundation
import GessoPipeline

/// An adapter that a picture is made with.
public struct AdapterUse: Sendable {
  /// What `ModelManager.compileAndSaveLoRA(at:)` returned, or the asset itself.
  public var url: URL
  /// Its strength; nil is the asset's own.
  public var strength: Double?

  public init(_ url: URL, strength: Double? = nil) {
    self.url = url
    self.strength = strength
  }
}

/// A picture that a ControlNet reads.
public struct ControlImage: Sendable {
  /// Name of the ControlNet.
  public var name: String
  /// What it reads.
  public var image: RGBAImage

  public init(name: String, image: RGBAImage) {
    self.name = name
    self.image = image
  }
}

/// Told after each step of the sampler.
public struct GenerationStep: Sendable {
  /// Steps done, from 1.
  public let step: Int
  /// Steps in all; PNDM has one more than was asked.
  public let total: Int
  /// Timestep of this step.
  public let timestep: Double
  /// The sample after it `[1, 4, H/8, W/8]`.
  public let latents: [Float]
  /// The sample decoded, in the steps that `GenerationRequest.previewEvery` names.
  public let preview: RGBAImage?
}

/// What to make, and how.
public struct GenerationRequest: Sendable {
  /// What the picture should show, with weights and adapters as `Prompt` reads them.
  public var prompt: String
  /// What it should not show; weights, but no adapters.
  public var negativePrompt = ""
  /// Number of steps; nil is what a few-step style asks for, else 20.
  public var steps: Int?
  /// Sampler; nil is what a few-step style asks for, else DPM-Solver++ 2M.
  public var scheduler: SchedulerKind?
  /// Seed of the random numbers; nil draws one of 32 bits, which the report tells.
  public var seed: UInt64?
  /// Whose random numbers.
  public var rng = RngKind.numpy
  /// Classifier-free guidance: above 1, the prediction is u + guidance·(c − u), u being that for the negative prompt and
  /// c that for the prompt. At 1 or below it is c alone. nil is what a few-step style asks for, else 7.5.
  public var guidance: Float?
  /// Size of the picture; nil is the base's. The base's models have one size, another one is an error.
  public var size: ImageSize?
  /// A picture to begin with, of the picture's size.
  public var startImage: RGBAImage?
  /// With a start image, how much of the way is taken: 1 begins with noise alone, 0 changes nothing.
  public var strength = 0.75
  /// With a start image, what is made new: white is, black stays, greys mix the pixels.
  public var mask: RGBAImage?
  /// Pictures for ControlNets.
  public var controlImages: [ControlImage] = []
  /// Adapters, in the order in which they are stacked.
  public var adapters: [AdapterUse] = []
  /// Adapters by the names that the prompt may give with `<lora:name:strength>`; stacked after `adapters`.
  public var namedAdapters: [String: URL] = [:]
  /// Steps between two decoded previews; nil for none. Each takes as long as decoding the picture.
  public var previewEvery: Int?
  /// Called after each step, on no particular thread.
  public var onStep: (@Sendable (GenerationStep) -> Void)?

  public init(prompt: String) { self.prompt = prompt }

  /// Steps when nothing else is asked for.
  static let usualSteps = 20
  /// Guidance when nothing else is asked for.
  static let usualGuidance: Float = 7.5
}

/// A finished picture.
public struct GeneratedImage: Sendable {
  /// The picture.
  public let image: RGBAImage
  /// The last sample, not divided by the scaling factor: `[1, 4, H/8, W/8]`.
  public let latents: [Float]
  /// How it went.
  public let report: GenerationReport
}

/// How a run went.
public struct GenerationReport: Sendable {
  /// A part of a run.
  public struct Stage: Sendable {
    /// `text encoder`, `vae encoder`, `unet` or `vae decoder`.
    public let name: String
    /// Seconds by the clock, loading included.
    public let seconds: Double
    /// Seconds of it that went into loading models.
    public let loadSeconds: Double
    /// Most bytes of memory that the process owned meanwhile, looked at every 10 ms: the physical footprint on Apple's
    /// systems, anonymous memory on Linux. 0 where it cannot be told.
    public let peakBytes: UInt64
  }

  /// The stages in their order.
  public internal(set) var stages: [Stage] = []
  /// Seconds spent in the scheduler's steps and the networks of each step.
  public internal(set) var stepSeconds: [Double] = []
  /// The prompt's tokens.
  public internal(set) var prompt: EncodedPrompt
  /// The negative prompt's tokens.
  public internal(set) var negativePrompt: EncodedPrompt
  /// Seed of the random numbers.
  public internal(set) var seed: UInt64
  /// Sampler.
  public internal(set) var scheduler: SchedulerKind
  /// Steps.
  public internal(set) var steps: Int
  /// Classifier-free guidance.
  public internal(set) var guidance: Float
  /// Timesteps at which the network was asked.
  public internal(set) var timesteps: [Double] = []
  /// Seconds that putting the adapters into the slots took; 0 when they were there already.
  public internal(set) var adapterSeconds = 0.0
  /// What a user may want to know: a prompt that was cut, what a few-step style decided, a model on an unexpected processor.
  public internal(set) var notes: [String] = []

  /// The most of any stage.
  public var peakBytes: UInt64 { stages.map(\.peakBytes).max() ?? 0 }
}
