import CoreML
import Foundation
import XCTest

/// Compiling, loading and assets.
final class LoadTests: XCTestCase {
  private func package(_ name: String) -> URL {
    fixtures.appendingPathComponent("formats/samples/\(name)/\(name).mlpackage")
  }

  /// A compiled sample in a folder that goes after the test.
  private func compiled(_ name: String) throws -> URL {
    let url = try compileNow(package(name))
    addTeardownBlock { try? FileManager.default.removeItem(at: url.deletingLastPathComponent()) }
    return url
  }

  /// The synchronous form, for asynchronous tests too.
  private func compileNow(_ url: URL) throws -> URL { try MLModel.compileModel(at: url) }

  private let ones = [Float](repeating: 1, count: 4)

  /// `y = x + b`, where `b` is 0.5 unless given.
  private func sum(_ model: MLModel) throws -> [Float] {
    try output("y", of: model, ["x": array([1, 4], ones)])
  }

  private func code(_ error: any Error) -> MLModelError.Code? { (error as? MLModelError)?.code }

  func testEachCompilationIsAFolderOfItsOwnAmongTheTemporaryOnes() async throws {
    let first = try compiled("optional_input_ios17")
    let second = try await MLModel.compileModel(at: package("optional_input_ios17"))
    defer { try? FileManager.default.removeItem(at: second.deletingLastPathComponent()) }
    XCTAssertNotEqual(first, second)
    let temporary = FileManager.default.temporaryDirectory.standardizedFileURL.path
    for url in [first, second] {
      XCTAssert(url.path.hasPrefix(temporary), url.path)
      XCTAssertEqual(url.lastPathComponent, "optional_input_ios17.mlmodelc")
      XCTAssert(FileManager.default.fileExists(atPath: url.appendingPathComponent("model.mil").path))
    }
    // The caller moves it to where it stays.
    let place = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).mlmodelc")
    defer { try? FileManager.default.removeItem(at: place) }
    try FileManager.default.moveItem(at: first, to: place)
    XCTAssertEqual(try sum(MLModel(contentsOf: place)), [1.5, 1.5, 1.5, 1.5])
  }

  func testCompilingWithAHandler() throws {
    let done = expectation(description: "compiled")
    MLModel.compileModel(at: package("base_fp16_ios16")) { result in
      let url = try? result.get()
      XCTAssertEqual(url?.lastPathComponent, "base_fp16_ios16.mlmodelc")
      if let url { try? FileManager.default.removeItem(at: url.deletingLastPathComponent()) }
      done.fulfill()
    }
    wait(for: [done], timeout: 60)
  }

  func testAModelFileIsCompiled() throws {
    let file = package("optional_input_ios17").appendingPathComponent("Data/com.apple.CoreML/model.mlmodel")
    let url = try compileNow(file)
    let folder = url.deletingLastPathComponent()
    defer { try? FileManager.default.removeItem(at: folder) }
    XCTAssertEqual(try FileManager.default.contentsOfDirectory(atPath: folder.path), ["model.mlmodelc"])
    XCTAssertEqual(try sum(MLModel(contentsOf: url)), [1.5, 1.5, 1.5, 1.5])
    let text = fixtures.appendingPathComponent("formats/samples/optional_input_ios17/spec.txtpb")
    XCTAssertThrowsError(try compileNow(text)) { XCTAssertEqual(code($0), .io, "\($0)") }
  }

  func testWhatCannotBeCompiledIsAnIoError() async throws {
    let nothing = package("nothing")
    XCTAssertThrowsError(try compileNow(nothing)) { XCTAssertEqual(code($0), .io, "\($0)") }
    do {
      _ = try await MLModel.compileModel(at: nothing)
      XCTFail("compiled")
    } catch {
      XCTAssertEqual(code(error), .io, "\(error)")
      XCTAssert(error.localizedDescription.contains("nothing"), error.localizedDescription)
    }
    // A folder that is no package leaves nothing behind.
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID().uuidString).mlpackage")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let before = try leftovers()
    XCTAssertThrowsError(try compileNow(folder)) { XCTAssertEqual(code($0), .io, "\($0)") }
    XCTAssertEqual(try leftovers(), before)
  }

  private func leftovers() throws -> Set<String> {
    let names = try FileManager.default.contentsOfDirectory(atPath: FileManager.default.temporaryDirectory.path)
    return Set(names.filter { $0.hasPrefix("CoreML-") })
  }

  func testLoadingInEveryForm() async throws {
    let url = try compiled("optional_input_ios17")
    let configuration = MLModelConfiguration()
    configuration.computeUnits = .cpuAndNeuralEngine
    let want: [Float] = [1.5, 1.5, 1.5, 1.5]
    let first = try MLModel(contentsOf: url, configuration: configuration)
    XCTAssertEqual(try sum(first), want)
    let second = try await MLModel.load(contentsOf: url, configuration: configuration)
    XCTAssertEqual(try sum(second), want)
    let third = try await MLModel.load(contentsOf: url)
    XCTAssertEqual(try sum(third), want)
    // What a model was loaded with does not follow later changes.
    configuration.computeUnits = .cpuOnly
    XCTAssertEqual(first.configuration.computeUnits, .cpuAndNeuralEngine)
    XCTAssertEqual(second.configuration.computeUnits, .cpuAndNeuralEngine)
    XCTAssertEqual(third.configuration.computeUnits, .all)
    let done = expectation(description: "loaded")
    let expected = want
    MLModel.load(contentsOf: url) { result in
      let got = try? output("y", of: result.get(), ["x": array([1, 4], [1, 1, 1, 1])])
      XCTAssertEqual(got, expected)
      done.fulfill()
    }
    await fulfillment(of: [done], timeout: 60)
  }

  func testADamagedModelIsAnIoError() throws {
    let url = try compiled("base_fp16_ios16")
    let program = url.appendingPathComponent("model.mil")
    try FileManager.default.removeItem(at: program)
    try Data("program(1.0)\n{ func".utf8).write(to: program)
    XCTAssertThrowsError(try MLModel(contentsOf: url)) { XCTAssertEqual(code($0), .io, "\($0)") }
  }

  func testAssetsOfCompiledModels() async throws {
    let asset = try MLModelAsset(url: compiled("multifunction_ios18"))
    let names = try await asset.functionNames
    XCTAssertEqual(names, ["alpha", "beta"])
    let inputs = try await asset.modelDescription(of: "beta").inputDescriptionsByName
    XCTAssertEqual(Array(inputs.keys), ["x"])
    let standard = try await asset.modelDescription.outputDescriptionsByName
    XCTAssertEqual(Array(standard.keys), ["fc"])
    do {
      _ = try await asset.modelDescription(of: "gamma")
      XCTFail("described")
    } catch {
      XCTAssert(error.localizedDescription.contains("gamma"), error.localizedDescription)
    }
    let done = expectation(description: "names")
    asset.functionNames { names, error in
      XCTAssertEqual(names, ["alpha", "beta"])
      XCTAssertNil(error)
      done.fulfill()
    }
    await fulfillment(of: [done], timeout: 60)
    XCTAssertThrowsError(try MLModelAsset(url: package("nothing"))) { XCTAssertEqual(code($0), .io, "\($0)") }
  }

  func testAssetsFromMemory() async throws {
    let folder = package("base_fp16_ios16").appendingPathComponent("Data/com.apple.CoreML")
    let specification = try Data(contentsOf: folder.appendingPathComponent("model.mlmodel"))
    let weights = try Data(contentsOf: folder.appendingPathComponent("weights/weight.bin"))
    let name = try XCTUnwrap(URL(string: "@model_path/weights/weight.bin"))
    let asset = try MLModelAsset(specification: specification, blobMapping: [name: weights])
    let model = try await MLModel.load(asset: asset, configuration: MLModelConfiguration())
    let picture = try array([1, 16, 8, 8], (0..<1024).map { Float($0 % 37) / 37 - 0.5 })
    let got = try output("fc", of: model, ["x": picture])
    XCTAssertEqual(got, try output("fc", of: sample("base_fp16_ios16"), ["x": picture]))
    // Without its weights it does not load.
    let bare = try MLModelAsset(specification: specification)
    do {
      _ = try await MLModel.load(asset: bare, configuration: MLModelConfiguration())
      XCTFail("loaded")
    } catch {
      XCTAssertEqual(code(error), .generic, "\(error)")
      XCTAssert(error.localizedDescription.contains("weight.bin"), error.localizedDescription)
    }
    // A model whose weights are in its specification needs none.
    let inner = package("optional_input_ios17").appendingPathComponent("Data/com.apple.CoreML/model.mlmodel")
    let small = try MLModelAsset(specification: Data(contentsOf: inner))
    let loaded = try await MLModel.load(asset: small, configuration: MLModelConfiguration())
    XCTAssertEqual(try sum(loaded), [1.5, 1.5, 1.5, 1.5])
    let outside = try XCTUnwrap(URL(string: "@model_path/../x"))
    XCTAssertThrowsError(try MLModelAsset(specification: specification, blobMapping: [outside: weights])) {
      XCTAssertEqual(code($0), .io, "\($0)")
    }
  }

  func testParametersAreOfNoProgram() throws {
    let model = try sample("base_fp16_ios16")
    XCTAssertThrowsError(try model.parameterValue(for: .epochs)) { XCTAssertEqual(code($0), .parameters, "\($0)") }
    let configuration = MLModelConfiguration()
    configuration.parameters = [.learningRate: 0.1]
    let url = try compiled("base_fp16_ios16")
    XCTAssertThrowsError(try MLModel(contentsOf: url, configuration: configuration)) {
      XCTAssertEqual(code($0), .parameters, "\($0)")
    }
  }

  func testTheDeviceIsTheCpu() {
    XCTAssertEqual(MLModel.availableComputeDevices.count, 1)
    guard case .cpu = MLModel.availableComputeDevices[0] else { return XCTFail("no CPU") }
  }
}
