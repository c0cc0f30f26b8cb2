import Foundation

extension ModelManager {
  /// What a download has to be.
  public struct Expectation: Sendable, Equatable {
    /// SHA-256 of the file, 64 hexadecimal digits; nil takes what comes, and its manifest alone says whether it is whole.
    public var sha256: String?
    /// Bytes of the file; nil when not known.
    public var bytes: Int?

    /// What is known of the file.
    public init(sha256: String? = nil, bytes: Int? = nil) {
      self.sha256 = sha256?.lowercased()
      self.bytes = bytes
    }
  }

  /// How far a download is.
  public struct DownloadProgress: Sendable, Equatable {
    /// Bytes on the disk, with those of earlier tries.
    public let received: Int
    /// Bytes of the whole file, when the server says so.
    public let total: Int?
  }

  /// Downloads an asset into the cache's folder. A download that ended early goes on where it was at the next call, when the
  /// server can and the file there is still the same. Concurrent calls for one address download once.
  ///
  /// - Parameters:
  ///   - url: An `http`, `https` or `file` address.
  ///   - expected: Hash and size.
  ///   - progress: Called on some thread as bytes arrive; of concurrent calls only the first one's.
  /// - Returns: The file, for ``compileAndSaveLoRA(at:)``; it stays until ``remove(_:)`` or ``prune(to:)``.
  /// - Throws: ``GessoError/download(url:reason:)``; ``GessoError/tooLarge(file:limit:found:)`` above the expected size or
  ///   ``Options/mostAssetBytes``; ``GessoError/hash(file:expected:found:)``; errors of the disk; `CancellationError`.
  public func fetchAdapter(
    from url: URL, expecting expected: Expectation = Expectation(),
    progress: @escaping @Sendable (DownloadProgress) -> Void = { _ in }
  ) async throws -> URL {
    try await prepare()
    let key = SHA256.hex(Data("\(url.absoluteString)\n\(expected.sha256 ?? "")".utf8))
    let place = folder.downloads.appendingPathComponent(key)
    let limit = min(expected.bytes ?? options.mostAssetBytes, options.mostAssetBytes)
    return try await shared("download \(key)") { try await Self.fetched(url, to: place, expected, limit, progress) }
  }

  private static func fetched(
    _ url: URL, to place: URL, _ expected: Expectation, _ limit: Int,
    _ progress: @escaping @Sendable (DownloadProgress) -> Void
  ) async throws -> URL {
    let whole = place.appendingPathExtension("mlmodelcassets")
    if let sha256 = expected.sha256,
      await (try? offload({ try InputFile(whole).sha256() })) == sha256
    {
      return whole
    }
    let part = try PartialFile(place)
    defer { part.release() }
    if url.isFileURL {
      try await offload { try part.copy(url, limit: limit) }
    } else {
      try await Transfer(url, part, limit: limit, progress).run()
    }
    try await offload {
      let file = try InputFile(part.url)
      if let bytes = expected.bytes, file.size != bytes {
        throw GessoError.download(url: url.absoluteString, reason: "it has \(file.size) bytes, expected \(bytes)")
      }
      if let sha256 = expected.sha256 {
        let found = try file.sha256()
        guard found == sha256 else {
          part.discard()
          throw GessoError.hash(file: url.absoluteString, expected: sha256, found: found)
        }
      }
      try part.finish(as: whole)
    }
    return whole
  }

  /// Removes downloads that nobody works on.
  func removeDownloads() throws {
    for name in try onFiles(folder.downloads, { try FileManager.default.contentsOfDirectory(atPath: folder.downloads.path) })
    where jobs["download \(name.prefix { $0 != "." })"] == nil {
      try folder.removed(folder.downloads.appendingPathComponent(name))
    }
  }
}

/// A download that is not whole yet: `<key>.part`, and in `<key>.tag` how the server names the version that it is of.
final class PartialFile: Sendable {
  let url: URL
  private let note: URL
  private let descriptor: Int32

  /// Opens what is there, or something new, for this process alone.
  init(_ place: URL) throws {
    url = place.appendingPathExtension("part")
    note = place.appendingPathExtension("tag")
    descriptor = open(url.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw GessoError.posix(errno, url) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw GessoError.download(url: url.path, reason: "another process downloads it")
    }
  }

  deinit { close(descriptor) }

  /// Lets others go on with it.
  func release() { flock(descriptor, LOCK_UN) }

  /// Bytes so far.
  var size: Int {
    var status = stat()
    return fstat(descriptor, &status) == 0 ? Int(status.st_size) : 0
  }

  /// How the server names the version that the bytes are of.
  var tag: String? {
    get { try? String(contentsOf: note, encoding: .utf8) }
    set {
      // Without the note the next try starts from the beginning.
      if let newValue { try? Data(newValue.utf8).write(to: note) } else { unlink(note.path) }
    }
  }

  /// Starts from the beginning.
  func restart() throws {
    guard ftruncate(descriptor, 0) == 0, lseek(descriptor, 0, SEEK_SET) == 0 else { throw GessoError.posix(errno, url) }
  }

  /// Adds bytes at the end.
  func append(_ bytes: UnsafeRawBufferPointer) throws {
    lseek(descriptor, 0, SEEK_END)
    var done = 0
    while done < bytes.count {
      let put = write(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
      if put < 0 && errno == EINTR { continue }
      guard put >= 0 else { throw GessoError.posix(errno, url) }
      done += put
    }
  }

  /// Copies a file in place of the bytes so far.
  func copy(_ source: URL, limit: Int) throws {
    let file = try InputFile(source)
    guard file.size <= limit else { throw GessoError.tooLarge(file: source.path, limit: limit, found: file.size) }
    try restart()
    try file.stream(at: 0, count: file.size, append)
  }

  /// Moves the whole file to its place.
  func finish(as whole: URL) throws {
    guard fsync(descriptor) == 0, rename(url.path, whole.path) == 0 else { throw GessoError.posix(errno, whole) }
    unlink(note.path)
  }

  /// Removes the bytes: they are of something else.
  func discard() {
    unlink(url.path)
    unlink(note.path)
  }
}
