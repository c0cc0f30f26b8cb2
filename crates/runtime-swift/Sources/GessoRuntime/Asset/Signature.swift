import Foundation

/// Which assets a manager takes.
///
/// The asset form has room for a signature (`signature` in `manifest.json`) and does not say yet how one is made; Gesso writes
/// none. An app that signs its own assets says here how it checks them: the manifest lists the hash of every other byte of the
/// asset, so that a signature over the manifest covers all of it.
public struct SignaturePolicy: Sendable {
  let verify: (@Sendable (_ manifest: Data, _ signature: String) throws -> Bool)?

  /// Signatures are not looked at.
  public static let unsigned = SignaturePolicy(verify: nil)

  /// Every asset must have a signature that `verify` accepts.
  ///
  /// - Parameter verify: Gets the bytes of `manifest.json` with the value of `signature` replaced by `null`, and that value.
  public static func required(
    _ verify: @escaping @Sendable (_ manifest: Data, _ signature: String) throws -> Bool
  ) -> SignaturePolicy { SignaturePolicy(verify: verify) }

  /// Checks the manifest of an asset, nil for a package alone; `file` is for messages.
  func check(_ manifest: AssetManifest?, _ bytes: Data, _ file: URL) throws {
    guard let verify else { return }
    guard let signature = manifest?.signature, let signed = Self.unsigned(bytes, signature) else {
      throw GessoError.unsigned(file: file.path)
    }
    guard try verify(signed, signature) else { throw GessoError.badSignature(file: file.path) }
  }

  /// The manifest before it was signed: the one place that has `"signature": "…"` has `"signature": null`.
  static func unsigned(_ manifest: Data, _ signature: String) -> Data? {
    guard let text = String(data: manifest, encoding: .utf8), !signature.contains(where: { "\"\\".contains($0) }) else {
      return nil
    }
    let parts = text.components(separatedBy: "\"signature\": \"\(signature)\"")
    return parts.count == 2 ? Data(parts.joined(separator: "\"signature\": null").utf8) : nil
  }
}
