@preconcurrency import CoreML
import GessoPipeline
import XCTest

@testable import GessoRuntime

/// Pictures of the shapes base, compared with those of the Rust program.
final class PictureTests: XCTestCase {
  private func generator(_ change: (inout ImageGenerator.Options) -> Void = { _ in }) async throws -> ImageGenerator {
    var options = calmOptions()
    change(&options)
    let generator = ImageGenerator(options: options, manager: sharedManager)
    try await generator.loadBaseModel(modelURL: shapesBase)
    return generator
  }

  /// Base, A, B, A+B named in the prompt, weights with a negative prompt, three schedulers and three generators.
  func testEveryStoredPictureIsMadeWithinOneLevel() async throws {
    let generator = try await generator()
    for stored in try StoredPicture.all() {
      let made = try await generator.generate(stored.request)
      let most = levels(made.image, try stored.image())
      XCTAssertLessThanOrEqual(try XCTUnwrap(most), 1, stored.file)
      print("\(stored.file): at most \(most ?? -1) of 255 levels from the Rust program's picture")
    }
  }

  func testStrengthZeroAndSwitchingBackAreTheBaseExactly() async throws {
    let stored = try XCTUnwrap(try StoredPicture.all().first)
    var request = try stored.request
    request.steps = 3
    let generator = try await generator()
    let plain = try await generator.generate(request)
    let names = await generator.loadedModels
    XCTAssertEqual(names, ["TextEncoder", "Unet", "VAEDecoder"])
    var images: [String: RGBAImage] = [:]
    for style in ["sketch", "watercolor"] {
      request.adapters = [AdapterUse(asset(style))]
      images[style] = try await generator.generate(request).image
      XCTAssertNotEqual(images[style], plain.image)
    }
    XCTAssertNotEqual(images["sketch"], images["watercolor"])
    request.adapters = [AdapterUse(asset("sketch"), strength: 0), AdapterUse(asset("watercolor"), strength: 0)]
    let zero = try await generator.generate(request)
    XCTAssertEqual(zero.latents, plain.latents)
    request.adapters = []
    let back = try await generator.generate(request)
    XCTAssertEqual(back.latents, plain.latents)
    XCTAssertEqual(back.image, plain.image)
    request.adapters = [AdapterUse(asset("sketch"))]
    let again = try await generator.generate(request)
    XCTAssertEqual(again.image, images["sketch"])
    let after = await generator.loadedModels
    XCTAssertEqual(after, ["TextEncoderAdaptable", "UnetAdaptable", "VAEDecoder"])
  }

  /// The path of the article that the project began with.
  func testTheArticlesTwoCalls() async throws {
    let stored = try XCTUnwrap(try StoredPicture.all().first { $0.file == "sketch.png" })
    let generator = try await generator { $0.template = (try? stored.request) ?? $0.template }
    let style = try await sharedManager.compileAndSaveLoRA(at: asset("sketch"))
    var template = try stored.request
    template.adapters = []
    let plainTemplate = template
    let article = try await self.generator { $0.template = plainTemplate }
    let picture: PlatformImage = try await article.generateImage(prompt: stored.prompt, loraURL: style)
    let full = try await generator.generate(stored.request)
    #if canImport(CoreGraphics)
      XCTAssertEqual(picture.width, 128)
    #else
      XCTAssertEqual(picture, full.image)
    #endif
    XCTAssertLessThanOrEqual(try XCTUnwrap(levels(full.image, try stored.image())), 1)
  }

  /// Models go when their stage ends, and the picture stays the same.
  func testReducedMemoryMakesTheSamePicture() async throws {
    let stored = try XCTUnwrap(try StoredPicture.all().first)
    let generator = try await generator { $0.reducesMemory = true }
    let seen = Guarded<[Set<String>]>([])
    var request = try stored.request
    request.onStep = { _ in
      Task { let names = await generator.loadedModels; seen.change { $0.append(names) } }
    }
    let made = try await generator.generate(request)
    XCTAssertLessThanOrEqual(try XCTUnwrap(levels(made.image, try stored.image())), 1)
    let left = await generator.loadedModels
    XCTAssertEqual(left, [])
    XCTAssertEqual(made.report.stages.map(\.name), ["text encoder", "unet", "vae decoder"])
    XCTAssertTrue(made.report.stages.allSatisfy { $0.seconds >= $0.loadSeconds && $0.loadSeconds > 0 })
    XCTAssertGreaterThan(made.report.peakBytes, 1 << 20)
    XCTAssertEqual(made.report.stepSeconds.count, 8)
    XCTAssertTrue(seen.value.allSatisfy { !$0.contains("TextEncoder") }, "\(seen.value)")
  }

