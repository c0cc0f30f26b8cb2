import CoreML
import Foundation
import XCTest

/// The sample `stateful_ios18`: `acc += x`, and `y = 2 · acc`, eight 16-bit floats.
final class StateTests: XCTestCase {
  private let width = 8

  private func ones() throws -> MLDictionaryFeatureProvider {
    try features(["x": array([1, width], [Float](repeating: 1, count: width))])
  }

  private func y(_ result: any MLFeatureProvider) throws -> [Float] {
    values(try XCTUnwrap(result.featureValue(for: "y")?.multiArrayValue))
  }

  private func all(_ value: Float) -> [Float] { [Float](repeating: value, count: width) }

  func testDescriptionNamesTheState() throws {
    let states = try sample("stateful_ios18").modelDescription.stateDescriptionsByName
    XCTAssertEqual(Array(states.keys), ["acc"])
    let acc = try XCTUnwrap(states["acc"])
    XCTAssertEqual(acc.type, .state)
    XCTAssertEqual(acc.stateConstraint?.bufferShape, [1, width])
    XCTAssertEqual(acc.stateConstraint?.dataType, .float16)
    XCTAssertNil(acc.multiArrayConstraint)
  }

  func testEachStateCountsForItself() throws {
    let model = try sample("stateful_ios18")
    let (first, second) = (model.makeState(), model.makeState())
    for turn in 1...3 {
      XCTAssertEqual(try y(model.prediction(from: ones(), using: first)), all(2 * Float(turn)))
    }
    XCTAssertEqual(try y(model.prediction(from: ones(), using: second)), all(2))
    let options = MLPredictionOptions()
    let backing = try MLMultiArray(shape: [1, 8], dataType: .float16)
    options.outputBackings = ["y": backing]
    XCTAssertEqual(try y(model.prediction(from: ones(), using: first, options: options)), all(8))
    XCTAssertEqual(values(backing), all(8))
  }

  func testBuffersAreReadAndWritten() throws {
    let model = try sample("stateful_ios18")
    let state = model.makeState()
    XCTAssertEqual(state.withMultiArray(for: "acc") { values($0) }, all(0))
    state.withMultiArray(for: "acc") { acc in
      XCTAssertEqual(acc.shape, [1, 8])
      XCTAssertEqual(acc.dataType, .float16)
      acc[3] = 10
    }
    var want = all(2)
    want[3] = 22
    XCTAssertEqual(try y(model.prediction(from: ones(), using: state)), want)
    XCTAssertEqual(state.withMultiArray(for: "acc") { $0[3].floatValue }, 11)
  }

  func testABodyThatThrowsGivesTheBufferBack() throws {
    struct Fault: Error {}
    let state = try sample("stateful_ios18").makeState()
    XCTAssertThrowsError(try state.withMultiArray(for: "acc") { _ in throw Fault() }) { XCTAssert($0 is Fault) }
    XCTAssertEqual(state.withMultiArray(for: "acc") { $0.count }, width)
  }

  func testAStateWhoseBufferIsLentDoesNotPredict() throws {
    let model = try sample("stateful_ios18")
    let state = model.makeState()
    let input = try ones()
    try state.withMultiArray(for: "acc") { _ in
      XCTAssertThrowsError(try model.prediction(from: input, using: state)) { error in
        XCTAssertEqual((error as? MLModelError)?.code, .generic, "\(error)")
      }
    }
    XCTAssertEqual(try y(model.prediction(from: input, using: state)), all(2))
  }

  func testTheWrongStateAndNoneAreErrors() throws {
    let model = try sample("stateful_ios18")
    let other = try sample("optional_input_ios17").makeState()
    XCTAssertThrowsError(try model.prediction(from: ones(), using: other)) { error in
      XCTAssertEqual((error as? MLModelError)?.code, .featureType, "\(error)")
      XCTAssert(error.localizedDescription.contains("acc"), error.localizedDescription)
    }
    XCTAssertThrowsError(try model.prediction(from: ones())) { error in
      XCTAssertEqual((error as? MLModelError)?.code, .featureType, "\(error)")
      XCTAssert(error.localizedDescription.contains("acc"), error.localizedDescription)
    }
  }

  func testAModelWithoutStatesTakesAnEmptyOne() throws {
    let model = try sample("optional_input_ios17")
    let inputs = try features(["x": array([1, 4], [1, 2, 3, 4])])
    let plain = try y(model.prediction(from: inputs))
    XCTAssertEqual(try y(model.prediction(from: inputs, using: model.makeState())), plain)
  }

  func testTasksOnOneStateComeOneAfterTheOther() async throws {
    let model = try sample("stateful_ios18")
    let state = model.makeState()
    let shared = Unchecked(value: (model, try ones()))
    var seen: [Float] = []
    try await withThrowingTaskGroup(of: Float.self) { group in
      for _ in 0..<16 {
        group.addTask {
          let result = try await shared.value.0.prediction(from: shared.value.1, using: state)
          return try XCTUnwrap(result.featureValue(for: "y")?.multiArrayValue)[0].floatValue
        }
      }
      for try await value in group { seen.append(value) }
    }
    XCTAssertEqual(seen.sorted(), (1...16).map { 2 * Float($0) })
  }
}
