import CoreML
import Foundation
import XCTest

/// What goes in and comes out.
final class PredictionTests: XCTestCase {
  private func code(_ error: any Error) -> MLModelError.Code? { (error as? MLModelError)?.code }

  private func zeros(_ shape: [Int], _ dataType: MLMultiArrayDataType = .float32) -> MLMultiArray {
    MLMultiArray(shape: shape, dataType: dataType, strides: Array(steps(shape)))
  }

  private func steps(_ shape: [Int]) -> [Int] {
    shape.indices.map { shape[($0 + 1)...].reduce(1, *) }
  }

  /// From memory: a compiled model cannot list shapes.
  func testEnumeratedShapes() async throws {
    let folder = fixtures.appendingPathComponent(
      "formats/samples/flex_enum_ios17/flex_enum_ios17.mlpackage/Data/com.apple.CoreML")
    let weights = try XCTUnwrap(URL(string: "@model_path/weights/weight.bin"))
    let asset = try MLModelAsset(
      specification: Data(contentsOf: folder.appendingPathComponent("model.mlmodel")),
      blobMapping: [weights: Data(contentsOf: folder.appendingPathComponent("weights/weight.bin"))])
    let model = try await MLModel.load(asset: asset, configuration: MLModelConfiguration())
    try checkEnumeratedShapes(of: model)
  }

  private func checkEnumeratedShapes(of model: MLModel) throws {
    let x = try XCTUnwrap(model.modelDescription.inputDescriptionsByName["x"]?.multiArrayConstraint)
    XCTAssertEqual(x.shapeConstraint.type, .enumerated)
    let shapes = x.shapeConstraint.enumeratedShapes.map { $0.map(\.intValue) }
    XCTAssert(shapes.count > 1, "\(shapes)")
    for shape in shapes {
      let result = try model.prediction(from: features(["x": zeros(shape)]))
      let y = try XCTUnwrap(result.featureValue(for: "y")?.multiArrayValue)
      XCTAssertEqual(y.shape.map(\.intValue), [1, 8] + shape[2...])
    }
    XCTAssertThrowsError(try model.prediction(from: features(["x": zeros([1, 16, 5, 7])]))) {
      XCTAssertEqual(code($0), .featureType, "\($0)")
    }
  }

  func testRangesOfShapes() throws {
    let model = try sample("flex_range_ios17")
    let x = try XCTUnwrap(model.modelDescription.inputDescriptionsByName["x"])
    let constraint = try XCTUnwrap(x.multiArrayConstraint?.shapeConstraint)
    XCTAssertEqual(constraint.type, .range)
    let ranges = constraint.sizeRangeForDimension.map(\.rangeValue)
    XCTAssertEqual(ranges.count, 4)
    XCTAssertEqual(ranges[1], NSRange(location: 16, length: 1))
    let high = ranges[2].location + ranges[2].length
    XCTAssert(x.isAllowedValue(MLFeatureValue(multiArray: zeros([1, 16, high - 1, ranges[3].location]))))
    XCTAssertFalse(x.isAllowedValue(MLFeatureValue(multiArray: zeros([1, 16, high, ranges[3].location]))))
    XCTAssertFalse(x.isAllowedValue(MLFeatureValue(multiArray: zeros([1, 16, 8]))))
    XCTAssertFalse(x.isAllowedValue(MLFeatureValue(string: "x")))
  }

  func testEveryDtypeGoesInAndRoundsOnce() throws {
    let model = try sample("optional_input_ios17")
    let numbers: [Float] = [1, -2, 3, 100]
    for dataType in [MLMultiArrayDataType.float16, .float32, .double, .int32, .int8] {
      let x = zeros([1, 4], dataType)
      for (index, value) in numbers.enumerated() { x[index] = NSNumber(value: value) }
      XCTAssertEqual(try output("y", of: model, ["x": x]), [1.5, -1.5, 3.5, 100.5], "\(dataType)")
    }
    // Doubles are rounded to 32 bits, ties to even; the engine does not round to the 16 bits of the program.
    let large = zeros([1, 4], .double)
    for (index, value) in [16_777_217, 16_777_219, 2049, 0].enumerated() { large[index] = NSNumber(value: value) }
    XCTAssertEqual(
      try output("y", of: model, ["x": large, "b": zeros([1, 4])]), [16_777_216, 16_777_220, 2049, 0])
  }

  func testOutputBackings() throws {
    let model = try sample("optional_input_ios17")
    let inputs = try features(["x": array([1, 4], [1, 2, 3, 4])])
    let options = MLPredictionOptions()
    // With gaps: what lies between the elements stays as it is.
    let backing = MLMultiArray(shape: [1, 4], dataType: .float32, strides: [8, 2])
    backing.withUnsafeMutableBufferPointer(ofType: Float.self) { elements, _ in elements.update(repeating: -1) }
    options.outputBackings = ["y": backing]
    let result = try model.prediction(from: inputs, options: options)
    XCTAssert(result.featureValue(for: "y")?.multiArrayValue === backing)
    let elements = backing.withUnsafeBufferPointer(ofType: Float.self) { Array($0) }
    XCTAssertEqual(elements, [1.5, -1, 2.5, -1, 3.5, -1, 4.5])
    for wrong in [zeros([1, 4], .float16), zeros([4])] as [Any] + ["text"] {
      options.outputBackings = ["y": wrong]
      XCTAssertThrowsError(try model.prediction(from: inputs, options: options)) {
        XCTAssertEqual(code($0), .featureType, "\($0)")
        XCTAssert($0.localizedDescription.contains("`y`"), $0.localizedDescription)
      }
    }
    options.outputBackings = ["z": zeros([1, 4])]
    XCTAssertThrowsError(try model.prediction(from: inputs, options: options)) {
      XCTAssertEqual(code($0), .featureType, "\($0)")
    }
  }

