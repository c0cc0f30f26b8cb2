@preconcurrency import CoreML
import Foundation
import XCTest

@testable import GessoRuntime

/// Real assets on the real base of `fixtures/swift`, compiled and run by Core ML.
final class AdapterTests: XCTestCase {
  private static let folder = fixtures.appendingPathComponent("swift")

  private func made(_ name: String) -> URL { Self.folder.appendingPathComponent(name) }

  private func manager(_ folder: TemporaryFolder) -> ModelManager {
    ModelManager(options: .init(root: folder.url.appendingPathComponent("cache")))
  }

  /// Compiles a model of the base and loads it.
  private func model(_ name: String, _ manager: ModelManager) async throws -> MLModel {
    let entry = try await manager.compileAndSaveLoRA(at: made("base/\(name).mlpackage"))
    return try MLModel(contentsOf: entry.appendingPathComponent("\(name).mlmodelc"))
  }

  /// Inputs of a UNet, the same every time.
  private func inputs(_ model: MLModel) throws -> [String: MLFeatureValue] {
    var features: [String: MLFeatureValue] = [:]
    var state: UInt32 = 1
    for (name, input) in model.modelDescription.inputDescriptionsByName.sorted(by: { $0.key < $1.key })
    where !input.isOptional {
      let constraint = try XCTUnwrap(input.multiArrayConstraint)
      let array = try MLMultiArray(shape: constraint.shape, dataType: constraint.dataType)
      for index in 0..<array.count {
        state = state &* 1_664_525 &+ 1_013_904_223
        let number = name == "timestep" ? 500 : name == "input_ids" ? Double(index) : Double(state >> 16) / 32768 - 1
        array[index] = NSNumber(value: number)
      }
      features[name] = MLFeatureValue(multiArray: array)
    }
    return features
  }

