import Foundation

/// Hashes of large files, kept in a folder so that an app's own models are not read as a whole at every start. A hash holds as
/// long as the file has the same path, size, number and time of change.
struct KnownHashes: Sendable {
  let folder: URL

  /// SHA-256 of a file, 64 hexadecimal digits; read or known.
  func hash(of file: InputFile) throws -> String {
    guard file.size >= Seal.large else { return try file.sha256() }
    let note = folder.appendingPathComponent(SHA256.hex(Data(file.identity.utf8)))
    if let known = try? String(contentsOf: note, encoding: .utf8), SHA256.isHash(known) { return known }
    let hash = try file.sha256()
    // Without a place for notes the next start reads the file again.
    try? Data(hash.utf8).write(to: note, options: .atomic)
    return hash
  }
}
