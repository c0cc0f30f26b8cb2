import Foundation

/// A file that is read at any place. Reading, unlike a memory map, ends with an error when somebody cuts the file off.
final class InputFile {
  let url: URL
  /// Bytes when it was opened.
  let size: Int
  /// When its bytes changed last, in seconds and nanoseconds.
  let changed: String
  /// Stands for the file and its content as long as nobody hides a change from the system.
  let identity: String
  private let descriptor: Int32

  /// Opens a regular file.
  init(_ url: URL) throws {
    descriptor = open(url.path, O_RDONLY | O_CLOEXEC)
    self.url = url
    guard descriptor >= 0 else {
      (size, changed, identity) = (0, "", "")
      // A file that may not be read is not a place that cannot be written.
      throw GessoError.io(path: url.path, reason: String(cString: strerror(errno)))
    }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      (size, changed, identity) = (0, "", "")
      throw GessoError.io(path: url.path, reason: "it is not a file")
    }
    size = Int(status.st_size)
    changed = status.changed
    identity = "\(url.path) \(status.st_dev) \(status.st_ino) \(status.st_size) \(status.changed)"
  }

  deinit { close(descriptor) }

  /// Exactly these bytes.
  func bytes(at offset: Int, count: Int) throws -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(count)
    try stream(at: offset, count: count) { result.append(contentsOf: $0) }
    return result
  }

  /// Hands out exactly these bytes, piece by piece.
  func stream(at offset: Int, count: Int, _ take: (UnsafeRawBufferPointer) throws -> Void) throws {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(max(count, 1), 1 << 18), alignment: 64)
    defer { buffer.deallocate() }
    var done = 0
    while done < count {
      let got = pread(descriptor, buffer.baseAddress, min(buffer.count, count - done), off_t(offset + done))
      if got < 0 && errno == EINTR { continue }
      guard got > 0 else {
        let reason = got < 0 ? String(cString: strerror(errno)) : "it ends before byte \(offset + count)"
        throw GessoError.io(path: url.path, reason: reason)
      }
      try take(UnsafeRawBufferPointer(start: buffer.baseAddress, count: got))
      done += got
    }
  }

  /// SHA-256 of the whole file, 64 hexadecimal digits.
  func sha256() throws -> String {
    var hash = SHA256()
    try stream(at: 0, count: size) { hash.update($0) }
    return hash.finish()
  }
}

extension stat {
  /// When the bytes changed last, in seconds and nanoseconds.
  var changed: String {
    #if canImport(Darwin)
      "\(st_mtimespec.tv_sec).\(st_mtimespec.tv_nsec)"
    #else
      "\(st_mtim.tv_sec).\(st_mtim.tv_nsec)"
    #endif
  }
}

/// A file that is written once from start to end.
final class OutputFile {
  let url: URL
  private var descriptor: Int32

  /// Creates the file, which must not exist; with `appending`, opens one that may.
  init(_ url: URL, appending: Bool = false) throws {
    self.url = url
    descriptor = open(url.path, O_WRONLY | O_CREAT | O_CLOEXEC | (appending ? O_APPEND : O_EXCL), 0o644)
    guard descriptor >= 0 else { throw GessoError.posix(errno, url) }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Writes all bytes.
  func write(_ bytes: UnsafeRawBufferPointer) throws {
    var done = 0
    while done < bytes.count {
      let put = systemWrite(descriptor, bytes.baseAddress.map { $0 + done }, bytes.count - done)
      if put < 0 && errno == EINTR { continue }
      guard put >= 0 else { throw GessoError.posix(errno, url) }
      done += put
    }
  }

  /// Brings the bytes to the disk and ends the file.
  func finish() throws {
    let code = fsync(descriptor) == 0 ? 0 : errno
    let closed = close(descriptor)
    descriptor = -1
    // Some places cannot be synchronised; that is no loss of bytes.
    if code == ENOSPC || code == EIO || code == EDQUOT { throw GessoError.posix(code, url) }
    guard closed == 0 else { throw GessoError.posix(errno, url) }
  }
}

/// The system's `write`, whose name the method above hides.
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}
