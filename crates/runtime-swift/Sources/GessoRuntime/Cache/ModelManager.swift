@preconcurrency import CoreML
import Foundation

/// The cache of compiled adapters.
///
/// ```swift
/// let manager = ModelManager()
/// let style = try await manager.compileAndSaveLoRA(at: downloaded)  // compiles once, later calls find it
/// ```
///
/// The cache is content-addressed: an asset has the same entry wherever it lies. Every call checks every byte of the asset and
/// that the entry is as it was made. Concurrent calls for one asset compile it once. An entry appears with one rename when it is
/// whole; what a process that was ended leaves behind is removed at the next start. The layout of the folder stands in
/// `docs/swift.md`.
public actor ModelManager {
  /// How a manager works.
  public struct Options: Sendable {
    /// The cache's folder; nil is `Gesso` in the user's caches folder. One folder may serve several processes.
    public var root: URL?
    /// Bytes that entries may take before the least recently used ones go: 2 GiB. Models of a base, and bases with a delta, that
    /// this manager gave out stay and do not count.
    public var capacity: Int = 2 << 30
    /// Most bytes of an asset: 1 GiB. Packages alone, which are an app's own, have no limit.
    public var mostAssetBytes: Int = 1 << 30
    /// Which assets are taken.
    public var signatures: SignaturePolicy = .unsigned
    /// How predictions that read adapters' factors run. The factors are constants, so that the CPU gives them exactly.
    public var computeUnits: MLComputeUnits = .cpuOnly
    /// Compiles a package and gives the compiled model, which is moved from there.
    var compile: @Sendable (URL) async throws -> URL = { try await MLModel.compileModel(at: $0) }
    /// Runs before each step that changes the cache, in tests.
    package var beforeStep: @Sendable (String) -> Void = { _ in }

    /// The usual options, with another folder when one is given.
    public init(root: URL? = nil) { self.root = root }
  }

  /// What a manager did since it was made.
  public struct Statistics: Sendable, Equatable {
    /// Packages that were compiled.
    public var compilations = 0
    /// Calls that an entry answered.
    public var hits = 0
    /// Entries that were damaged and made again, or taken away.
    public var rebuilt = 0
    /// Entries that went because others needed their room.
    public var evictions = 0
  }

  /// An entry of the cache.
  public struct Entry: Sendable, Equatable {
    /// Its folder.
    public let url: URL
    /// What it holds.
    public let kind: CacheEntryKind
    /// Name of the adapter, the delta or the package.
    public let name: String
    /// Bytes that it takes, without files that it shares with a base.
    public let bytes: Int
    /// When it was used last.
    public let lastUse: Date
  }

  /// How it works.
  public nonisolated let options: Options
  nonisolated let folder: CacheFolder
  /// What the manager did.
  public internal(set) var statistics = Statistics()
  private var isPrepared = false
  /// What is being made or downloaded, by key.
  var jobs: [String: SharedJob] = [:]
  /// Entries that an app may be about to load, by key.
  var given: Set<String> = []
  /// By path what the files of an entry looked like when their hashes were compared last.
  private var checked: [String: String] = [:]

  /// A manager; nothing is written before its first use.
  public init(options: Options = Options()) {
    self.options = options
    let caches = FileManager.default.urls(for: .cachesDirectory, in: .userDomainMask).first
    let root = options.root ?? (caches ?? FileManager.default.temporaryDirectory).appendingPathComponent("Gesso")
    folder = CacheFolder(root: root.standardizedFileURL)
  }

  /// Checks, unpacks and compiles an adapter and keeps it; the second call finds it.
  ///
  /// - Parameter fileURL: An `.mlmodelcassets` file (adapter or delta), the folder of an unpacked one, or an `.mlpackage`.
  /// - Returns: The entry's folder: `manifest.json` and one `<component>.mlmodelc` per component; of a delta its manifest and new
  ///   bytes; of a package alone its compiled model. ``adapter(at:)`` reads it.
  /// - Throws: ``GessoError`` for what is wrong with the asset, the disk or the model.
  public func compileAndSaveLoRA(at fileURL: URL) async throws -> URL {
    try await prepare()
    let options = options
    let hashes = KnownHashes(folder: folder.hashes)
    let asset = try await offload {
      let asset = try Opened(asset: Asset.open(fileURL, limit: options.mostAssetBytes, hashes: hashes))
      try options.signatures.check(asset.asset.manifest, asset.asset.manifestBytes, fileURL)
      try asset.asset.verify()
      return asset
    }
    if asset.asset.manifest == nil { given.insert(asset.asset.key) }
    return try await entry(asset.asset.key) { try await self.compiled(asset, into: $0) }
  }

  /// Makes the cache's folders and removes what processes that ended left behind. Every other call does so first.
  ///
  /// - Throws: ``GessoError/readOnly(path:)``, ``GessoError/diskFull(path:)``, ``GessoError/io(path:reason:)``.
  public func prepare() async throws {
    guard !isPrepared else { return }
    let folder = folder
    try await offload { try folder.prepare() }
    isPrepared = true
  }

  /// The entry `key`, made by `build` in a folder of its own when it is not there or damaged.
  func entry(_ key: String, _ build: @escaping @Sendable (URL) async throws -> Seal) async throws -> URL {
    if jobs[key] != nil { statistics.hits += 1 }
    return try await shared(key) { try await self.made(key, build) }
  }

  private func made(_ key: String, _ build: @Sendable (URL) async throws -> Seal) async throws -> URL {
    let folder = folder
    let url = folder.entry(key)
    if try await isWhole(key) {
      statistics.hits += 1
      folder.touch(key)
      return url
    }
    let staging = try await offload { try folder.stage() }
    do {
      let target = staging.folder.appendingPathComponent("entry", isDirectory: true)
      let seal = try await build(staging.folder)
      try Task.checkCancellation()
      options.beforeStep("seal")
      try await offload { try seal.write(into: target) }
      options.beforeStep("commit")
      let isOurs = try await offload { try folder.commit(target, as: key) }
      options.beforeStep("committed")
      // Another process made it meanwhile.
      if !isOurs, try await !isWhole(key) {
        guard try await offload({ try folder.commit(target, as: key) }) else {
          throw GessoError.io(path: url.path, reason: "another process keeps it changing")
        }
      }
    } catch {
      await cleared(staging)
      throw GessoError.wrapping(error, url)
    }
    await cleared(staging)
    checked[url.path] = try? Seal.fingerprint(of: url)
    folder.touch(key)
    // The entry is there even when others cannot go.
    try? await enforce(options.capacity, besides: given, keeping: key)
    return url
  }

  private func cleared(_ staging: Staging) async {
    _ = try? await offload { staging.remove() }
  }

  /// Whether the entry is there and as it was made. One that is not is taken away.
  private func isWhole(_ key: String) async throws -> Bool {
    let url = folder.entry(key)
    guard FileManager.default.fileExists(atPath: url.path) else { return false }
    do {
      try await check(url)
      return true
    } catch GessoError.damagedEntry, GessoError.io {
      statistics.rebuilt += 1
      checked[url.path] = nil
      let folder = folder
      try await offload { try folder.remove(key) }
      return false
    }
  }

  /// Compares an entry with its seal; the hashes only when its files changed since this manager compared them last.
  func check(_ url: URL) async throws {
    let known = checked[url.path]
    checked[url.path] = try await offload {
      let fingerprint = try Seal.fingerprint(of: url)
      let seal = try Seal(reading: url)
      try seal.check(url, hashes: fingerprint != known)
      return fingerprint
    }
  }

  /// The key of an entry of this cache that `url` is; nil for any other file or folder.
  nonisolated func key(of url: URL) -> String? {
    let path = url.resolvingSymlinksInPath().standardizedFileURL
    let entries = folder.entries.resolvingSymlinksInPath().standardizedFileURL
    let name = path.lastPathComponent
    guard SHA256.isHash(name), path.deletingLastPathComponent().path == entries.path else { return nil }
    return name
  }
}