  func testWrongKindsOfValuesAreErrors() throws {
    let model = try sample("optional_input_ios17")
    for wrong in [1, 0.5, "text"] as [Any] {
      let inputs = try MLDictionaryFeatureProvider(dictionary: ["x": wrong])
      XCTAssertThrowsError(try model.prediction(from: inputs)) {
        XCTAssertEqual(code($0), .featureType, "\($0)")
        XCTAssert($0.localizedDescription.contains("`x`"), $0.localizedDescription)
      }
    }
    struct Nothing {}
    XCTAssertThrowsError(try MLDictionaryFeatureProvider(dictionary: ["x": Nothing()])) {
      XCTAssertEqual(code($0), .featureType, "\($0)")
    }
    // What is undefined is as if it were not there.
    let x = MLFeatureValue(multiArray: try array([1, 4], [0, 0, 0, 0]))
    let undefined = MLFeatureValue(undefined: .multiArray)
    let optional = try MLDictionaryFeatureProvider(dictionary: ["x": x, "b": undefined])
    let y = try model.prediction(from: optional).featureValue(for: "y")?.multiArrayValue
    XCTAssertEqual(values(try XCTUnwrap(y)), [0.5, 0.5, 0.5, 0.5])
    XCTAssertThrowsError(try model.prediction(from: MLDictionaryFeatureProvider(dictionary: ["x": undefined])))
  }

  /// There are no pixel buffers here: an image feature is the array of its program, `y = 2 · (x / 255 - 0.5)`.
  func testAnImageFeatureIsAnArray() throws {
    let model = try sample("image_io_ios17")
    let x = try XCTUnwrap(model.modelDescription.inputDescriptionsByName["x"])
    XCTAssertEqual(x.type, .multiArray)
    XCTAssertEqual(x.multiArrayConstraint?.shape, [1, 3, 8, 8])
    let white = try array([1, 3, 8, 8], [Float](repeating: 255, count: 192))
    for value in try output("y", of: model, ["x": white]) { XCTAssertEqual(value, 1, accuracy: 1e-5) }
  }

  func testAProviderOfTheClientsOwn() throws {
    final class Own: MLFeatureProvider {
      let x: MLMultiArray
      init(x: MLMultiArray) { self.x = x }
      var featureNames: Set<String> { ["x", "unknown"] }
      func featureValue(for featureName: String) -> MLFeatureValue? {
        featureName == "x" ? MLFeatureValue(multiArray: x) : nil
      }
    }
    let result = try sample("optional_input_ios17").prediction(from: Own(x: array([1, 4], [1, 2, 3, 4])))
    XCTAssertEqual(result.featureNames, ["y"])
    XCTAssertNil(result.featureValue(for: "x"))
  }

  func testBatches() throws {
    let model = try sample("optional_input_ios17")
    let rows: [[Float]] = [[0, 0, 0, 0], [1, 2, 3, 4], [5, 5, 5, 5]]
    let batch = try MLArrayBatchProvider(dictionary: ["x": rows.map { try array([1, 4], $0) }])
    XCTAssertEqual(batch.count, 3)
    let results = try model.predictions(from: batch, options: MLPredictionOptions())
    for (index, row) in rows.enumerated() {
      let y = try XCTUnwrap(results.features(at: index).featureValue(for: "y")?.multiArrayValue)
      XCTAssertEqual(values(y), row.map { $0 + 0.5 })
    }
    let bad = MLArrayBatchProvider(array: [try features(["x": zeros([1, 4])]), try features([:])])
    XCTAssertThrowsError(try model.predictions(fromBatch: bad)) {
      XCTAssertEqual(code($0), .featureType, "\($0)")
      XCTAssert($0.localizedDescription.contains("run 1 of 2"), $0.localizedDescription)
    }
    XCTAssertThrowsError(try MLArrayBatchProvider(dictionary: ["x": [1, 2], "y": [1]])) {
      XCTAssertEqual(code($0), .generic, "\($0)")
    }
    XCTAssertEqual(try model.predictions(fromBatch: MLArrayBatchProvider(array: [])).count, 0)
  }

  func testACancelledTaskEndsThePrediction() async throws {
    let shared = Unchecked(
      value: (try sample("base_fp16_ios16"), try features(["x": zeros([1, 16, 8, 8])])))
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      _ = try await shared.value.0.prediction(from: shared.value.1, options: MLPredictionOptions())
    }
    do {
      try await task.value
      XCTFail("predicted")
    } catch {
      XCTAssertEqual(code(error), .predictionCancelled, "\(error)")
    }
  }
}