  /// With a start image the run stays near it, and what a mask keeps is the start image's pixels exactly.
  func testStartImagesAndMasks() async throws {
    let stored = try XCTUnwrap(try StoredPicture.all().first)
    let start = try stored.image()
    let generator = try await generator()
    var request = try stored.request
    request.startImage = start
    let distance = { (image: RGBAImage) in
      zip(image.bytes, start.bytes).map { abs(Double($0) - Double($1)) }.reduce(0, +) / Double(start.bytes.count)
    }
    // Another seed, so that only the start image can lead back to it.
    request.seed = 1234
    request.steps = 20
    var distances: [Double] = []
    for strength in [0.05, 0.2, 1] {
      request.strength = strength
      distances.append(distance(try await generator.generate(request).image))
    }
    print("mean distance from the start image at strength 0.05, 0.2, 1: \(distances)")
    XCTAssertLessThan(distances[0], 4)
    XCTAssertLessThan(distances[0], distances[1])
    XCTAssertLessThan(distances[1], distances[2])
    request.prompt = "a small blue circle on gray"
    request.steps = 8
    request.strength = 0.6
    // The right half is made new.
    let bytes = (0..<(128 * 128)).flatMap { pixel -> [UInt8] in
      let level: UInt8 = pixel % 128 < 64 ? 0 : 255
      return [level, level, level, 255]
    }
    request.mask = try RGBAImage(width: 128, height: 128, bytes: bytes)
    let masked = try await generator.generate(request).image
    for row in 0..<128 {
      let (from, to) = (row * 512, row * 512 + 256)
      XCTAssertTrue(masked.bytes[from..<to] == start.bytes[from..<to], "row \(row)")
    }
    XCTAssertNotEqual(masked, start)
    request.startImage = nil
    await assertThrows(
      PipelineError.request(name: "mask", found: "given", expected: "a start image beside it")
    ) { [request] in try await generator.generate(request) }
  }

  func testCancellationEndsARunAndTheNextOneIsRight() async throws {
    let stored = try XCTUnwrap(try StoredPicture.all().first)
    let generator = try await generator()
    let steps = Guarded(0)
    let running = Guarded<Task<GeneratedImage, any Error>?>(nil)
    var request = try stored.request
    request.steps = 200
    request.onStep = { step in
      steps.change { $0 = step.step }
      if step.step == 2 { running.value?.cancel() }
    }
    let long = request
    let task = Task { try await generator.generate(long) }
    running.change { $0 = task }
    do {
      _ = try await task.value
      XCTFail("the run was not cancelled")
    } catch { XCTAssertTrue(error is CancellationError, "\(error)") }
    XCTAssertLessThan(steps.value, 10)
    let made = try await generator.generate(stored.request)
    XCTAssertLessThanOrEqual(try XCTUnwrap(levels(made.image, try stored.image())), 1)
  }

  /// The UNet's slots as states: the picture of `gesso generate` with the same folder, and the base again afterwards.
  func testSlotsThatAreStates() async throws {
    let files = FileManager.default
    let folder = files.temporaryDirectory.appendingPathComponent("StateBase-\(UUID().uuidString)")
    try files.createDirectory(at: folder, withIntermediateDirectories: true)
    let states = fixtures.appendingPathComponent("swift/states")
    for (name, from) in [
      ("gesso.json", states), ("UnetAdaptable.mlpackage", states), ("TextEncoder.mlpackage", shapesBase),
      ("VAEDecoder.mlpackage", shapesBase), ("vocab.json", shapesBase), ("merges.txt", shapesBase),
    ] { try files.copyItem(at: from.appendingPathComponent(name), to: folder.appendingPathComponent(name)) }
    let stored = try XCTUnwrap(try StoredPicture.all().first { $0.file == "sketch.png" })
    let generator = ImageGenerator(options: calmOptions(), manager: sharedManager)
    try await generator.loadBaseModel(modelURL: folder)
    let styled = try await generator.generate(stored.request)
    let want = try PNG.image(Data(contentsOf: states.appendingPathComponent("sketch.png")))
    XCTAssertLessThanOrEqual(try XCTUnwrap(levels(styled.image, want)), 1)
    var request = try stored.request
    request.adapters = []
    let plain = try await generator.generate(request)
    XCTAssertNotEqual(plain.image, styled.image)
    request.adapters = [AdapterUse(asset("sketch"), strength: 0)]
    let zero = try await generator.generate(request)
    XCTAssertEqual(zero.latents, plain.latents)
    let again = try await generator.generate(stored.request)
    XCTAssertEqual(again.latents, styled.latents)
  }
}
