import Foundation

extension ModelManager {
  /// All entries, the most recently used first.
  public var contents: [Entry] {
    get async throws {
      try await prepare()
      let folder = folder
      return try await offload {
        try folder.keys().compactMap { key in
          guard let seal = try? Seal(reading: folder.entry(key)) else { return nil }
          return Entry(
            url: folder.entry(key), kind: seal.kind, name: seal.name, bytes: seal.bytes, lastUse: folder.lastUse(key))
        }.sorted { ($1.lastUse, $0.url.path) < ($0.lastUse, $1.url.path) }
      }
    }
  }

  /// Takes an entry or a download away. Models that are loaded from it stay as they are.
  ///
  /// - Parameter url: What ``compileAndSaveLoRA(at:)``, ``base(at:applying:)`` or ``fetchAdapter(from:expecting:progress:)`` returned.
  /// - Throws: ``GessoError/notAnEntry(path:)``; ``GessoError/readOnly(path:)``.
  public func remove(_ url: URL) async throws {
    try await prepare()
    let file = url.resolvingSymlinksInPath().standardizedFileURL
    if file.deletingLastPathComponent().path == folder.downloads.resolvingSymlinksInPath().standardizedFileURL.path,
      FileManager.default.fileExists(atPath: file.path)
    {
      return try folder.removed(file)
    }
    guard let key = key(of: url), FileManager.default.fileExists(atPath: folder.entry(key).path) else {
      throw GessoError.notAnEntry(path: url.path)
    }
    let folder = folder
    try await offload { try folder.remove(key) }
  }

  /// Removes leftovers, downloads and damaged entries, then the least recently used entries until the rest takes at most `bytes`.
  ///
  /// - Parameter bytes: Bytes that may stay; nil is the manager's capacity, which models that it gave out are not part of.
  ///   0 empties the cache.
  /// - Throws: ``GessoError/readOnly(path:)``, ``GessoError/io(path:reason:)``.
  public func prune(to bytes: Int? = nil) async throws {
    try await prepare()
    let folder = folder
    try removeDownloads()
    let damaged = try await offload {
      try folder.repair()
      return try folder.keys().filter { key in
        do {
          try Seal(reading: folder.entry(key)).check(folder.entry(key), hashes: true)
          return false
        } catch {
          try folder.remove(key)
          return true
        }
      }.count
    }
    statistics.rebuilt += damaged
    try await enforce(bytes ?? options.capacity, besides: bytes == nil ? given : [], keeping: nil)
  }

  /// Takes the least recently used entries away until the rest takes at most `bytes`; `key` stays, and those of
  /// `others` neither go nor count.
  func enforce(_ bytes: Int, besides others: Set<String>, keeping key: String?) async throws {
    var total = 0
    for entry in try await contents where !others.contains(entry.url.lastPathComponent) {
      total += entry.bytes
      guard total > bytes, entry.url.lastPathComponent != key else { continue }
      total -= entry.bytes
      let folder = folder
      try await offload { try folder.remove(entry.url.lastPathComponent) }
      statistics.evictions += 1
    }
  }
}
