@preconcurrency import CoreML
import GessoPipeline
import XCTest

@testable import GessoRuntime

/// Queue, conditions, memory and requests of `ImageGenerator`, with networks that compute nothing.
final class GeneratorTests: XCTestCase {
  private func generator(
    _ networks: FakeNetworks = FakeNetworks(), base: URL? = nil, _ change: (inout ImageGenerator.Options) -> Void = { _ in }
  ) async throws -> ImageGenerator {
    var options = calmOptions()
    change(&options)
    let generator = ImageGenerator(options: options, manager: sharedManager, loader: networks.loader)
    try await generator.loadBaseModel(modelURL: try base ?? fakeBase())
    return generator
  }

  func testNothingIsMadeWithoutABase() async throws {
    let generator = ImageGenerator(options: calmOptions(), manager: sharedManager)
    await assertThrows(GenerationError.noBase) { try await generator.generate(starRequest()) }
    let made = try await self.generator()
    await made.unload()
    await assertThrows(GenerationError.noBase) { try await made.generate(starRequest()) }
  }

  func testBadFoldersAreRefused() async throws {
    let generator = ImageGenerator(options: calmOptions(), manager: sharedManager)
    let other = try fakeBase(family: "sd9")
    await assertThrows(GenerationError.family(name: "sd9")) { try await generator.loadBaseModel(modelURL: other) }
    let half = try fakeBase(models: ["TextEncoder", "Unet"])
    await assertThrows(
      GenerationError.missingModel(
        name: "VAEDecoder", folder: half.path, hint: "convert again without leaving it out")
    ) { try await generator.loadBaseModel(modelURL: half) }
    for text in ["", "{}", "{\"schema\": 2}"] {
      let folder = try fakeBase()
      try Data(text.utf8).write(to: folder.appendingPathComponent("gesso.json"))
      do {
        try await generator.loadBaseModel(modelURL: folder)
        XCTFail("took \(text)")
      } catch {
        guard case GenerationError.base(folder.path, _) = error else { return XCTFail("\(error)") }
      }
    }
    let nothing = FileManager.default.temporaryDirectory.appendingPathComponent("nothing-here")
    do {
      try await generator.loadBaseModel(modelURL: nothing)
      XCTFail("took a folder that is not there")
    } catch { XCTAssertTrue("\(error)".contains("`gesso.json` cannot be read"), "\(error)") }
  }

  func testOnePictureIsMadeAtATimeInTheOrderOfTheCalls() async throws {
    let networks = FakeNetworks(stepSeconds: 0.005)
    let generator = try await generator(networks)
    let order = Guarded<[Int]>([])
    try await withThrowingTaskGroup(of: Void.self) { group in
      for index in 0..<5 {
        var request = starRequest(3)
        request.onStep = { step in if step.step == 1 { order.change { $0.append(index) } } }
        let own = request
        group.addTask { _ = try await generator.generate(own) }
        try await Task.sleep(for: .milliseconds(3))
      }
      try await group.waitForAll()
    }
    XCTAssertEqual(order.value, [0, 1, 2, 3, 4])
    XCTAssertEqual(networks.running.value.most, 1)
    XCTAssertEqual(networks.loads.value, ["TextEncoder", "Unet", "VAEDecoder"])
  }

  func testAWaitingCallCanBeCancelled() async throws {
    let generator = try await generator(FakeNetworks(stepSeconds: 0.05))
    let first = Task { try await generator.generate(starRequest(4)) }
    try await Task.sleep(for: .milliseconds(20))
    let second = Task { try await generator.generate(starRequest(4)) }
    let third = Task { try await generator.generate(starRequest(1)) }
    try await Task.sleep(for: .milliseconds(20))
    second.cancel()
    do {
      _ = try await second.value
      XCTFail("it ran")
    } catch { XCTAssertTrue(error is CancellationError, "\(error)") }
    _ = try await first.value
    _ = try await third.value
  }

  func testConditionsEndARunAtItsNextStep() async throws {
    let cases: [(StopReason, @Sendable (inout DeviceConditions) -> Void)] = [
      (.background, { $0.isInBackground = true }), (.memoryWarning, { $0.memoryWarnings += 1 }),
      (.thermalState, { $0.thermalState = .critical }), (.lowPowerMode, { $0.isLowPowerMode = true }),
    ]
    for (reason, change) in cases {
      let conditions = SetConditions()
      let generator = try await generator { $0.conditions = conditions }
      var request = starRequest(6)
      request.onStep = { step in if step.step == 3 { conditions.set(change) } }
      let own = request
      await assertThrows(GenerationError.stopped(reason: reason, step: 3, total: 6)) { try await generator.generate(own) }
      // As long as it lasts no run begins; a warning is past.
      if reason == .memoryWarning {
        _ = try await generator.generate(starRequest())
      } else {
        await assertThrows(GenerationError.stopped(reason: reason, step: 0, total: 4)) {
          try await generator.generate(starRequest())
        }
      }
      let careless = try await self.generator {
        $0.conditions = conditions
        $0.lifecycle = .never
      }
      _ = try await careless.generate(own)
    }
  }

