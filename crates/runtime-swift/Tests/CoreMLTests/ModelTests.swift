import CoreML
import Foundation
import XCTest

/// Compiles a sample of `fixtures/formats/samples` and loads it.
func sample(_ name: String, function: String? = nil) throws -> MLModel {
  let package = fixtures.appendingPathComponent("formats/samples/\(name)/\(name).mlpackage")
  let compiled = try MLModel.compileModel(at: package)
  defer { try? FileManager.default.removeItem(at: compiled.deletingLastPathComponent()) }
  let configuration = MLModelConfiguration()
  configuration.functionName = function
  return try MLModel(contentsOf: compiled, configuration: configuration)
}

/// A float array of the shape with these values, row-major.
func array(_ shape: [Int], _ values: [Float]) throws -> MLMultiArray {
  let array = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: .float32)
  for (index, value) in values.enumerated() { array[index] = NSNumber(value: value) }
  return array
}

/// The values of an array, row-major.
func values(_ array: MLMultiArray) -> [Float] { (0..<array.count).map { array[$0].floatValue } }

/// Features from arrays.
func features(_ arrays: [String: MLMultiArray]) throws -> MLDictionaryFeatureProvider {
  try MLDictionaryFeatureProvider(dictionary: arrays)
}

/// The output `name` of one run.
func output(_ name: String, of model: MLModel, _ inputs: [String: MLMultiArray]) throws -> [Float] {
  let result = try model.prediction(from: features(inputs))
  return values(try XCTUnwrap(result.featureValue(for: name)?.multiArrayValue))
}

final class ModelTests: XCTestCase {
  /// An input of 1×16×8×8.
  private func picture() throws -> MLMultiArray {
    try array([1, 16, 8, 8], (0..<1024).map { Float($0 % 37) / 37 - 0.5 })
  }

  func testDescriptionSaysWhatTheModelTakes() throws {
    let description = try sample("base_fp16_ios16").modelDescription
    XCTAssertEqual(Array(description.inputDescriptionsByName.keys), ["x"])
    let x = try XCTUnwrap(description.inputDescriptionsByName["x"])
    XCTAssertEqual(x.type, .multiArray)
    XCTAssertFalse(x.isOptional)
    XCTAssertEqual(x.multiArrayConstraint?.shape, [1, 16, 8, 8])
    XCTAssertEqual(x.multiArrayConstraint?.dataType, .float32)
    XCTAssertEqual(Array(description.outputDescriptionsByName.keys), ["fc"])
    let made = description.metadata[.creatorDefinedKey] as? [String: String]
    XCTAssertEqual(made?["com.github.apple.coremltools.version"], "9.0")
  }

  func testOptionalInputAndCastsAtTheBorder() throws {
    let model = try sample("optional_input_ios17")
    XCTAssertEqual(model.modelDescription.inputDescriptionsByName["b"]?.isOptional, true)
    let x: [Float] = [1, -2, 3, 0.5]
    let both = ["x": try array([1, 4], x), "b": try array([1, 4], [1, 1, 1, 1])]
    XCTAssertEqual(try output("y", of: model, both), [2, -1, 4, 1.5])
    let half = try MLMultiArray(shape: [1, 4], dataType: .float16)
    for (index, value) in x.enumerated() { half[index] = NSNumber(value: value) }
    let mixed = ["x": half, "b": try array([1, 4], [1, 1, 1, 1])]
    XCTAssertEqual(try output("y", of: model, mixed), [2, -1, 4, 1.5])
    XCTAssertEqual(try output("y", of: model, ["x": array([1, 4], x)]).count, 4)
  }

  func testStridesAreFollowed() throws {
    let model = try sample("optional_input_ios17")
    let spread = MLMultiArray(shape: [1, 4], dataType: .float32, strides: [8, 2])
    for (index, value) in [Float](arrayLiteral: 1, -2, 3, 0.5).enumerated() {
      spread[[0, NSNumber(value: index)]] = NSNumber(value: value)
    }
    let one = try array([1, 4], [1, 1, 1, 1])
    XCTAssertEqual(try output("y", of: model, ["x": spread, "b": one]), [2, -1, 4, 1.5])
  }

  func testFunctionsAreChosenByName() throws {
    let inputs = ["x": try picture()]
    let standard = try output("fc", of: sample("multifunction_ios18"), inputs)
    let alpha = try output("fc", of: sample("multifunction_ios18", function: "alpha"), inputs)
    let beta = try output("fc", of: sample("multifunction_ios18", function: "beta"), inputs)
    // The sample's two functions hold the same layers over the same weights.
    XCTAssertEqual(standard, alpha)
    XCTAssertEqual(alpha, beta)
    XCTAssertThrowsError(try sample("multifunction_ios18", function: "gamma")) { error in
      XCTAssert(error.localizedDescription.contains("gamma"), error.localizedDescription)
    }
  }

  func testBatchesAndThreadsGiveTheSingleAnswers() async throws {
    let model = try sample("base_fp16_ios16")
    let inputs = ["x": try picture()]
    let want = try output("fc", of: model, inputs)
    XCTAssert(want.contains { $0 != 0 })
    let batch = MLArrayBatchProvider(array: [try features(inputs), try features(inputs)])
    let results = try model.predictions(fromBatch: batch)
    XCTAssertEqual(results.count, 2)
    for index in 0..<results.count {
      let got = results.features(at: index).featureValue(for: "fc")?.multiArrayValue
      XCTAssertEqual(values(try XCTUnwrap(got)), want)
    }
    let shared = Unchecked(value: (model, try features(inputs)))
    try await withThrowingTaskGroup(of: [Float].self) { group in
      for _ in 0..<16 {
        group.addTask {
          let result = try await shared.value.0.prediction(from: shared.value.1)
          return values(try XCTUnwrap(result.featureValue(for: "fc")?.multiArrayValue))
        }
      }
      for try await got in group { XCTAssertEqual(got, want) }
    }
  }

  func testWrongInputsNameTheFeature() throws {
    let model = try sample("base_fp16_ios16")
    let wrong: [[String: MLMultiArray]] = [
      [:], ["y": try picture()], ["x": try array([1, 16, 8, 4], [Float](repeating: 0, count: 512))],
    ]
    for inputs in wrong {
      XCTAssertThrowsError(try model.prediction(from: features(inputs))) { error in
        XCTAssertEqual((error as? MLModelError)?.code, .featureType, "\(error)")
        XCTAssert(error.localizedDescription.contains("`x`"), error.localizedDescription)
      }
    }
  }

  func testWhatIsNoCompiledModelDoesNotLoad() throws {
    let package = fixtures.appendingPathComponent("formats/samples/base_fp16_ios16/base_fp16_ios16.mlpackage")
    for url in [package, package.appendingPathComponent("nothing")] {
      XCTAssertThrowsError(try MLModel(contentsOf: url)) { error in
        XCTAssertEqual((error as? MLModelError)?.code, .io, "\(error)")
      }
    }
  }
}

/// Carries a value across tasks; the tests only read it.
struct Unchecked<Value>: @unchecked Sendable { let value: Value }
