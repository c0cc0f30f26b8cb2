@preconcurrency import CoreML
import GessoPipeline
import XCTest

@testable import GessoRuntime

final class PrewarmTests: XCTestCase {
  private func generator() async throws -> ImageGenerator {
    let generator = ImageGenerator(options: calmOptions(), manager: sharedManager)
    try await generator.loadBaseModel(modelURL: shapesBase)
    return generator
  }

  func testModelsAreLoadedAndTested() async throws {
    let generator = try await generator()
    let seen = Guarded<[String]>([])
    let report = try await generator.prewarm { step in
      seen.change { $0.append("\(step.done)/\(step.total) \(step.work.rawValue) \(step.model)") }
    }
    XCTAssertEqual(
      seen.value,
      [
        "0/5 loading TextEncoder", "1/5 loading Unet", "2/5 loading VAEDecoder", "3/5 selfTest TextEncoder",
        "4/5 selfTest Unet", "5/5 selfTest VAEDecoder",
      ])
    XCTAssertEqual(Set(report.loadSeconds.keys), ["TextEncoder", "Unet", "VAEDecoder"])
    for model in ["TextEncoder", "Unet"] {
      let decibels = try XCTUnwrap(report.decibels[model])
      print("self-test of \(model): \(decibels) dB")
      XCTAssertGreaterThan(decibels, 80)
    }
    XCTAssertEqual(report.notes, [])
    let adaptable = try await generator.prewarm(adaptable: true)
    XCTAssertEqual(Set(adaptable.decibels.keys), ["TextEncoder", "Unet"])
    let loaded = await generator.loadedModels
    XCTAssertTrue(loaded.contains("UnetAdaptable"))
  }

  func testAWrongModelFailsTheSelfTest() async throws {
    let options = calmOptions()
    let networks = FakeNetworks()
    let generator = ImageGenerator(options: options, manager: sharedManager, loader: networks.loader)
    let folder = try fakeBase(size: ImageSize(width: 128, height: 128))
    try FileManager.default.copyItem(
      at: shapesBase.appendingPathComponent("selftest.safetensors"),
      to: folder.appendingPathComponent("selftest.safetensors"))
    try await generator.loadBaseModel(modelURL: folder)
    do {
      _ = try await generator.prewarm()
      XCTFail("the fake passed")
    } catch {
      guard case GenerationError.selfTest(model: "TextEncoder", _, 35) = error else { return XCTFail("\(error)") }
    }
    try Data("short".utf8).write(to: folder.appendingPathComponent("selftest.safetensors"))
    do {
      _ = try await generator.prewarm()
      XCTFail("a damaged file passed")
    } catch { XCTAssertTrue("\(error)".contains("`selftest.safetensors`: it has 5 bytes"), "\(error)") }
    let report = try await generator.prewarm(selfTest: false)
    XCTAssertEqual(report.decibels, [:])
  }

  func testPrewarmCanBeCancelled() async throws {
    let generator = try await generator()
    let begun = Guarded(false)
    let running = Task {
      // The task that is cancelled is known before its first report.
      while !begun.value { await Task.yield() }
      return try await generator.prewarm()
    }
    running.cancel()
    begun.change { $0 = true }
    do {
      _ = try await running.value
      XCTFail("it was not cancelled")
    } catch { XCTAssertTrue(error is CancellationError, "\(error)") }
    let loaded = await generator.loadedModels
    XCTAssertEqual(loaded, [])
    _ = try await generator.prewarm(selfTest: false)
  }

  func testUnexpectedProcessorsAreNamed() {
    typealias Costs = [ProcessorCheck.Processor: Double]
    let right: Costs = [.neuralEngine: 0.9, .cpu: 0.1]
    XCTAssertNil(ProcessorCheck.note(model: "Unet", costs: right, wanted: .cpuAndNeuralEngine))
    XCTAssertEqual(
      ProcessorCheck.note(model: "Unet", costs: right, wanted: .cpuAndGPU),
      "`Unet` was meant for the GPU, but its work lies elsewhere: CPU 10 %, GPU 0 %, Neural Engine 90 %")
    XCTAssertNil(ProcessorCheck.note(model: "Unet", costs: right, wanted: .all))
    XCTAssertNil(ProcessorCheck.note(model: "Unet", costs: [:], wanted: .cpuAndGPU))
    XCTAssertEqual(BaseDescription.Attention.splitEinsum.computeUnits, .cpuAndNeuralEngine)
    XCTAssertEqual(BaseDescription.Attention.original.computeUnits, .cpuAndGPU)
  }
}
