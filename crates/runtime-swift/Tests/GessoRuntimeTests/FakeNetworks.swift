@preconcurrency import CoreML
import Foundation
import GessoPipeline

@testable import GessoRuntime

/// Networks without any arithmetic behind them, so that tests of queues and conditions take no time.
final class FakeNetworks: Sendable {
  /// Names of models in the order in which they were loaded.
  let loads = Guarded<[String]>([])
  /// Predictions that run now, and the most at a time.
  let running = Guarded((now: 0, most: 0))
  /// Seconds that a step of the UNet takes.
  let stepSeconds: Double
  /// Runs before each prediction, with the model's name.
  let before: @Sendable (String) async throws -> Void

  init(stepSeconds: Double = 0, before: @escaping @Sendable (String) async throws -> Void = { _ in }) {
    self.stepSeconds = stepSeconds
    self.before = before
  }

  var loader: @Sendable (BaseDescription, MLComputeUnits) -> ModelStore.Loader {
    { base, _ in
      { _, name, _ in
        self.loads.change { $0.append(name) }
        return Fake(name: name, size: base.size, networks: self)
      }
    }
  }

  private struct Fake: Network {
    let name: String
    let size: ImageSize
    let networks: FakeNetworks

    func fuse(_ adapters: AdapterSet) {}

    func predict(_ inputs: [String: Tensor]) async throws -> [String: Tensor] {
      networks.running.change { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
      defer { networks.running.change { $0.now -= 1 } }
      try await networks.before(name)
      let (rows, columns) = (size.height / 8, size.width / 8)
      func zeros(_ shape: [Int]) -> Tensor { Tensor(shape, [Float](repeating: 0, count: shape.reduce(1, *))) }
      switch name {
      case "TextEncoder", "TextEncoderAdaptable": return ["last_hidden_state": zeros([1, 77, 8])]
      case "VAEDecoder": return ["image": zeros([1, 3, size.height, size.width])]
      case "VAEEncoder": return ["latent": zeros([1, 8, rows, columns])]
      case "UnetChunk1":
        var inner = inputs["sample"] ?? zeros([2, 4, rows, columns])
        inner.values = inner.values.map { $0 * 0.5 }
        return ["inner": inner, "timestep": Tensor([2], [1, 1])]
      case "UnetChunk2":
        // What the first chunk gave takes the place of the input.
        let scale = inputs["timestep"]?.values.first ?? 0
        var noise = inputs["inner"] ?? zeros([0])
        noise.values = noise.values.map { $0 * scale }
        return ["noise_pred": noise]
      default:
        if networks.stepSeconds > 0 { try await Task.sleep(for: .seconds(networks.stepSeconds)) }
        var noise = inputs["sample"] ?? zeros([0])
        noise.values = noise.values.map { $0 * 0.5 }
        return ["noise_pred": noise]
      }
    }
  }
}

/// A folder that looks like a converted base, without models' contents.
func fakeBase(
  size: ImageSize = ImageSize(width: 64, height: 64), family: String = "sd1",
  models: [String] = ["TextEncoder", "Unet", "VAEDecoder", "VAEEncoder"]
) throws -> URL {
  let folder = FileManager.default.temporaryDirectory.appendingPathComponent("FakeBase-\(UUID().uuidString)")
  let files = FileManager.default
  try files.createDirectory(at: folder, withIntermediateDirectories: true)
  for model in models {
    try files.createDirectory(at: folder.appendingPathComponent(model + ".mlmodelc"), withIntermediateDirectories: true)
  }
  for name in ["vocab.json", "merges.txt"] {
    try files.copyItem(at: shapesBase.appendingPathComponent(name), to: folder.appendingPathComponent(name))
  }
  let json = """
    {"schema": 1, "family": "\(family)", "origin": {"name": "fake"}, "source_hash": "00",
     "recipe": {"attention": "ORIGINAL", "width": \(size.width), "height": \(size.height), "adapter_rank": 0},
     "packages": {}, "scheduler": null, "scaling_factor": 0.5}
    """
  try Data(json.utf8).write(to: folder.appendingPathComponent("gesso.json"))
  return folder
}