  func testAMemoryWarningLetsIdleModelsGo() async throws {
    let conditions = SetConditions()
    let generator = try await generator { $0.conditions = conditions }
    _ = try await generator.generate(starRequest())
    var names = await generator.loadedModels
    XCTAssertEqual(names.count, 3)
    conditions.set { $0.memoryWarnings += 1 }
    for _ in 0..<100 where !names.isEmpty {
      try await Task.sleep(for: .milliseconds(10))
      names = await generator.loadedModels
    }
    XCTAssertEqual(names, [])
    _ = try await generator.generate(starRequest())
  }

  func testLargePicturesAreRefusedOnSmallDevices() async throws {
    let large = ImageSize(width: 768, height: 512)
    let folder = try fakeBase(size: large)
    // What devices with 4 and 6 GB report.
    for (memory, isRefused): (UInt64, Bool) in [(3_900_000_000, true), (5_600_000_000, false)] {
      let generator = try await generator(base: folder) { $0.memory.physicalMemory = memory }
      if isRefused {
        await assertThrows(
          GenerationError.tooLarge(asked: large, most: ImageSize(width: 512, height: 512), physicalMemory: memory)
        ) { try await generator.generate(starRequest(1)) }
      } else {
        _ = try await generator.generate(starRequest(1))
      }
    }
    let forced = try await generator(base: folder) {
      $0.memory.physicalMemory = 3_900_000_000
      $0.memory.allowsLargePictures = true
    }
    _ = try await forced.generate(starRequest(1))
    let square = try await generator(base: fakeBase(size: ImageSize(width: 512, height: 512))) {
      $0.memory.physicalMemory = 3_900_000_000
    }
    _ = try await square.generate(starRequest(1))
  }

  func testRequestsAreCheckedByName() async throws {
    let generator = try await generator()
    let small = try RGBAImage(width: 8, height: 8, bytes: [UInt8](repeating: 0, count: 256))
    let base = ImageSize(width: 64, height: 64)
    let cases: [((inout GenerationRequest) -> Void, String)] = [
      ({ $0.size = ImageSize(width: 32, height: 64) }, "a picture of 32x64 was asked, but the base makes 64x64"),
      ({ $0.controlImages = [ControlImage(name: "canny", image: small)] }, "the control image for `canny`"),
      ({ $0.startImage = small }, "the start image is 8x8, expected \(base)"),
      ({ $0.prompt = "<lora:ink>" }, "the prompt names the adapter `ink`, but the request has none"),
      ({ $0.prompt = "a AND b" }, "`AND` in the prompt"), ({ $0.negativePrompt = "<lora:ink>" }, "a negative prompt"),
      ({ $0.steps = 0 }, "0 steps asked"), ({ $0.guidance = .nan }, "`guidance`"),
      ({ $0.seed = 1 << 32 }, "`seed` is 4294967296"), ({ $0.previewEvery = 0 }, "`previewEvery` is 0"),
    ]
    for (change, want) in cases {
      var request = starRequest()
      change(&request)
      let own = request
      do {
        _ = try await generator.generate(own)
        XCTFail("no error: \(want)")
      } catch { XCTAssertTrue("\(error)".contains(want), "\(error)\n\(want)") }
    }
    _ = try await generator.generate(starRequest())
  }

  /// The user goes before a few-step style's hint, and the hint before the usual.
  func testAFewStepStyleDecidesWhatIsLeftOpen() throws {
    func hint(_ scheduler: String, _ steps: Int) throws -> (name: String, hint: SchedulerHint) {
      let json = """
        {"scheduler": "\(scheduler)", "timestep_spacing": "trailing", "steps": \(steps), "guidance": 1,
         "because": "Hyper-SD, by a test"}
        """
      return ("fast\(steps)", try JSONDecoder().decode(SchedulerHint.self, from: Data(json.utf8)))
    }
    let open = GenerationRequest(prompt: "")
    let usual = try Settled(open, hints: [])
    XCTAssertEqual([usual.scheduler.rawValue, "\(usual.steps)", "\(usual.guidance)"], ["dpmpp-2m", "20", "7.5"])
    let hinted = try Settled(open, hints: [hint("ddim", 8), hint("lcm", 4)])
    XCTAssertEqual([hinted.scheduler.rawValue, "\(hinted.steps)", "\(hinted.guidance)"], ["ddim", "8", "1.0"])
    XCTAssertEqual(hinted.spacing, .trailing)
    XCTAssertEqual(
      hinted.notes,
      [
        "sampler ddim (trailing), 8 steps, guidance 1.0 for `fast8` (Hyper-SD, by a test)",
        "`fast4` wants 4 steps of `lcm` (Hyper-SD, by a test); `fast8` comes first",
      ])
    var asked = open
    (asked.steps, asked.scheduler, asked.guidance) = (3, .euler, 2)
    let settled = try Settled(asked, hints: [hint("magic", 8)])
    XCTAssertEqual([settled.scheduler.rawValue, "\(settled.steps)", "\(settled.guidance)"], ["euler", "3", "2.0"])
    XCTAssertNil(settled.spacing)
    XCTAssertEqual(settled.notes, [])
    XCTAssertThrowsError(try Settled(open, hints: [hint("magic", 8)])) { error in
      XCTAssertEqual(error as? GenerationError, .hint(adapter: "fast8", what: "the sampler `magic`"))
    }
  }

