import Foundation

/// What a delta says about itself (`docs/adapter-format.md` section 5).
public struct DeltaManifest: Decodable, Sendable, Equatable {
  /// A LoRA in the delta, with the strengths at which it was merged.
  public struct Lora: Codable, Sendable, Equatable {
    /// Name of the LoRA.
    public let name: String
    /// Strength for the UNet.
    public let unet: Float
    /// Strength for the text encoder.
    public let textEncoder: Float

    enum CodingKeys: String, CodingKey {
      case name, unet
      case textEncoder = "text_encoder"
    }
  }

  /// A weight file that changes.
  public struct WeightFile: Decodable, Sendable, Equatable {
    /// Whose weights it holds.
    public let component: String
    /// The package that it belongs to; others may share it.
    public let package: String
    /// Name of the member with the new bytes.
    public let data: String
    /// Size in bytes, before and after.
    public let size: Int
    /// SHA-256 of the base's file.
    public let before: String
    /// SHA-256 with all patches.
    public let after: String
    /// What is replaced, ascending and without overlap.
    public let patches: [Patch]

    /// Bytes that are replaced; nil when there is no such number.
    var patched: Int? {
      patches.reduce(0 as Int?) { sum, patch in
        guard let (value, overflow) = sum.map({ $0.addingReportingOverflow(patch.length) }), !overflow else { return nil }
        return value
      }
    }
  }

  /// A run of bytes that is replaced.
  public struct Patch: Decodable, Sendable, Equatable {
    /// The tensor that it belongs to; for people.
    public let tensor: String
    /// First byte in the weight file.
    public let offset: Int
    /// Number of bytes.
    public let length: Int
    /// SHA-256 of the new bytes.
    public let sha256: String
  }

  /// Version of the form.
  public let schema: Int
  /// Oldest reader that can use the delta.
  public let minReader: Int
  /// Name of the style.
  public let name: String
  /// What was merged.
  public let loras: [Lora]
  /// Words that a prompt should have.
  public let triggerWords: [String]
  /// Author, when the LoRA file names one.
  public let author: String?
  /// Licence, when the LoRA file names one.
  public let license: String?
  /// Source hash of the base.
  public let baseSourceHash: String
  /// The weight files that change.
  public let files: [WeightFile]
  /// Every member of the archive but the manifest.
  public let members: [String: AssetMember]
  /// The signature, when there is one.
  public let signature: String?

  enum CodingKeys: String, CodingKey {
    case schema, name, loras, author, license, files, members, signature
    case minReader = "min_reader"
    case triggerWords = "trigger_words"
    case baseSourceHash = "base_source_hash"
  }

  static let kind = "gesso.delta"
  /// Version of this reader of deltas.
  static let reader = 1

  /// What is wrong with the fields, if anything is.
  var problem: String? {
    if schema < 1 { return "`schema` is \(schema)" }
    if files.isEmpty { return "`files` is empty" }
    var names: Set<String> = []
    var hashes: Set<String> = []
    for file in files {
      if !names.insert(file.data).inserted { return "`files`: member `\(file.data.printable)` is used twice" }
      if !hashes.insert(file.before).inserted { return "`files`: `\(file.before.printable)` is changed twice" }
      var problem = file.problem
      if problem == nil, let member = members[file.data], member.size != file.patched {
        problem = "its patches do not have the size of `\(file.data)`"
      }
      if let problem { return "`files`: `\(file.package.printable)`: \(problem)" }
    }
    let unlisted = members.keys.sorted().first { !names.contains($0) }
    return unlisted.map { "`members`: `\($0.printable)` is no part of a delta" }
  }
}

extension DeltaManifest.WeightFile {
  fileprivate var problem: String? {
    if !["unet", "text_encoder", "text_encoder_2", "vae"].contains(component) {
      return "`\(component.printable)` is no component"
    }
    let hasFolder = data.contains("/") ? "it has a folder" : nil
    if let reason = StoredArchive.unsafeName(data) ?? hasFolder { return "`\(data.printable)`: \(reason)" }
    if !SHA256.isHash(before) || !SHA256.isHash(after) { return "`before` or `after` is no SHA-256" }
    if patches.isEmpty { return "`patches` is empty" }
    var free = 0
    for patch in patches {
      let name = patch.tensor.printable
      let (end, overflow) = patch.offset.addingReportingOverflow(patch.length)
      guard patch.length > 0, patch.offset >= free, !overflow, end <= size else {
        return "the patch of `\(name)`, \(patch.length) bytes from \(patch.offset), is empty, overlaps the one before, or "
          + "reaches beyond the \(size) bytes"
      }
      if !SHA256.isHash(patch.sha256) { return "`sha256` of the patch of `\(name)` is no SHA-256" }
      free = end
    }
    return nil
  }
}
