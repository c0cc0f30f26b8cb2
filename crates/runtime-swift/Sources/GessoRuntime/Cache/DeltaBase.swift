import Foundation

extension ModelManager {
  /// A base with a delta in its weights, in the cache: every file that stays as it is is shared with the base or its compiled
  /// models (a hard link, or a clone where there are none), the others are patched. Hashes are compared before and after.
  ///
  /// - Parameters:
  ///   - base: A converted folder. Models that it has as packages alone are compiled into the cache first.
  ///   - delta: What ``compileAndSaveLoRA(at:)`` returned for a delta asset, or the asset.
  /// - Returns: A folder to generate from, with `gesso.json` and the compiled models.
  /// - Throws: ``GessoError/otherBase(adapter:base:expected:found:)`` when the base does not have the weights that the delta is for;
  ///   ``GessoError/deltaResult(file:delta:expected:found:)``; ``GessoError/wrongKind(file:expected:found:)`` for an adapter.
  public func base(at base: URL, applying delta: URL) async throws -> URL {
    try await prepare()
    let isEntry = FileManager.default.fileExists(atPath: delta.appendingPathComponent(Seal.fileName).path)
    let source = try await isEntry ? delta : compileAndSaveLoRA(at: delta)
    try await check(source)
    let signatures = options.signatures
    let manifest = try await offload { try AssetManifest(of: source, signatures) }
    guard case .delta(let manifest) = manifest else {
      throw GessoError.wrongKind(file: delta.path, expected: "a delta", found: "an adapter")
    }
    if let key = key(of: source) { folder.touch(key) }
    var files = try await offload { try BaseFiles(of: base) }
    for package in files.packages {
      let entry = try await compileAndSaveLoRA(at: base.appendingPathComponent(package))
      let stem = (package as NSString).deletingPathExtension
      try files.add(entry.appendingPathComponent(stem + ".mlmodelc"), as: stem + ".mlmodelc")
    }
    let application = DeltaApplication(base: base, files: files, delta: source, manifest: manifest)
    let key = try await offload { try application.key }
    let step = options.beforeStep
    given.insert(key)
    return try await entry(key) { staging in
      let target = staging.appendingPathComponent("entry", isDirectory: true)
      step("apply")
      let shared = try await offload { try application.apply(into: target) }
      step("applied")
      return try await offload {
        try Seal(of: target, kind: .base, name: "\(base.lastPathComponent) + \(manifest.name)", shared: shared)
      }
    }
  }
}

extension AssetManifest {
  /// The manifest in an entry, which may have been made under another policy.
  init(of entry: URL, _ signatures: SignaturePolicy = .unsigned) throws {
    let file = try InputFile(entry.appendingPathComponent(Asset.manifestName))
    let bytes = Data(try file.bytes(at: 0, count: file.size))
    try self.init(bytes, file: entry)
    try signatures.check(self, bytes, entry)
  }
}

/// The files of a base that an app needs, by their path in the folder.
private struct BaseFiles: Sendable {
  private(set) var files: [String: URL] = [:]
  /// Packages without a compiled model beside them.
  let packages: [String]

  init(of base: URL) throws {
    let names = try onFiles(base) { try FileManager.default.contentsOfDirectory(atPath: base.path) }.sorted()
    packages = names.filter { name in
      name.hasSuffix(".mlpackage") && !names.contains((name as NSString).deletingPathExtension + ".mlmodelc")
    }
    // The self test's expected values depend on the weights.
    for name in names where !name.hasSuffix(".mlpackage") && name != "selftest.safetensors" {
      try add(base.appendingPathComponent(name), as: name)
    }
  }

  /// Adds a file, or all files of a folder.
  mutating func add(_ url: URL, as name: String) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
      throw GessoError.io(path: url.path, reason: "there is no such file")
    }
    guard isFolder.boolValue else {
      files[name] = url
      return
    }
    for relative in try Seal.names(in: url) { files["\(name)/\(relative)"] = url.appendingPathComponent(relative) }
  }
}

/// A delta and the files that it goes into.
private struct DeltaApplication: Sendable {
  let base: URL
  let files: BaseFiles
  let delta: URL
  let manifest: DeltaManifest

  private static let info = "gesso.json"
  private static let weights = "weight.bin"

