import CoreML
import Foundation
import XCTest

/// Feature values, errors and numbers of enums.
final class ValueTests: XCTestCase {
  func testKindsOfValues() throws {
    XCTAssertEqual(MLFeatureValue(int64: 3).int64Value, 3)
    XCTAssertEqual(MLFeatureValue(double: 0.5).doubleValue, 0.5)
    XCTAssertEqual(MLFeatureValue(string: "a").stringValue, "a")
    XCTAssertEqual(try MLFeatureValue(dictionary: ["a": 1]).dictionaryValue, ["a": 1])
    XCTAssertEqual(MLFeatureValue(int64: 3).type, .int64)
    XCTAssertNil(MLFeatureValue(int64: 3).multiArrayValue)
    XCTAssert(MLFeatureValue(undefined: .string).isUndefined)
    XCTAssertEqual(MLFeatureValue(undefined: .string).type, .string)
    XCTAssert(MLFeatureValue(int64: 3).isEqual(to: MLFeatureValue(int64: 3)))
    XCTAssertFalse(MLFeatureValue(int64: 3).isEqual(to: MLFeatureValue(double: 3)))
    let a = MLFeatureValue(multiArray: try array([2], [1, 2]))
    XCTAssert(a.isEqual(to: MLFeatureValue(multiArray: try array([2], [1, 2]))))
    XCTAssertFalse(a.isEqual(to: MLFeatureValue(multiArray: try array([2], [1, 3]))))
    XCTAssertFalse(a.isEqual(to: MLFeatureValue(multiArray: try array([2, 1], [1, 2]))))
    let mixed: [AnyHashable: NSNumber] = ["a": 1, 2: 2]
    XCTAssertThrowsError(try MLFeatureValue(dictionary: mixed)) {
      XCTAssertEqual(($0 as? MLModelError)?.code, .featureType)
    }
  }

  func testDictionariesMakeValues() throws {
    let provider = try MLDictionaryFeatureProvider(dictionary: [
      "whole": 3, "half": 0.5, "text": "a", "array": array([1], [2]), "value": MLFeatureValue(int64: 4),
    ])
    XCTAssertEqual(provider.featureNames, ["whole", "half", "text", "array", "value"])
    XCTAssertEqual(provider["whole"]?.int64Value, 3)
    XCTAssertEqual(provider["half"]?.doubleValue, 0.5)
    XCTAssertEqual(provider.featureValue(for: "text")?.stringValue, "a")
    XCTAssertEqual(provider.dictionary["array"]?.multiArrayValue?[0], 2)
    XCTAssertEqual(provider["value"]?.int64Value, 4)
    XCTAssertNil(provider["nothing"])
  }

  func testSendableValuesGoToOtherTasks() async throws {
    let source = try array([2], [1, 2])
    let value = try XCTUnwrap(MLSendableFeatureValue(MLFeatureValue(multiArray: source)))
    source[0] = 9
    let scalars = await Task.detached { value.shapedArrayValue(of: Float.self)?.scalars }.value
    XCTAssertEqual(scalars, [1, 2])
    XCTAssert(value.isShapedArray)
    XCTAssertEqual(MLFeatureValue(value).multiArrayValue.map { values($0) }, [1, 2])
    XCTAssertEqual(MLSendableFeatureValue(3).integerValue, 3)
    XCTAssertEqual(MLSendableFeatureValue(0.5).doubleValue, 0.5)
    XCTAssertNil(MLSendableFeatureValue(0.5).floatValue)
    XCTAssertEqual(MLSendableFeatureValue(Float(0.5)).floatValue, 0.5)
    XCTAssertNil(MLSendableFeatureValue(Float(0.5)).doubleValue)
    XCTAssertEqual(MLSendableFeatureValue(MLFeatureValue(double: 0.5))?.doubleValue, 0.5)
    XCTAssert(MLSendableFeatureValue(Float(0.5)).isScalar)
    XCTAssertFalse(MLSendableFeatureValue("a").isScalar)
    XCTAssertFalse(MLSendableFeatureValue(undefined: .double).isScalar)
    XCTAssertEqual(MLSendableFeatureValue(Float16(0.5)).float16Value, 0.5)
    XCTAssertEqual(MLSendableFeatureValue("a").stringValue, "a")
    XCTAssertEqual(MLSendableFeatureValue(["a", "b"]).stringArrayValue, ["a", "b"])
    XCTAssertEqual(MLSendableFeatureValue(["a": 1]).stringDictionaryValue, ["a": 1])
    XCTAssertEqual(MLSendableFeatureValue([1: 0.5]).integerDictionaryValue, [1: 0.5])
    XCTAssertEqual(MLSendableFeatureValue(3), MLSendableFeatureValue(3))
    XCTAssertNotEqual(MLSendableFeatureValue(3), MLSendableFeatureValue(4))
    XCTAssert(MLSendableFeatureValue(undefined: .double).isUndefined)
  }

