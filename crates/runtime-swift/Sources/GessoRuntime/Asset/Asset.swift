import Foundation

/// The manifest of an asset of either kind.
enum AssetManifest: Sendable {
  case adapter(AdapterManifest)
  case delta(DeltaManifest)

  /// What an asset that needs a newer reader still says.
  private struct Stamp: Decodable {
    let kind: String
    let minReader: Int

    enum CodingKeys: String, CodingKey {
      case kind
      case minReader = "min_reader"
    }
  }

  /// Reads and checks the bytes of a `manifest.json`; `file` is for messages.
  init(_ bytes: Data, file: URL) throws {
    func refuse(_ reason: String) -> GessoError { .manifest(file: file.path, reason: reason) }
    func decode<Value: Decodable>(_ type: Value.Type) throws -> Value {
      do {
        return try JSONDecoder().decode(type, from: bytes)
      } catch let error as DecodingError {
        throw refuse(error.sentence)
      } catch {
        throw refuse(error.localizedDescription)
      }
    }
    do {
      try JSONText.check(bytes)
    } catch let problem as JSONText.Problem {
      throw refuse("it is not JSON: \(problem.reason) (byte \(problem.byte))")
    }
    let stamp = try decode(Stamp.self)
    let isAdapter = stamp.kind == AdapterManifest.kind
    guard isAdapter || stamp.kind == DeltaManifest.kind else {
      throw refuse(
        "`kind` is `\(stamp.kind.printable)`, expected `\(AdapterManifest.kind)` or `\(DeltaManifest.kind)`")
    }
    let own = isAdapter ? AdapterManifest.reader : DeltaManifest.reader
    guard stamp.minReader <= own else {
      throw GessoError.tooNew(file: file.path, needed: stamp.minReader, own: own)
    }
    self = isAdapter ? .adapter(try decode(AdapterManifest.self)) : .delta(try decode(DeltaManifest.self))
    if let problem { throw refuse(problem) }
  }

  var name: String {
    switch self {
    case .adapter(let manifest): manifest.name
    case .delta(let manifest): manifest.name
    }
  }

  var members: [String: AssetMember] {
    switch self {
    case .adapter(let manifest): manifest.members
    case .delta(let manifest): manifest.members
    }
  }

  var signature: String? {
    switch self {
    case .adapter(let manifest): manifest.signature
    case .delta(let manifest): manifest.signature
    }
  }

  /// Whether a member of this name has a place in such an asset.
  func knows(_ name: String) -> Bool {
    guard members[name] != nil else { return false }
    guard case .adapter(let manifest) = self else { return true }
    let parts = name.split(separator: "/", maxSplits: 1).map(String.init)
    return parts.count == 2 && AdapterManifest.packageFiles.contains(parts[1])
      && manifest.components.values.contains { $0.package == parts[0] }
  }

  /// Members that must be there.
  var required: [String] {
    switch self {
    case .delta(let manifest): manifest.files.map(\.data) + manifest.members.keys
    case .adapter(let manifest):
      manifest.components.values.flatMap { info in
        AdapterManifest.packageFiles.filter { !$0.hasSuffix("weight.bin") }.map { "\(info.package)/\($0)" }
      } + manifest.members.keys
    }
  }

  private var problem: String? {
    switch self {
    case .adapter(let manifest): manifest.problem
    case .delta(let manifest): manifest.problem
    }
  }
}

/// An adapter or delta on disk, in any of the forms that ``ModelManager/compileAndSaveLoRA(at:)`` takes. Opening checks names,
/// headers and the manifest; ``unpack(into:)`` checks every byte.
struct Asset {
  /// One file of it.
  struct Member {
    let name: String
    let size: Int
    let read: ((UnsafeRawBufferPointer) throws -> Void) throws -> Void
    /// The file, of a folder.
    var file: InputFile?
  }

  let url: URL
  /// Nil for a package alone.
  let manifest: AssetManifest?
  /// The bytes of `manifest.json`; empty for a package alone.
  let manifestBytes: Data
  /// Everything but the manifest, sorted by name.
  let members: [Member]
  /// SHA-256 that stands for the whole content.
  let key: String

  static let manifestName = "manifest.json"
  static let mostManifestBytes = 64 << 20
  private static let mostFiles = 64

