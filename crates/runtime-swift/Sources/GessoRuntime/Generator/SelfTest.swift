import Foundation

/// The inputs and expected outputs that `gesso convert` wrote into the folder.
struct SelfTest: Sendable {
  /// Least signal to noise ratio in dB: what Apple's converter asks of its modules.
  static let least = 35.0

  private let tensors: [String: Tensor]

  /// Reads `selftest.safetensors`; nil when the folder has none.
  ///
  /// - Throws: `GenerationError.base` for a damaged file.
  init?(folder: URL) throws {
    let url = folder.appendingPathComponent("selftest.safetensors")
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    do {
      tensors = try Safetensors.floats(Data(contentsOf: url))
    } catch {
      throw GenerationError.base(folder: folder.path, reason: "`selftest.safetensors`: \(error)")
    }
  }

  /// One model's part: `text.` or `unet.` before the names of features.
  struct Case: Sendable {
    let model: String
    let output: String
    let inputs: [String: Tensor]
    /// nil where the file has inputs alone, since the output took too long to compute.
    let expected: Tensor?
  }

  /// The cases that the file has.
  var cases: [Case] {
    [("TextEncoder", "text.", "last_hidden_state"), ("Unet", "unet.", "noise_pred")].compactMap { model, prefix, output in
      var inputs: [String: Tensor] = [:]
      for (name, tensor) in tensors where name.hasPrefix(prefix) { inputs[String(name.dropFirst(prefix.count))] = tensor }
      let expected = inputs.removeValue(forKey: output)
      return inputs.isEmpty ? nil : Case(model: model, output: output, inputs: inputs, expected: expected)
    }
  }

  /// Signal to noise ratio in dB; infinite when both are equal.
  static func decibels(_ want: [Float], _ found: [Float]) -> Double {
    guard want.count == found.count else { return -.infinity }
    var (signal, noise) = (0.0, 0.0)
    for (w, f) in zip(want, found) {
      signal += Double(w) * Double(w)
      noise += (Double(w) - Double(f)) * (Double(w) - Double(f))
    }
    guard noise.isFinite else { return -.infinity }
    return noise == 0 ? .infinity : 10 * log10(signal / noise)
  }
}

/// The file form safetensors, as far as the self-test needs it: float32 alone.
enum Safetensors {
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  private struct Row: Decodable {
    let dtype: String
    let shape: [Int]
    let data_offsets: [Int]
  }

  /// All tensors by name.
  static func floats(_ data: Data) throws -> [String: Tensor] {
    guard data.count >= 8 else { throw Failure(description: "it has \(data.count) bytes") }
    let length = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard length <= UInt64(data.count - 8) else { throw Failure(description: "its header is cut off") }
    let start = 8 + Int(length)
    let rows = try JSONDecoder().decode([String: Row].self, from: data[(data.startIndex + 8)..<(data.startIndex + start)])
    return try rows.mapValues { row in
      let count = row.shape.reduce(1) { $0.multipliedReportingOverflow(by: $1).partialValue }
      guard row.dtype == "F32", row.data_offsets.count == 2, row.shape.allSatisfy({ $0 >= 0 }), count >= 0,
        let from = row.data_offsets.first, let to = row.data_offsets.last, from >= 0, to >= from,
        to <= data.count - start, (to - from) % 4 == 0, (to - from) / 4 == count
      else { throw Failure(description: "a tensor of \(row.dtype) \(row.shape) at \(row.data_offsets)") }
      return Tensor(row.shape, data.withUnsafeBytes { raw in
        (0..<count).map { raw.loadUnaligned(fromByteOffset: start + from + 4 * $0, as: Float.self) }
      })
    }
  }
}
