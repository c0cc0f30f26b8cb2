import Foundation

@testable import GessoRuntime

/// An adapter asset whose packages hold made-up bytes, written by code of its own.
struct TestAsset {
  let name: String
  var components: [String]
  var signature: String?
  var minReader = 1
  /// Where the files of its packages come from, in place of made-up bytes.
  var package: URL?

  /// All members, sorted by name.
  var members: [(String, Data)] {
    var members: [(String, Data)] = []
    let made = ["model of \(name)", String(repeating: "7", count: 300), "{}"].map { Data($0.utf8) }
    for component in components {
      for (file, bytes) in zip(AdapterManifest.packageFiles, made) {
        let real = package.flatMap { try? Data(contentsOf: $0.appendingPathComponent(file)) }
        members.append(("\(component).mlpackage/\(file)", real ?? bytes))
      }
    }
    members.append(("manifest.json", manifest(members)))
    return members.sorted { $0.0 < $1.0 }
  }

  /// Writes `<name>.mlmodelcassets`.
  func written(to folder: TemporaryFolder) throws -> URL {
    let url = folder.url.appendingPathComponent(name + ".mlmodelcassets")
    try archive(of: members).write(to: url)
    return url
  }

  private func manifest(_ members: [(String, Data)]) -> Data {
    let list = members.map { "\"\($0)\": {\"size\": \($1.count), \"sha256\": \"\(SHA256.hex($1))\"}" }
    let hash = String(repeating: "a", count: 64)
    let parts = components.map { "\"\($0)\": {\"package\": \"\($0).mlpackage\", \"layout_hash\": \"\(hash)\", \"rank\": 4}" }
    let rows = components.map { "{\"component\": \"\($0)\", \"module\": \"m\", \"width\": 8, \"role\": \"down\", \"row\": 0}" }
    return Data(
      """
      {"schema": 1, "min_reader": \(minReader), "kind": "gesso.adapter", "name": "\(name)", "rank": 4, "default_strength": 0.5,
       "trigger_words": ["\(name)"], "author": null, "license": null, "metadata": {},
       "components": {\(parts.joined(separator: ", "))}, "rows": [\(rows.joined(separator: ", "))],
       "members": {\(list.joined(separator: ", "))}, "signature": \(signature.map { "\"\($0)\"" } ?? "null")}
      """.utf8)
  }
}

/// A stored archive of sorted members as `docs/adapter-format.md` describes it.
func archive(of members: [(String, Data)]) -> Data {
  func number(_ value: Int, _ bytes: Int) -> Data { Data((0..<bytes).map { UInt8(value >> (8 * $0) & 0xff) }) }
  var archive = Data()
  var directory = Data()
  for (name, content) in members {
    var crc = CRC32()
    content.withUnsafeBytes { crc.update($0) }
    var shared = number(10, 2) + number(0, 2) + number(0, 2) + number(0, 2) + number(0x21, 2)
    shared += number(Int(crc.finish()), 4) + number(content.count, 4) + number(content.count, 4)
    shared += number(name.utf8.count, 2) + number(0, 2)
    directory += Data([0x50, 0x4b, 1, 2]) + number(10, 2) + shared
    directory += Data(count: 10) + number(archive.count, 4) + Data(name.utf8)
    archive += Data([0x50, 0x4b, 3, 4]) + shared
    archive += Data(name.utf8) + content
  }
  var end = Data([0x50, 0x4b, 5, 6, 0, 0, 0, 0]) + number(members.count, 2) + number(members.count, 2)
  end += number(directory.count, 4) + number(archive.count, 4) + Data(count: 2)
  return archive + directory + end
}
