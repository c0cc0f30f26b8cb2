import Foundation
import XCTest

/// A safetensors file of `fixtures/`, read for the tests alone.
struct Golden {
  private let bytes: Data
  private let header: [String: Any]
  private let start: Int

  init(_ path: String) throws {
    bytes = try Data(contentsOf: fixtures.appendingPathComponent(path))
    let length = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | Int($1) }
    start = 8 + length
    let json = try JSONSerialization.jsonObject(with: bytes[8..<start])
    header = try XCTUnwrap(json as? [String: Any])
  }

  func has(_ name: String) -> Bool { header[name] != nil }

  func shape(_ name: String) throws -> [Int] {
    try XCTUnwrap((header[name] as? [String: Any])?["shape"] as? [Int], name)
  }

  /// The values of a tensor as doubles.
  func values(_ name: String) throws -> [Double] {
    let row = try XCTUnwrap(header[name] as? [String: Any], "there is no tensor \(name)")
    let ends = try XCTUnwrap(row["data_offsets"] as? [Int])
    let slice = bytes[(start + ends[0])..<(start + ends[1])]
    switch row["dtype"] as? String {
    case "F64": return numbers(slice, Double.self) { $0 }
    case "F32": return numbers(slice, Float.self) { Double($0) }
    case "I64": return numbers(slice, Int64.self) { Double($0) }
    case "I32": return numbers(slice, Int32.self) { Double($0) }
    case "U32": return numbers(slice, UInt32.self) { Double($0) }
    default: throw XCTSkip("dtype \(row["dtype"] ?? "none") of \(name) is not read")
    }
  }

  /// The values of a tensor, rounded to float32.
  func floats(_ name: String) throws -> [Float] { try values(name).map { Float($0) } }

  private func numbers<T>(_ slice: Data, _: T.Type, _ convert: (T) -> Double) -> [Double] {
    slice.withUnsafeBytes { raw in
      (0..<(raw.count / MemoryLayout<T>.size)).map {
        convert(raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self))
      }
    }
  }
}

/// A JSON file of `fixtures/`. Python writes infinities as bare words; they are read as null.
func json(_ path: String) throws -> Any {
  let text = try String(contentsOf: fixtures.appendingPathComponent(path), encoding: .utf8)
  let plain = text.replacingOccurrences(of: "-Infinity", with: "null")
  return try JSONSerialization.jsonObject(with: Data(plain.utf8))
}

/// Root of the mean square of the difference, relative to that of `want`.
func relativeRMS(_ want: [Double], _ found: [Float]) -> Double {
  guard want.count == found.count else { return .infinity }
  var (difference, size) = (0.0, 0.0)
  for (w, f) in zip(want, found) {
    difference += (w - Double(f)) * (w - Double(f))
    size += w * w
  }
  return (difference / max(size, .leastNormalMagnitude)).squareRoot()
}
