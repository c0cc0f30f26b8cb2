import Foundation

/// The folder of a cache.
///
/// ```text
/// <root>/entries/<key>/…, seal.json      whole entries; <key> is 64 hexadecimal digits
/// <root>/used/<key>                      empty; its time of change is that of the entry's last use
/// <root>/hashes/<key>                    SHA-256 of a large file of a package; <key> is the hash of its path, size and times
/// <root>/staging/<uuid>/…                what is being made or taken away
/// <root>/staging/<uuid>.lock             locked (`flock`) by the process that works there
/// <root>/downloads/<key>.part, …         see ``ModelManager/fetchAdapter(from:expecting:progress:)``
/// ```
///
/// An entry comes into being with one `rename` from `staging`, and goes away with one `rename` into it. What a process that
/// ended leaves in `staging` has no lock any more, and the next start removes it.
struct CacheFolder: Sendable {
  let root: URL

  var entries: URL { root.appendingPathComponent("entries", isDirectory: true) }
  var used: URL { root.appendingPathComponent("used", isDirectory: true) }
  var hashes: URL { root.appendingPathComponent("hashes", isDirectory: true) }
  var staging: URL { root.appendingPathComponent("staging", isDirectory: true) }
  var downloads: URL { root.appendingPathComponent("downloads", isDirectory: true) }

  func entry(_ key: String) -> URL { entries.appendingPathComponent(key, isDirectory: true) }

  /// Makes the folders, keeps them out of backups, and removes what processes that ended left behind.
  func prepare() throws {
    for folder in [entries, used, hashes, staging, downloads] {
      try onFiles(folder) { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) }
    }
    var values = URLResourceValues()
    values.isExcludedFromBackup = true
    var folder = root
    // A file system that has no such mark has no such backup either.
    try? folder.setResourceValues(values)
    try repair()
  }

  /// Removes leftovers in `staging`, entries without a seal, and marks of use without an entry.
  func repair() throws {
    let files = FileManager.default
    for name in try onFiles(staging, { try files.contentsOfDirectory(atPath: staging.path) }) {
      let base = name.hasSuffix(".lock") ? String(name.dropLast(5)) : name
      let lock = staging.appendingPathComponent(base + ".lock")
      guard let held = try StagingLock(existing: lock) else { continue }
      try removed(staging.appendingPathComponent(base))
      held.release()
    }
    for name in try onFiles(entries, { try files.contentsOfDirectory(atPath: entries.path) }) {
      let isWhole = SHA256.isHash(name) && files.fileExists(atPath: entry(name).appendingPathComponent(Seal.fileName).path)
      if !isWhole { try discard(entries.appendingPathComponent(name)) }
    }
    for name in try onFiles(used, { try files.contentsOfDirectory(atPath: used.path) })
    where !files.fileExists(atPath: entry(name).path) {
      try removed(used.appendingPathComponent(name))
    }
  }

  /// A new folder to make something in.
  func stage() throws -> Staging { try Staging(in: staging) }

  /// Moves a finished folder to its place. False when another process was faster.
  func commit(_ finished: URL, as key: String) throws -> Bool {
    guard rename(finished.path, entry(key).path) != 0 else { return true }
    let code = errno
    if code == ENOTEMPTY || code == EEXIST { return false }
    throw GessoError.posix(code, entry(key))
  }

  /// Takes an entry, or anything else below the root, away.
  func discard(_ url: URL) throws {
    let stage = try stage()
    defer { stage.remove() }
    if rename(url.path, stage.folder.appendingPathComponent("gone").path) != 0, errno != ENOENT {
      throw GessoError.posix(errno, url)
    }
  }

  /// Takes the entry away, and the mark of its use.
  func remove(_ key: String) throws {
    try discard(entry(key))
    try removed(used.appendingPathComponent(key))
  }

  /// Says that the entry was used. A place that cannot be written loses only the order of last use.
  func touch(_ key: String) {
    let mark = used.appendingPathComponent(key)
    if utimes(mark.path, nil) != 0 {
      try? Data().write(to: mark)
    }
  }

  /// When the entry was used last.
  func lastUse(_ key: String) -> Date {
    let time = { (url: URL) in
      (try? FileManager.default.attributesOfItem(atPath: url.path))?[.modificationDate] as? Date
    }
    return time(used.appendingPathComponent(key)) ?? time(entry(key)) ?? .distantPast
  }

  /// The keys of all entries, sorted.
  func keys() throws -> [String] {
    try onFiles(entries) { try FileManager.default.contentsOfDirectory(atPath: entries.path) }.filter(SHA256.isHash).sorted()
  }

  func removed(_ url: URL) throws {
    do {
      try FileManager.default.removeItem(at: url)
    } catch CocoaError.fileNoSuchFile {
      return
    } catch {
      throw GessoError.wrapping(error, url)
    }
  }
}

/// A folder that only its maker uses, removed when it is let go.
final class Staging: Sendable {
  let folder: URL
  private let lock: StagingLock

  fileprivate init(in parent: URL) throws {
    let name = UUID().uuidString
    lock = try StagingLock(creating: parent.appendingPathComponent(name + ".lock"))
    folder = parent.appendingPathComponent(name, isDirectory: true)
    do {
      try onFiles(folder) { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false) }
    } catch {
      lock.release()
      throw error
    }
  }

  /// Removes what is left in the folder, and the folder.
  func remove() {
    try? FileManager.default.removeItem(at: folder)
    lock.release()
  }
}

/// A file that says by its lock whether its maker still runs: the system gives the lock back when the process ends.
private final class StagingLock: Sendable {
  private let url: URL
  private let descriptor: Int32

  /// A new file, locked.
  init(creating url: URL) throws {
    self.url = url
    while true {
      let file = open(url.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
      guard file >= 0 else { throw GessoError.posix(errno, url) }
      // Between the two calls another process may take the file for a leftover and remove it.
      if flock(file, LOCK_EX | LOCK_NB) == 0, Self.isAt(url, file) {
        descriptor = file
        return
      }
      close(file)
    }
  }

  /// The lock of a file whose maker ended; nil when it still runs.
  init?(existing url: URL) throws {
    self.url = url
    descriptor = open(url.path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw GessoError.posix(errno, url) }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0, Self.isAt(url, descriptor) else {
      close(descriptor)
      return nil
    }
  }

  /// Removes the file and gives the lock back.
  func release() {
    unlink(url.path)
    close(descriptor)
  }

  private static func isAt(_ url: URL, _ descriptor: Int32) -> Bool {
    var own = stat()
    var named = stat()
    return fstat(descriptor, &own) == 0 && stat(url.path, &named) == 0 && own.st_ino == named.st_ino
      && own.st_dev == named.st_dev
  }
}
