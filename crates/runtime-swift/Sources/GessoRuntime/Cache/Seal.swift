import Foundation

/// What a cache entry holds.
public enum CacheEntryKind: String, Codable, Sendable {
  /// An adapter asset: `manifest.json` and one compiled model per component.
  case adapter
  /// A delta asset: `manifest.json` and its new bytes, to be applied to a base.
  case delta
  /// A package that was compiled alone: one compiled model.
  case package
  /// A base with a delta in its weights: the files of the base, most of them shared with it.
  case base
}

/// `seal.json` of an entry: what it is and every file of it. It is the last file that is written before the entry is moved into
/// place, so that an entry without one was never whole.
struct Seal: Codable, Equatable, Sendable {
  /// One file of an entry.
  struct File: Codable, Equatable, Sendable {
    let size: Int
    /// Nil for a file that the entry shares with a base: its owner is somebody else.
    let sha256: String?
    /// When its bytes changed last, of a large file: as long as that holds, it is not hashed again.
    let changed: String?
  }

  let schema: Int
  let kind: CacheEntryKind
  let name: String
  let files: [String: File]

  static let fileName = "seal.json"
  static let form = 1
  /// From so many bytes on a file is not hashed again as long as it has the same time of change: 64 MiB.
  static let large = 64 << 20

  /// Bytes that the entry takes on the disk, without files that it shares.
  var bytes: Int { files.values.reduce(0) { $0 + ($1.sha256 == nil ? 0 : $1.size) } }

  /// Reads every file of a finished folder; `shared` says which belong to a base.
  init(of folder: URL, kind: CacheEntryKind, name: String, shared: Set<String> = []) throws {
    var files: [String: File] = [:]
    for relative in try Self.names(in: folder) {
      let file = try InputFile(folder.appendingPathComponent(relative))
      files[relative] = File(
        size: file.size, sha256: shared.contains(relative) ? nil : try file.sha256(),
        changed: file.size < Self.large ? nil : file.changed)
    }
    schema = Self.form
    self.kind = kind
    self.name = name
    self.files = files
  }

  /// Reads the seal of an entry.
  init(reading folder: URL) throws {
    func damaged(_ reason: String) -> GessoError { .damagedEntry(path: folder.path, reason: reason) }
    guard let file = try? InputFile(folder.appendingPathComponent(Self.fileName)), file.size <= 16 << 20,
      let bytes = try? file.bytes(at: 0, count: file.size)
    else { throw damaged("it has no `\(Self.fileName)`") }
    guard let seal = try? JSONText.decode(Seal.self, from: Data(bytes)), seal.schema == Self.form else {
      throw damaged("its `\(Self.fileName)` is not of this version")
    }
    self = seal
  }

  func write(into folder: URL) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    let bytes = try encoder.encode(self)
    let output = try OutputFile(folder.appendingPathComponent(Self.fileName))
    try bytes.withUnsafeBytes { try output.write($0) }
    try output.finish()
  }

  /// Compares a folder with the seal: names and sizes, and with `hashes` every byte of its own files.
  func check(_ folder: URL, hashes: Bool) throws {
    func damaged(_ reason: String) -> GessoError { .damagedEntry(path: folder.path, reason: reason) }
    let found = Set(try Self.names(in: folder)).subtracting([Self.fileName])
    if let missing = files.keys.sorted().first(where: { !found.contains($0) }) { throw damaged("`\(missing)` is missing") }
    if let extra = found.sorted().first(where: { files[$0] == nil }) { throw damaged("`\(extra)` does not belong to it") }
    for (name, expected) in files.sorted(by: { $0.key < $1.key }) {
      let file = try InputFile(folder.appendingPathComponent(name))
      guard file.size == expected.size else { throw damaged("`\(name)` has \(file.size) bytes, expected \(expected.size)") }
      guard hashes, let sha256 = expected.sha256 else { continue }
      if let changed = expected.changed, changed == file.changed { continue }
      guard try file.sha256() == sha256 else { throw damaged("`\(name)` has other bytes than when it was made") }
    }
  }

  /// Sizes and times of the files, which change when somebody writes to them.
  static func fingerprint(of folder: URL) throws -> String {
    try names(in: folder).map { name in
      var status = stat()
      let url = folder.appendingPathComponent(name)
      guard stat(url.path, &status) == 0 else { throw GessoError.posix(errno, url) }
      return "\(name) \(status.st_size) \(status.st_ino) \(status.changed)"
    }.joined(separator: "\n")
  }

  /// The files below a folder by relative path, sorted; folders themselves do not count.
  static func names(in folder: URL) throws -> [String] {
    var names: [String] = []
    var folders = [""]
    while let below = folders.popLast() {
      let url = below.isEmpty ? folder : folder.appendingPathComponent(below)
      for entry in try onFiles(url, { try FileManager.default.contentsOfDirectory(atPath: url.path) }) {
        let relative = below.isEmpty ? entry : "\(below)/\(entry)"
        var status = stat()
        let path = folder.appendingPathComponent(relative)
        guard stat(path.path, &status) == 0 else { throw GessoError.posix(errno, path) }
        if status.st_mode & S_IFMT == S_IFDIR { folders.append(relative) } else { names.append(relative) }
      }
    }
    return names.sorted()
  }
}