  private func output(_ model: MLModel, _ slots: SlotInputs? = nil) throws -> [Float] {
    let features = try inputs(model).merging(slots?.features ?? [:]) { $1 }
    let result = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: features))
    let name = try XCTUnwrap(result.featureNames.sorted().first)
    let array = try XCTUnwrap(result.featureValue(for: name)?.multiArrayValue)
    return (0..<array.count).map { array[$0].floatValue }
  }

  /// √Σ(a − b)² / √Σb².
  private func distance(_ a: [Float], _ b: [Float]) -> Float {
    let difference = zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    return (difference / b.reduce(0) { $0 + $1 * $1 }).squareRoot()
  }

  func testStylesComeAndGoOnALoadedModel() async throws {
    let folder = try TemporaryFolder()
    let manager = manager(folder)
    let plain = try await output(model("Unet", manager))
    let unet = try await model("UnetAdaptable", manager)
    let slots = try SlotInputs(model: unet, name: "UnetAdaptable", sourceHash: nil)
    XCTAssertEqual(try output(unet, slots), plain, "empty slots are the base")
    let sketch = try await manager.adapter(at: made("sketch.mlmodelcassets"))
    let entry = try await manager.compileAndSaveLoRA(at: made("watercolor.mlmodelcassets"))
    let watercolor = try await manager.adapter(at: entry)
    let compiled = await manager.statistics.compilations
    XCTAssertEqual(sketch.name, "sketch")
    try slots.fuse(AdapterSet([.init(sketch, strength: 0)]))
    XCTAssertEqual(try output(unet, slots), plain, "strength 0 is the base")
    try slots.fuse(AdapterSet([.init(sketch)]))
    let one = try output(unet, slots)
    XCTAssertGreaterThan(distance(one, plain), 0.02)
    try slots.fuse(AdapterSet([.init(watercolor, strength: 0.9)]))
    let other = try output(unet, slots)
    XCTAssertGreaterThan(distance(other, one), 0.02)
    try slots.fuse(AdapterSet([.init(sketch, strength: 0.6), .init(watercolor, strength: 0.5)]))
    let both = try output(unet, slots)
    XCTAssertGreaterThan(min(distance(both, one), distance(both, other), distance(both, plain)), 0.01)
    try slots.fuse(AdapterSet([.init(sketch)]))
    XCTAssertEqual(try output(unet, slots), one, "switching back gives the same numbers")
    slots.unfuse()
    XCTAssertEqual(try output(unet, slots), plain, "unfuse gives the base")
    let after = await manager.statistics.compilations
    XCTAssertEqual(after, compiled, "changing the style compiles nothing")
    let half = AdapterSet([.init(sketch, strength: 0.25), .init(sketch, strength: 0.75)])
    try slots.fuse(half)
    XCTAssertLessThan(distance(try output(unet, slots), one), 0.01, "strengths of one adapter add up")
  }

  func testTextEncoderAndAdaptersThatDoNotFit() async throws {
    let folder = try TemporaryFolder()
    let manager = manager(folder)
    let encoder = try await model("TextEncoderAdaptable", manager)
    let slots = try SlotInputs(model: encoder, name: "TextEncoderAdaptable", sourceHash: nil)
    let plain = try output(encoder, slots)
    let sketch = try await manager.adapter(at: made("sketch.mlmodelcassets"))
    try slots.fuse(AdapterSet([.init(sketch)]))
    XCTAssert(slots.features.isEmpty, "sketch is for the UNet alone")
    let watercolor = try await manager.adapter(at: made("watercolor.mlmodelcassets"))
    try slots.fuse(AdapterSet([.init(watercolor)]))
    XCTAssertGreaterThan(distance(try output(encoder, slots), plain), 0.01)
    try slots.fuse(AdapterSet([.init(watercolor, unet: 1, textEncoder: 0)]))
    XCTAssertEqual(try output(encoder, slots), plain)
    let many = AdapterSet((0..<9).map { _ in .init(watercolor) })
    XCTAssertThrowsError(try slots.fuse(many)) {
      guard case GessoError.stack(_, _, 36, 32, 64)? = $0 as? GessoError else { return XCTFail("\($0)") }
    }
    let bare = try await model("TextEncoder", manager)
    XCTAssertThrowsError(try SlotInputs(model: bare, name: "TextEncoder", sourceHash: nil)) {
      XCTAssertEqual($0 as? GessoError, .noSlots(base: "TextEncoder", component: "text_encoder"))
    }
  }

  func testADeltaIsPutIntoACopyOfTheBase() async throws {
    let folder = try TemporaryFolder()
    let manager = manager(folder)
    let base = made("base")
    let delta = try await manager.compileAndSaveLoRA(at: made("sketch-delta.mlmodelcassets"))
    let styled = try await manager.base(at: base, applying: delta)
    let first = await manager.statistics.compilations
    guard case .delta(let manifest) = try AssetManifest(of: delta) else { return XCTFail("no delta") }
    for name in ["Unet", "UnetAdaptable"] {
      let weights = try InputFile(styled.appendingPathComponent("\(name).mlmodelc/weights/weight.bin"))
      XCTAssertEqual(try weights.sha256(), manifest.files[0].after, name)
    }
    // What does not change is the same file as in the cache's compiled base.
    let decoder = try await manager.compileAndSaveLoRA(at: base.appendingPathComponent("VAEDecoder.mlpackage"))
    let own = try InputFile(decoder.appendingPathComponent("VAEDecoder.mlmodelc/weights/weight.bin"))
    let shared = try InputFile(styled.appendingPathComponent("VAEDecoder.mlmodelc/weights/weight.bin"))
    XCTAssertEqual(own.identity.split(separator: " ").dropFirst(), shared.identity.split(separator: " ").dropFirst())
    let entry = try await manager.contents.first { $0.kind == .base }
    XCTAssertEqual(entry?.name, "base + sketch")
    XCTAssertLessThan(try XCTUnwrap(entry).bytes, manifest.files[0].size + 400_000)
    let info = try JSONSerialization.jsonObject(with: Data(contentsOf: styled.appendingPathComponent("gesso.json")))
    XCTAssertEqual(((info as? [String: Any])?["deltas"] as? [[String: Any]])?.first?["name"] as? String, "sketch")
    let again = try await manager.base(at: base, applying: made("sketch-delta.mlmodelcassets"))
    XCTAssertEqual(again, styled)
    let second = await manager.statistics.compilations
    XCTAssertEqual(first, second)
    // The delta holds what the adapter holds, in four bits: much nearer to the base with the adapter than to the base.
    let unet = try MLModel(contentsOf: styled.appendingPathComponent("UnetAdaptable.mlmodelc"))
    let adaptable = try await model("UnetAdaptable", manager)
    let slots = try SlotInputs(model: adaptable, name: "UnetAdaptable", sourceHash: nil)
    let plain = try output(adaptable, slots)
    try slots.fuse(AdapterSet([.init(try await manager.adapter(at: made("sketch.mlmodelcassets")))]))
    let (adapted, patched) = (try output(adaptable, slots), try output(unet))
    XCTAssertLessThan(distance(patched, adapted), 0.6 * distance(plain, adapted))
    await wrong(manager)
  }

  /// The hash of the outcome is compared, and nothing of a wrong one stays.
  func testADeltaWithAnotherOutcomeIsRefused() async throws {
    let folder = try TemporaryFolder()
    let manager = manager(folder)
    let real = try StoredArchive(InputFile(made("sketch-delta.mlmodelcassets")))
    let wrong = String(repeating: "0", count: 64)
    let members = try real.members.map { member -> (String, Data) in
      var bytes = Data()
      try real.stream(member) { bytes.append(contentsOf: $0) }
      guard member.name == Asset.manifestName else { return (member.name, bytes) }
      guard case .delta(let manifest) = try AssetManifest(bytes, file: folder.url) else { return (member.name, bytes) }
      let text = String(decoding: bytes, as: UTF8.self)
      return (member.name, Data(text.replacingOccurrences(of: manifest.files[0].after, with: wrong).utf8))
    }
    let file = folder.url.appendingPathComponent("wrong.mlmodelcassets")
    try archive(of: members).write(to: file)
    do {
      _ = try await manager.base(at: made("base"), applying: file)
      XCTFail("it was taken")
    } catch GessoError.deltaResult(_, "sketch", wrong, _) {}
    XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: manager.folder.staging.path), [])
    let kinds = try await manager.contents.map(\.kind)
    XCTAssertFalse(kinds.contains(.base))
  }

  /// Kinds that are not what a call is for.
  private func wrong(_ manager: ModelManager) async {
    func fails(_ name: String, _ isRight: (GessoError) -> Bool, _ body: () async throws -> Void) async {
      do {
        try await body()
        XCTFail("\(name) was taken")
      } catch let error as GessoError {
        XCTAssert(isRight(error), "\(name): \(error)")
      } catch { XCTFail("\(name): \(error)") }
    }
    let (delta, adapter) = (made("sketch-delta.mlmodelcassets"), made("sketch.mlmodelcassets"))
    let isWrongKind = { (error: GessoError) in if case .wrongKind = error { true } else { false } }
    await fails("delta", isWrongKind) { _ = try await manager.adapter(at: delta) }
    await fails("adapter", isWrongKind) { _ = try await manager.base(at: made("base"), applying: adapter) }
    await fails("package", isWrongKind) {
      _ = try await manager.adapter(at: made("base/VAEDecoder.mlpackage"))
    }
    let other = { (error: GessoError) in if case .otherBase("sketch", _, _, _) = error { true } else { false } }
    await fails("base", other) {
      let folder = try TemporaryFolder()
      for name in ["gesso.json", "VAEDecoder.mlpackage"] {
        try FileManager.default.copyItem(at: made("base/\(name)"), to: folder.url.appendingPathComponent(name))
      }
      _ = try await manager.base(at: folder.url, applying: delta)
    }
  }
}
