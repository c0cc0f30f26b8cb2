@preconcurrency import CoreML
import Foundation

/// The factors of one component of an adapter.
public struct AdapterFactors: Sendable, Equatable {
  /// Rank r of every row.
  public let rank: Int
  /// Layout hash of the slots that they were made for.
  public let layoutHash: String
  /// Which row carries what.
  public let rows: [SlotRow]
  /// `adapter_W [m_W, r, W]` by width, row-major, as bits of fp16.
  let tensors: [Int: [UInt16]]
  /// Largest absolute value in the rows of `up`.
  let largestUp: Float

  init(rank: Int, layoutHash: String, rows: [SlotRow], tensors: [Int: [UInt16]]) {
    self.rank = rank
    self.layoutHash = layoutHash
    self.rows = rows
    self.tensors = tensors
    largestUp = rows.filter { $0.role == .up }.reduce(0) { largest, row in
      let start = row.row * rank * row.width
      let bits = tensors[row.width]?[start..<start + rank * row.width].reduce(0) { max($0, $1 & 0x7fff) } ?? 0
      return max(largest, HalfFloat.number(bits))
    }
  }
}

/// An adapter in memory: what it says about itself and its factors. Loading one runs each of its packages once; using it does
/// not touch its files any more.
public struct Adapter: Sendable, Equatable {
  /// What it says about itself.
  public let manifest: AdapterManifest
  /// Its factors by component.
  public let factors: [String: AdapterFactors]

  /// Its name.
  public var name: String { manifest.name }

  init(manifest: AdapterManifest, factors: [String: AdapterFactors]) {
    self.manifest = manifest
    self.factors = factors
  }

  /// Reads an entry of a cache.
  init(entry folder: URL, _ options: ModelManager.Options) throws {
    guard case .adapter(let manifest) = try AssetManifest(of: folder, options.signatures) else {
      throw GessoError.wrongKind(file: folder.path, expected: "an adapter", found: "a delta")
    }
    var factors: [String: AdapterFactors] = [:]
    for (component, info) in manifest.components {
      let configuration = MLModelConfiguration()
      configuration.computeUnits = options.computeUnits
      let url = folder.appendingPathComponent(component + ".mlmodelc", isDirectory: true)
      let outputs: any MLFeatureProvider
      do {
        let model = try MLModel(contentsOf: url, configuration: configuration)
        outputs = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: [:]))
      } catch {
        throw GessoError.model(file: "\(manifest.name): \(url.lastPathComponent)", reason: error.localizedDescription)
      }
      let rows = manifest.rows.filter { $0.component == component }
      let widths = rows.reduce(into: [:]) { $0[$1.width, default: 0] += $1.taps }
      var tensors: [Int: [UInt16]] = [:]
      for (width, count) in widths {
        let name = SlotTable.inputName(width)
        let shape = [count, info.rank, width]
        let array = outputs.featureValue(for: name)?.multiArrayValue
        guard let array, array.dataType == .float16, array.shape.map(\.intValue) == shape else {
          throw GessoError.factors(
            adapter: manifest.name, tensor: name, expected: shape, found: array?.shape.map(\.intValue) ?? [])
        }
        tensors[width] = array.halfBits
      }
      factors[component] = AdapterFactors(rank: info.rank, layoutHash: info.layoutHash, rows: rows, tensors: tensors)
    }
    self.init(manifest: manifest, factors: factors)
  }
}

extension MLMultiArray {
  /// The elements of an fp16 array in row-major order, whatever its strides are.
  fileprivate var halfBits: [UInt16] {
    let sizes = shape.map(\.intValue)
    let steps = strides.map(\.intValue)
    return withUnsafeBytes { bytes in
      var offsets = [0]
      for (size, step) in zip(sizes, steps) {
        // The last axis is the long one: its elements are read below.
        if offsets.count * size == count { break }
        offsets = offsets.flatMap { start in (0..<size).map { start + $0 * step } }
      }
      let size = sizes.last ?? 1
      let step = steps.last ?? 1
      var result: [UInt16] = []
      result.reserveCapacity(count)
      for start in offsets {
        for index in 0..<size {
          result.append(bytes.loadUnaligned(fromByteOffset: 2 * (start + index * step), as: UInt16.self))
        }
      }
      return result
    }
  }
}

extension ModelManager {
  /// Loads an adapter.
  ///
  /// - Parameter url: The folder that ``compileAndSaveLoRA(at:)`` returned, or anything that it takes, which is then compiled first.
  /// - Returns: The adapter with its factors in memory.
  /// - Throws: ``GessoError``; for a delta ``GessoError/wrongKind(file:expected:found:)``, since it is no adapter for slots.
  public func adapter(at url: URL) async throws -> Adapter {
    try await prepare()
    let folder: URL
    if FileManager.default.fileExists(atPath: url.appendingPathComponent(Seal.fileName).path) {
      folder = url
    } else {
      folder = try await compileAndSaveLoRA(at: url)
    }
    try await check(folder)
    let seal = try await offload { try Seal(reading: folder) }
    guard seal.kind == .adapter else {
      throw GessoError.wrongKind(file: url.path, expected: "an adapter", found: "a \(seal.kind.rawValue)")
    }
    if let key = key(of: folder) { self.folder.touch(key) }
    let options = options
    return try await offload { try Adapter(entry: folder, options) }
  }
}