  func testAFewStepLoRAInTheBaseDecidesToo() async throws {
    let folder = try fakeBase()
    let file = folder.appendingPathComponent("gesso.json")
    let text = try String(contentsOf: file, encoding: .utf8)
    let hint = #"{"scheduler": "euler", "steps": 2, "guidance": 1, "because": "SDXL-Turbo"}"#
    let loras = #""adapter_rank": 0, "loras": [{"unet_strength": 1, "scheduler_hint": \#(hint)}]"#
    try Data(text.replacingOccurrences(of: #""adapter_rank": 0"#, with: loras).utf8).write(to: file)
    let made = try await generator(base: folder).generate(GenerationRequest(prompt: "a star"))
    XCTAssertEqual(made.report.timesteps.count, 2)
    XCTAssertEqual(made.report.scheduler, .euler)
    XCTAssertEqual(made.report.notes, ["sampler euler, 2 steps, guidance 1.0 for `fake` (SDXL-Turbo)"])
  }

  func testPreviewsAndNotes() async throws {
    let generator = try await generator()
    var request = starRequest(5)
    request.prompt = String(repeating: "star ", count: 90)
    request.scheduler = .pndm
    request.previewEvery = 2
    let previews = Guarded<[Bool]>([])
    request.onStep = { step in previews.change { $0.append(step.preview != nil) } }
    let made = try await generator.generate(request)
    XCTAssertEqual(previews.value, [false, true, false, true, false, true])
    XCTAssertEqual(made.report.timesteps.count, 6)
    XCTAssertEqual(made.report.notes, ["a prompt is longer than 77 tokens; its end was cut off"])
    request.seed = nil
    let (one, other) = (try await generator.generate(request), try await generator.generate(request))
    XCTAssertNotEqual(one.report.seed, other.report.seed)
    XCTAssertNotEqual(one.latents, other.latents)
  }

  /// The fake encoder gives means of 0 and deviations of 1: the start latent is the first draw times the scaling factor.
  func testAMaskKeepsTheLatentOutsideOfIt() async throws {
    let generator = try await generator()
    var request = starRequest()
    request.startImage = try RGBAImage(width: 64, height: 64, bytes: [UInt8](repeating: 9, count: 4 * 64 * 64))
    // The lower half is made new.
    let bytes = (0..<(4 * 64 * 64)).map { $0 < 2 * 64 * 64 ? UInt8(0) : 255 }
    request.mask = try RGBAImage(width: 64, height: 64, bytes: bytes)
    let made = try await generator.generate(request)
    var rng = NumpyRng(seed: 1)
    let start = rng.normal(4 * 64).map { $0 * 0.5 }
    let kept = start.indices.filter { made.latents[$0] == start[$0] }
    XCTAssertEqual(kept, start.indices.filter { $0 % 64 < 32 })
  }

  func testAUNetInChunksIsOneNetwork() async throws {
    let whole = try await generator().generate(starRequest())
    let networks = FakeNetworks()
    let chunked = try await generator(
      networks, base: fakeBase(models: ["TextEncoder", "UnetChunk1", "UnetChunk2", "VAEDecoder"]))
    let made = try await chunked.generate(starRequest())
    XCTAssertEqual(made.latents, whole.latents)
    XCTAssertEqual(networks.loads.value, ["TextEncoder", "UnetChunk1", "UnetChunk2", "VAEDecoder"])
  }

  func testReducedMemoryLoadsEachModelForItsStage() async throws {
    let networks = FakeNetworks()
    let generator = try await generator(networks) { $0.reducesMemory = true }
    for _ in 0..<2 { _ = try await generator.generate(starRequest(1)) }
    XCTAssertEqual(networks.loads.value, ["TextEncoder", "Unet", "VAEDecoder", "TextEncoder", "Unet", "VAEDecoder"])
    let left = await generator.loadedModels
    XCTAssertEqual(left, [])
  }

  func testNothingRunsOnTheMainThread() async throws {
    let generator = try await generator(FakeNetworks { _ in XCTAssertFalse(isOnMainThread()) })
    try await Task { @MainActor in
      var request = GenerationRequest(prompt: "a star")
      request.steps = 2
      request.onStep = { _ in XCTAssertFalse(isOnMainThread()) }
      _ = try await generator.generate(request)
    }.value
  }
}

private func isOnMainThread() -> Bool { Thread.isMainThread }

private func starRequest(_ steps: Int = 4) -> GenerationRequest {
  var request = GenerationRequest(prompt: "a star")
  request.steps = steps
  request.seed = 1
  return request
}
