import CoreML
import Foundation
import XCTest

/// `MLModelStructure` and `MLComputePlan`.
final class StructureTests: XCTestCase {
  private func package(_ name: String) -> URL {
    fixtures.appendingPathComponent("formats/samples/\(name)/\(name).mlpackage")
  }

  private func compiled(_ name: String) throws -> URL {
    let url = try MLModel.compileModel(at: package(name))
    addTeardownBlock { try? FileManager.default.removeItem(at: url.deletingLastPathComponent()) }
    return url
  }

  private func program(_ structure: MLModelStructure) throws -> MLModelStructure.Program {
    guard case .program(let program) = structure else { throw MLModelError(.generic) }
    return program
  }

  func testOperationsInOrder() async throws {
    let structure = try await MLModelStructure.load(contentsOf: compiled("stateful_ios18"))
    let main = try XCTUnwrap(program(structure).functions["main"])
    XCTAssertEqual(Set(main.inputs.map(\.name)), ["acc", "x"])
    XCTAssertEqual(main.block.outputNames, ["y"])
    let operations = main.block.operations
    XCTAssertEqual(
      operations.map(\.operatorName), ["read_state", "add", "write_state", "read_state", "const", "mul"])
    XCTAssertEqual(operations[1].outputs.map(\.name), ["acc_new"])
    XCTAssertEqual(Set(operations[1].inputs.keys), ["x", "y"])
    guard case .name(let name)? = operations[1].inputs["y"]?.bindings.first else { return XCTFail("no name") }
    XCTAssertEqual(name, "x")
    XCTAssert(operations.allSatisfy { $0.blocks.isEmpty })
  }

  func testFunctionsOfAnAsset() async throws {
    let asset = try MLModelAsset(url: compiled("multifunction_ios18"))
    let functions = try program(await MLModelStructure.load(asset: asset)).functions
    XCTAssertEqual(Set(functions.keys), ["alpha", "beta"])
    let inner = package("optional_input_ios17").appendingPathComponent("Data/com.apple.CoreML/model.mlmodel")
    let memory = try MLModelAsset(specification: Data(contentsOf: inner))
    let main = try program(await MLModelStructure.load(asset: memory)).functions["main"]
    XCTAssertEqual(main?.block.operations.filter { $0.operatorName == "add" }.count, 1)
  }

  func testThePlanIsTheCpu() async throws {
    let configuration = MLModelConfiguration()
    let url = try compiled("optional_input_ios17")
    let plan = try await MLComputePlan.load(contentsOf: url, configuration: configuration)
    let operations = try XCTUnwrap(program(plan.modelStructure).functions["main"]).block.operations
    for operation in operations {
      let usage = plan.deviceUsage(for: operation)
      XCTAssertNil(plan.estimatedCost(of: operation))
      if operation.operatorName == "const" {
        XCTAssertNil(usage)
      } else {
        XCTAssertEqual(usage?.preferred, MLModel.availableComputeDevices[0], operation.operatorName)
        XCTAssertEqual(usage?.supported, MLModel.availableComputeDevices, operation.operatorName)
      }
    }
    XCTAssert(operations.contains { $0.operatorName == "add" })
    configuration.functionName = "nothing"
    do {
      _ = try await MLComputePlan.load(contentsOf: url, configuration: configuration)
      XCTFail("planned")
    } catch {
      XCTAssert(error.localizedDescription.contains("nothing"), error.localizedDescription)
    }
  }

  func testWhatIsNoCompiledModelHasNoStructure() async throws {
    for url in [package("base_fp16_ios16"), package("nothing")] {
      do {
        _ = try await MLModelStructure.load(contentsOf: url)
        XCTFail("read")
      } catch {
        XCTAssertEqual((error as? MLModelError)?.code, .io, "\(error)")
      }
    }
  }
}
