import CoreML
import Foundation
import XCTest

/// Compiles a sample of `fixtures/formats/samples` and loads it.
func sample(_ name: String, function: String? = nil) throws -> MLModel {
  let package = fixtures.appendingPathComponent("formats/samples/\(name)/\(name).mlpackage")
  let compiled = try MLModel.compileModel(at: package)
  let configuration = MLModelConfiguration()
  configuration.functionName = function
  return try MLModel(contentsOf: compiled, configuration: configuration)
}

final class ModelTests: XCTestCase {
  func testDescription() throws {
    let model = try sample("base_fp16_ios16")
    print(model.modelDescription.inputDescriptionsByName.mapValues { $0.multiArrayConstraint?.shape ?? [] })
    print(model.modelDescription.metadata)
  }
}