  /// Stands for the delta and the base: the names and sizes of its files, and `gesso.json`, which has the hash of the source.
  var key: String {
    get throws {
      var hash = SHA256()
      hash.update(Data("base with delta\n".utf8))
      hash.update(Data(try InputFile(delta.appendingPathComponent(Asset.manifestName)).sha256().utf8))
      for (name, url) in files.files.sorted(by: { $0.key < $1.key }) {
        let file = try InputFile(url)
        let content = name == Self.info ? try file.sha256() : ""
        hash.update(Data("\n\(name) \(file.size) \(content)".utf8))
      }
      return hash.finish()
    }
  }

  /// Writes the folder. The answer names the files that it shares.
  func apply(into target: URL) throws -> Set<String> {
    let changed = try places()
    var shared: Set<String> = []
    var written: [String: URL] = [:]
    for (name, url) in files.files.sorted(by: { $0.key < $1.key }) {
      let place = target.appendingPathComponent(name)
      let parent = place.deletingLastPathComponent()
      try onFiles(parent) { try FileManager.default.createDirectory(at: parent, withIntermediateDirectories: true) }
      if name == Self.info {
        try record(url, place)
      } else if let file = changed[name], let first = written[file.after] {
        try Self.share(first, place)
        shared.insert(name)
      } else if let file = changed[name] {
        try patch(file, url, place)
        written[file.after] = place
      } else {
        try Self.share(url, place)
        shared.insert(name)
      }
    }
    return shared
  }

  /// Which files change, by name; there must be one for each of the delta's.
  private func places() throws -> [String: DeltaManifest.WeightFile] {
    let sizes = Set(manifest.files.map(\.size))
    var hashes: [String: String] = [:]
    for (name, url) in files.files where url.lastPathComponent == Self.weights {
      let file = try InputFile(url)
      if sizes.contains(file.size) { hashes[name] = try file.sha256() }
    }
    var result: [String: DeltaManifest.WeightFile] = [:]
    for file in manifest.files {
      let names = hashes.filter { $0.value == file.before }.keys
      guard !names.isEmpty else {
        let own = hashes.first { $0.key.hasPrefix(file.package + ".") }?.value
        throw GessoError.otherBase(
          adapter: manifest.name, base: base.path, expected: "weights of `\(file.package)` with SHA-256 \(file.before)",
          found: own ?? "none of \(file.size) bytes")
      }
      for name in names { result[name] = file }
    }
    return result
  }

  private func patch(_ weights: DeltaManifest.WeightFile, _ from: URL, _ to: URL) throws {
    let base = try InputFile(from)
    let data = try InputFile(delta.appendingPathComponent(weights.data))
    let output = try OutputFile(to)
    var hash = SHA256()
    func put(_ file: InputFile, _ offset: Int, _ count: Int) throws {
      try file.stream(at: offset, count: count) {
        hash.update($0)
        try output.write($0)
      }
    }
    var free = 0
    var next = 0
    for patch in weights.patches {
      try put(base, free, patch.offset - free)
      try put(data, next, patch.length)
      next += patch.length
      free = patch.offset + patch.length
    }
    try put(base, free, weights.size - free)
    try output.finish()
    let found = hash.finish()
    guard found == weights.after else {
      throw GessoError.deltaResult(file: to.path, delta: manifest.name, expected: weights.after, found: found)
    }
  }

  /// `gesso.json` with the delta in `deltas`.
  private func record(_ from: URL, _ to: URL) throws {
    let bytes = try onFiles(from) { try Data(contentsOf: from) }
    guard (try? JSONText.check(bytes)) != nil, var info = try? JSONSerialization.jsonObject(with: bytes) as? [String: Any] else {
      throw GessoError.manifest(file: from.path, reason: "`gesso.json` is not a JSON object")
    }
    let loras = manifest.loras.map { lora -> [String: Any] in
      ["name": lora.name, "unet": lora.unet, "text_encoder": lora.textEncoder]
    }
    let own: [String: Any] = ["name": manifest.name, "loras": loras]
    info["deltas"] = (info["deltas"] as? [Any] ?? []) + [own]
    let options: JSONSerialization.WritingOptions = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    let output = try OutputFile(to)
    try JSONSerialization.data(withJSONObject: info, options: options).withUnsafeBytes { try output.write($0) }
    try output.finish()
  }

  /// Makes `to` the same file as `from`, or a copy (a clone, where the file system has them) on another volume.
  private static func share(_ from: URL, _ to: URL) throws {
    guard link(from.resolvingSymlinksInPath().path, to.path) != 0 else { return }
    try onFiles(to) { try FileManager.default.copyItem(at: from.resolvingSymlinksInPath(), to: to) }
  }
}
