@preconcurrency import CoreML
import Foundation
import GessoPipeline

/// What `gesso.json` says of a converted folder, as far as generation needs it.
public struct BaseDescription: Sendable {
  /// How attention is written, which decides where it runs well.
  public enum Attention: String, Decodable, Sendable {
    /// One einsum pair per head: the Neural Engine.
    case splitEinsum = "SPLIT_EINSUM"
    /// All heads at once: the GPU.
    case original = "ORIGINAL"

    /// Where it runs well.
    public var computeUnits: MLComputeUnits {
      switch self {
      case .splitEinsum: .cpuAndNeuralEngine
      case .original: .cpuAndGPU
      }
    }
  }

  /// The folder.
  public let folder: URL
  /// Model family, for instance `sd1`.
  public let family: String
  /// Name of the model.
  public let name: String
  /// SHA-256 of the source's tensors, 64 hexadecimal digits.
  public let sourceHash: String
  /// How attention is written.
  public let attention: Attention
  /// Size of the pictures.
  public let size: ImageSize
  /// Rank of the slots; 0 for none.
  public let adapterRank: Int
  /// Names of the models, without extension.
  public let models: Set<String>
  /// The scheduler's configuration as it stood in the source.
  public let scheduler: SchedulerConfig
  /// Factor between the VAE's latents and the UNet's.
  public let scalingFactor: Float
  /// What a few-step LoRA in the base's weights asks of the sampler, under the base's name; one at most.
  let hints: [(name: String, hint: SchedulerHint)]

  /// Reads `gesso.json` of a folder.
  ///
  /// - Throws: `GenerationError.base`.
  public init(folder: URL) throws {
    let refuse = { (reason: String) in GenerationError.base(folder: folder.path, reason: reason) }
    let file: File
    do {
      let data = try Data(contentsOf: folder.appendingPathComponent("gesso.json"))
      file = try JSONDecoder().decode(File.self, from: data)
    } catch let error as CocoaError {
      throw refuse("`gesso.json` cannot be read: \(error.localizedDescription)")
    } catch {
      throw refuse("`gesso.json`: \(error)")
    }
    guard file.schema == 1 else { throw refuse("`schema` of `gesso.json` is \(file.schema), expected 1") }
    guard let factor = file.scalingFactor, factor.isFinite, factor > 0 else {
      throw refuse("it has no VAE; convert it with one")
    }
    guard (8...16384).contains(file.recipe.width), (8...16384).contains(file.recipe.height),
      file.recipe.width % 8 == 0, file.recipe.height % 8 == 0
    else { throw refuse("the size in `gesso.json` is \(file.recipe.width)x\(file.recipe.height)") }
    self.folder = folder
    (family, name, sourceHash) = (file.family, file.origin.name, file.sourceHash)
    (attention, adapterRank) = (file.recipe.attention, file.recipe.adapterRank)
    size = ImageSize(width: file.recipe.width, height: file.recipe.height)
    models = Set(file.packages.keys)
    scheduler = file.scheduler ?? .stableDiffusion()
    scalingFactor = factor
    // The last delta goes before the others and before what was merged at conversion.
    let deltas = (file.deltas ?? []).reversed().flatMap { $0.loras ?? [] }
    let merged = deltas + (file.recipe.loras ?? [])
    let first = merged.first { $0.schedulerHint != nil && $0.unet ?? $0.unetStrength ?? 1 != 0 }?.schedulerHint
    if let problem = first?.problem { throw refuse("`gesso.json`: \(problem)") }
    hints = first.map { [(file.origin.name, $0)] } ?? []
  }

  private struct File: Decodable {
    struct Origin: Decodable { let name: String }
    struct Package: Decodable { let file: String }
    struct Delta: Decodable { let loras: [Merged]? }

    /// A LoRA in the weights: of a delta with `unet`, of the recipe with `unet_strength`.
    struct Merged: Decodable {
      let schedulerHint: SchedulerHint?
      let unet: Float?
      let unetStrength: Float?

      enum CodingKeys: String, CodingKey {
        case unet
        case schedulerHint = "scheduler_hint"
        case unetStrength = "unet_strength"
      }
    }

    struct Recipe: Decodable {
      let attention: Attention
      let width: Int
      let height: Int
      let adapterRank: Int
      let loras: [Merged]?

      enum CodingKeys: String, CodingKey {
        case attention, width, height, loras
        case adapterRank = "adapter_rank"
      }
    }

    let schema: Int
    let family: String
    let origin: Origin
    let sourceHash: String
    let recipe: Recipe
    let packages: [String: Package]
    let scheduler: SchedulerConfig?
    let deltas: [Delta]?
    let scalingFactor: Float?

    enum CodingKeys: String, CodingKey {
      case schema, family, origin, recipe, packages, scheduler, deltas
      case sourceHash = "source_hash"
      case scalingFactor = "scaling_factor"
    }
  }
}