  func testErrorsAreCaughtByCode() {
    func fail(_ code: MLModelError.Code) throws { throw MLModelError(code, userInfo: ["key": "value"]) }
    do {
      try fail(.io)
    } catch MLModelError.featureType {
      XCTFail("another code")
    } catch MLModelError.io {
    } catch {
      XCTFail("\(error)")
    }
    XCTAssertThrowsError(try fail(.predictionCancelled)) { error in
      let bridged = error as NSError
      XCTAssertEqual(bridged.domain, MLModelErrorDomain)
      XCTAssertEqual(bridged.code, 11)
      XCTAssertEqual(bridged.userInfo["key"] as? String, "value")
    }
    XCTAssertEqual(MLModelError(.io), MLModelError(.io))
    XCTAssertNotEqual(MLModelError(.io), MLModelError(.generic))
  }

  func testMetadataAndHints() throws {
    var hints = MLOptimizationHints()
    XCTAssertEqual(hints, MLOptimizationHints())
    hints.specializationStrategy = .fastPrediction
    XCTAssertNotEqual(hints, MLOptimizationHints())
    let configuration = MLModelConfiguration()
    configuration.optimizationHints = hints
    let copy = try XCTUnwrap(configuration.copy() as? MLModelConfiguration)
    configuration.optimizationHints.specializationStrategy = .default
    XCTAssertEqual(copy.optimizationHints.specializationStrategy, .fastPrediction)
    XCTAssertEqual(MLParameterKey.weights.scoped(to: "layer").scope, "layer")
    XCTAssertEqual(MLParameterKey.weights, MLParameterKey.weights)
    XCTAssertNotEqual(MLParameterKey.weights, MLParameterKey.weights.scoped(to: "layer"))
  }

  /// Raw values of every enum case in the table of Apple's declarations.
  func testNumbersOfEnums() throws {
    let table = fixtures.appendingPathComponent("../crates/runtime-swift/api/apple.tsv")
    let names: [String: (Int) -> String?] = [
      "MLComputeUnits": { MLComputeUnits(rawValue: $0).map { "\($0)" } },
      "MLFeatureType": { MLFeatureType(rawValue: $0).map { "\($0)" } },
      "MLModelError.Code": { MLModelError.Code(rawValue: $0).map { "\($0)" } },
      "MLMultiArrayDataType": { MLMultiArrayDataType(rawValue: $0).map { "\($0)" } },
      "MLMultiArrayShapeConstraintType": { MLMultiArrayShapeConstraintType(rawValue: $0).map { "\($0)" } },
      "MLOptimizationHints.ReshapeFrequency": {
        MLOptimizationHints.ReshapeFrequency(rawValue: $0).map { "\($0)" }
      },
      "MLOptimizationHints.SpecializationStrategy": {
        MLOptimizationHints.SpecializationStrategy(rawValue: $0).map { "\($0)" }
      },
    ]
    var count = 0
    for line in try String(contentsOf: table, encoding: .utf8).split(separator: "\n").dropFirst() {
      let cells = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      guard cells[1] == "enum case", let value = Int(cells[7]) else { continue }
      let parts = cells[2].split(separator: ".").map(String.init)
      let owner = parts.dropLast().joined(separator: ".")
      let name = try XCTUnwrap(names[owner], "no check for \(owner)")
      XCTAssertEqual(name(value), parts.last, cells[2])
      count += 1
    }
    XCTAssertEqual(count, 36)
  }
}