/// An asset that goes from one thread to the next; one at a time reads it.
struct Opened: @unchecked Sendable { let asset: Asset }

extension ModelManager {
  /// Unpacks an asset below `staging` and compiles its packages into `staging/entry`.
  private func compiled(_ opened: Opened, into staging: URL) async throws -> Seal {
    let asset = opened.asset
    let step = options.beforeStep
    let target = staging.appendingPathComponent("entry", isDirectory: true)
    let source = staging.appendingPathComponent("source", isDirectory: true)
    step("unpack")
    if case .delta(let manifest)? = asset.manifest {
      return try await offload {
        try opened.asset.unpack(into: target)
        step("manifest")
        try opened.asset.writeManifest(into: target)
        return try Seal(of: target, kind: .delta, name: manifest.name)
      }
    }
    try await offload {
      // A package alone is compiled where it lies.
      if opened.asset.manifest != nil { try opened.asset.unpack(into: source) }
      try onFiles(target) { try FileManager.default.createDirectory(at: target, withIntermediateDirectories: false) }
    }
    let packages: [URL]
    if case .adapter(let manifest)? = asset.manifest {
      packages = manifest.components.values.map(\.package).sorted().map { source.appendingPathComponent($0) }
    } else {
      packages = [asset.url]
    }
    for package in packages {
      try Task.checkCancellation()
      let name = package.lastPathComponent
      step("compile \(name)")
      let made = try await compiled(package)
      step("move \(name)")
      let stem = package.deletingPathExtension().lastPathComponent
      try await offload { try moved(made, to: target.appendingPathComponent(stem + ".mlmodelc")) }
    }
    step("manifest")
    return try await offload {
      try opened.asset.writeManifest(into: target)
      let kind: CacheEntryKind = opened.asset.manifest == nil ? .package : .adapter
      return try Seal(of: target, kind: kind, name: opened.asset.manifest?.name ?? opened.asset.url.lastPathComponent)
    }
  }

  private func compiled(_ package: URL) async throws -> URL {
    statistics.compilations += 1
    do {
      return try await options.compile(package)
    } catch let error where !(error is GessoError || error is CancellationError) {
      let wrapped = GessoError.wrapping(error, package)
      if case GessoError.diskFull = wrapped { throw wrapped }
      throw GessoError.model(file: package.lastPathComponent, reason: error.localizedDescription)
    }
  }
}

extension Asset {
  fileprivate func writeManifest(into folder: URL) throws {
    guard manifest != nil else { return }
    let output = try OutputFile(folder.appendingPathComponent(Self.manifestName))
    try manifestBytes.withUnsafeBytes { try output.write($0) }
    try output.finish()
  }
}

/// Moves a folder, also to another volume; of the latter nothing is left behind.
private func moved(_ from: URL, to target: URL) throws {
  defer { try? FileManager.default.removeItem(at: from) }
  guard rename(from.path, target.path) != 0 else { return }
  guard errno == EXDEV else { throw GessoError.posix(errno, target) }
  try onFiles(target) { try FileManager.default.copyItem(at: from, to: target) }
}
