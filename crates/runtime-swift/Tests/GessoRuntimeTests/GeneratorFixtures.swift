@preconcurrency import CoreML
import Foundation
import GessoPipeline
import XCTest

@testable import GessoRuntime

/// A row of `fixtures/swift/pictures.json`: arguments of `gesso generate` and the picture that it made of them.
struct StoredPicture: Decodable {
  let file: String
  let prompt: String
  let negative: String
  let steps: Int
  let scheduler: String
  let seed: UInt64
  let rng: String
  let guidance: Float
  let adapters: [Adapter]

  struct Adapter: Decodable {
    let name: String
    let strength: Double

    init(from decoder: any Decoder) throws {
      var values = try decoder.unkeyedContainer()
      name = try values.decode(String.self)
      strength = try values.decode(Double.self)
    }
  }

  static func all() throws -> [StoredPicture] {
    let data = try Data(contentsOf: fixtures.appendingPathComponent("swift/pictures.json"))
    return try JSONDecoder().decode([StoredPicture].self, from: data)
  }

  func image() throws -> RGBAImage {
    try PNG.image(Data(contentsOf: fixtures.appendingPathComponent("swift/\(file)")))
  }

  var request: GenerationRequest {
    get throws {
      var request = GenerationRequest(prompt: prompt)
      request.negativePrompt = negative
      request.steps = steps
      request.scheduler = try XCTUnwrap(SchedulerKind(rawValue: scheduler))
      request.seed = seed
      request.rng = try XCTUnwrap(RngKind(rawValue: rng))
      request.guidance = guidance
      request.adapters = adapters.map { AdapterUse(asset($0.name), strength: $0.strength) }
      for style in ["sketch", "watercolor"] { request.namedAdapters[style] = asset(style) }
      return request
    }
  }
}

/// An adapter of the shapes base.
func asset(_ style: String) -> URL { fixtures.appendingPathComponent("swift/\(style).mlmodelcassets") }

/// The shapes base: packages that have to be compiled.
let shapesBase = fixtures.appendingPathComponent("swift/base", isDirectory: true)

/// One cache for all tests of pictures, so that the base is compiled once.
let sharedManager: ModelManager = {
  let root = FileManager.default.temporaryDirectory.appendingPathComponent("GeneratorTests-\(UUID().uuidString)")
  return ModelManager(options: ModelManager.Options(root: root))
}()

/// Options under which nothing of this machine ends a run.
func calmOptions() -> ImageGenerator.Options {
  var options = ImageGenerator.Options()
  options.conditions = SetConditions()
  return options
}

/// Conditions that a test sets.
final class SetConditions: DeviceConditionsSource {
  private let state = Guarded(DeviceConditions())
  private let handlers = Guarded<[@Sendable (DeviceConditions) -> Void]>([])

  var current: DeviceConditions { state.value }

  func observe(_ handler: @escaping @Sendable (DeviceConditions) -> Void) -> AnyObject {
    handlers.change { $0.append(handler) }
    return self
  }

  func set(_ change: (inout DeviceConditions) -> Void) {
    let now = state.change {
      change(&$0)
      return $0
    }
    for handler in handlers.value { handler(now) }
  }
}

/// The largest difference of a channel of two pictures; nil when they differ in size.
func levels(_ one: RGBAImage, _ other: RGBAImage) -> Int? {
  guard one.width == other.width, one.height == other.height else { return nil }
  return zip(one.bytes, other.bytes).map { abs(Int($0) - Int($1)) }.max()
}

/// Checks that a call throws an error, and which.
func assertThrows<Value, E: Error & Equatable>(
  _ want: E, file: StaticString = #filePath, line: UInt = #line, _ body: () async throws -> Value
) async {
  do {
    _ = try await body()
    XCTFail("no error, expected \(want)", file: file, line: line)
  } catch {
    XCTAssertEqual(error as? E, want, "\(error)", file: file, line: line)
  }
}