  /// Opens an archive, a folder with a manifest, or a package.
  ///
  /// - Parameters:
  ///   - url: A `.mlmodelcassets` file, the folder of an unpacked one, or an `.mlpackage`.
  ///   - limit: Most bytes of all files together; a package alone has no limit.
  ///   - hashes: Hashes of large files from earlier times.
  /// - Throws: ``GessoError`` for anything that is not such a thing.
  static func open(_ url: URL, limit: Int, hashes: KnownHashes? = nil) throws -> Asset {
    var isFolder: ObjCBool = false
    guard url.isFileURL, FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw GessoError.io(path: url.isFileURL ? url.path : url.absoluteString, reason: "there is no such file")
    }
    guard isFolder.boolValue else {
      let file = try InputFile(url)
      guard file.size <= limit else { throw GessoError.tooLarge(file: url.path, limit: limit, found: file.size) }
      let archive = try StoredArchive(file)
      return try Asset(
        url, archive.members.map { member in Member(name: member.name, size: member.size) { try archive.stream(member, $0) } })
    }
    let files = try Self.files(below: url)
    let members = files.map { name, file in
      Member(name: name, size: file.size, read: { try file.stream(at: 0, count: file.size, $0) }, file: file)
    }
    if url.pathExtension == "mlpackage" { return try Asset(package: url, members, hashes) }
    let total = files.reduce(0) { $0 + $1.file.size }
    guard total <= limit else { throw GessoError.tooLarge(file: url.path, limit: limit, found: total) }
    return try Asset(url, members)
  }

  private init(_ url: URL, _ all: [Member]) throws {
    guard let own = all.first(where: { $0.name == Self.manifestName }), own.size <= Self.mostManifestBytes else {
      let limit = Self.mostManifestBytes >> 20
      throw GessoError.notAnAsset(file: url.path, reason: "it has no `manifest.json`, or one above \(limit) MiB")
    }
    var bytes = Data(capacity: own.size)
    try own.read { bytes.append(contentsOf: $0) }
    let manifest = try AssetManifest(bytes, file: url)
    self.url = url
    self.manifest = manifest
    manifestBytes = bytes
    members = all.filter { $0.name != Self.manifestName }
    key = SHA256.hex(bytes)
    func refuse(_ member: String, _ reason: String) -> GessoError {
      .member(file: url.path, member: member.printable, reason: reason)
    }
    for member in members {
      guard manifest.knows(member.name), let listed = manifest.members[member.name] else {
        throw refuse(member.name, "it is not part of an adapter asset, or the manifest does not list it")
      }
      guard listed.size == member.size else {
        throw refuse(member.name, "it has \(member.size) bytes, the manifest says \(listed.size)")
      }
    }
    let present = Set(members.map(\.name))
    if let missing = manifest.required.first(where: { !present.contains($0) }) {
      throw refuse(missing, "it is missing")
    }
  }

  /// A package without a manifest: its content stands for itself.
  private init(package url: URL, _ members: [Member], _ hashes: KnownHashes?) throws {
    self.url = url
    manifest = nil
    manifestBytes = Data()
    self.members = members
    guard members.contains(where: { $0.name == "Manifest.json" }) else {
      throw GessoError.member(file: url.path, member: "Manifest.json", reason: "it is missing")
    }
    var whole = SHA256()
    whole.update(Data("package \(url.lastPathComponent)\n".utf8))
    for member in members {
      guard let file = member.file else { continue }
      let hash = try hashes?.hash(of: file) ?? file.sha256()
      whole.update(Data("\(hash) \(member.size) \(member.name)\n".utf8))
    }
    key = whole.finish()
  }

  /// Reads every byte and compares it with the manifest. A package has none.
  func verify() throws {
    guard manifest != nil else { return }
    try read { _ in nil }
  }

  /// Writes all files below `folder`, which is made, and compares what was written with the manifest.
  func unpack(into folder: URL) throws {
    try onFiles(folder) { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }
    try read { name in
      let target = folder.appendingPathComponent(name)
      let parent = target.deletingLastPathComponent()
      try onFiles(parent) { try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true) }
      return try OutputFile(target)
    }
    guard case .adapter(let manifest)? = manifest else { return }
    for info in manifest.components.values {
      // A package without weights has an empty folder, which an archive of files cannot carry.
      let weights = folder.appendingPathComponent("\(info.package)/Data/com.apple.CoreML/weights")
      try onFiles(weights) { try FileManager.default.createDirectory(at: weights, withIntermediateDirectories: true) }
    }
  }

  private func read(_ target: (String) throws -> OutputFile?) throws {
    for member in members {
      let output = try target(member.name)
      var hash = SHA256()
      try member.read {
        hash.update($0)
        try output?.write($0)
      }
      try output?.finish()
      let found = hash.finish()
      if let listed = manifest?.members[member.name], listed.sha256 != found {
        throw GessoError.member(
          file: url.path, member: member.name, reason: "its SHA-256 is \(found), the manifest says \(listed.sha256)")
      }
    }
  }

  /// The regular files below a folder, sorted by name; links and odd names are refused.
  private static func files(below root: URL) throws -> [(name: String, file: InputFile)] {
    var names: [String] = []
    var folders = [""]
    while let folder = folders.popLast() {
      let url = folder.isEmpty ? root : root.appendingPathComponent(folder)
      for entry in try onFiles(url, { try FileManager.default.contentsOfDirectory(atPath: url.path) }) {
        let name = folder.isEmpty ? entry : "\(folder)/\(entry)"
        if let reason = StoredArchive.unsafeName(name) {
          throw GessoError.member(file: root.path, member: name.printable, reason: reason)
        }
        let path = root.appendingPathComponent(name).path
        let kind = try onFiles(url) { try FileManager.default.attributesOfItem(atPath: path)[.type] as? FileAttributeType }
        switch kind {
        case .typeDirectory?: folders.append(name)
        case .typeRegular?: names.append(name)
        default:
          throw GessoError.member(file: root.path, member: name, reason: "it is neither a file nor a folder")
        }
        guard names.count + folders.count <= mostFiles else {
          throw GessoError.notAnAsset(file: root.path, reason: "it has too many members")
        }
      }
    }
    names.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    return try names.map { ($0, try InputFile(root.appendingPathComponent($0))) }
  }
}

extension DecodingError {
  /// One sentence that names the field.
  var sentence: String {
    func path(_ context: Context, _ last: String? = nil) -> String {
      let keys = context.codingPath.map { $0.intValue.map(String.init) ?? $0.stringValue } + (last.map { [$0] } ?? [])
      return "`\(keys.joined(separator: ".").printable)`"
    }
    return switch self {
    case .keyNotFound(let key, let context): "\(path(context, key.stringValue)) is missing"
    case .typeMismatch(let type, let context): "\(path(context)) is no \(type)"
    case .valueNotFound(let type, let context): "\(path(context)) is null, expected \(type)"
    case .dataCorrupted(let context):
      context.codingPath.isEmpty ? "it is not JSON: \(context.debugDescription)" : "\(path(context)): \(context.debugDescription)"
    @unknown default: "\(self)"
    }
  }
}
