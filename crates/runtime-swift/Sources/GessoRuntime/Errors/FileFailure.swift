import Foundation

extension GessoError {
  /// The failure that `errno` names, of work on `url`.
  static func posix(_ code: Int32, _ url: URL) -> GessoError {
    switch code {
    case ENOSPC, EDQUOT: .diskFull(path: url.path)
    case EROFS, EACCES, EPERM: .readOnly(path: url.path)
    default: .io(path: url.path, reason: String(cString: strerror(code)))
    }
  }

  /// Any error of Foundation's file functions about `url`; one of ours stays as it is.
  static func wrapping(_ error: any Error, _ url: URL) -> any Error {
    if error is GessoError || error is CancellationError { return error }
    if let code = posixCode(of: error as NSError) { return posix(code, url) }
    switch (error as? CocoaError)?.code {
    case .fileWriteOutOfSpace?: return GessoError.diskFull(path: url.path)
    case .fileWriteVolumeReadOnly?, .fileWriteNoPermission?: return GessoError.readOnly(path: url.path)
    default: return GessoError.io(path: url.path, reason: error.localizedDescription)
    }
  }

  private static func posixCode(of error: NSError) -> Int32? {
    if error.domain == NSPOSIXErrorDomain { return Int32(error.code) }
    return (error.userInfo[NSUnderlyingErrorKey] as? NSError).flatMap(posixCode(of:))
  }
}

/// Runs work on files; its errors become ``GessoError``.
func onFiles<Value>(_ url: URL, _ body: () throws -> Value) throws -> Value {
  do {
    return try body()
  } catch {
    throw GessoError.wrapping(error, url)
  }
}
