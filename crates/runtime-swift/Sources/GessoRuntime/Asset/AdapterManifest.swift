import Foundation

/// Which factor a row carries.
public enum SlotRole: String, Codable, Sendable, Hashable {
  /// `down [R, I]`.
  case down
  /// `up`, transposed to `[R, O]`.
  case up
}

/// The row of one factor in an input or output `adapter_W [rows, rank, W]`; of a convolution's `down` the first of its rows.
public struct SlotRow: Decodable, Sendable, Hashable {
  /// `unet` or `text_encoder`.
  public let component: String
  /// Module path in diffusers' words.
  public let module: String
  /// Width W: that of the module's input for `down`, of its output for `up`.
  public let width: Int
  /// Which factor.
  public let role: SlotRole
  /// Index along axis 0.
  public let row: Int
  /// Rows that the factor takes: the elements of a convolution's kernel for `down`, else 1.
  public let taps: Int

  /// A row by its fields.
  public init(component: String, module: String, width: Int, role: SlotRole, row: Int, taps: Int = 1) {
    self.component = component
    self.module = module
    self.width = width
    self.role = role
    self.row = row
    self.taps = taps
  }

  enum CodingKeys: String, CodingKey {
    case component, module, width, role, row, taps
  }

  /// Reads a row as it stands in files, where one tap is not written.
  public init(from decoder: any Decoder) throws {
    let fields = try decoder.container(keyedBy: CodingKeys.self)
    component = try fields.decode(String.self, forKey: .component)
    module = try fields.decode(String.self, forKey: .module)
    width = try fields.decode(Int.self, forKey: .width)
    role = try fields.decode(SlotRole.self, forKey: .role)
    row = try fields.decode(Int.self, forKey: .row)
    taps = try fields.decodeIfPresent(Int.self, forKey: .taps) ?? 1
  }

  /// Largest width that a reader accepts.
  static let widest = 16384
  /// Most elements of a kernel that a reader accepts.
  static let mostTaps = 49
}

extension [SlotRow] {
  /// What is wrong with a table of rows, if anything is: `components` are those that it may name.
  func problem(among components: some Collection<String>) -> String? {
    var seen: Set<[String]> = []
    var numbers: [String: Set<Int>] = [:]
    for row in self {
      let name = "`rows`: `\(row.component.printable):\(row.module.printable)` \(row.role.rawValue)"
      if !components.contains(row.component) { return "\(name): the component is not among `components`" }
      if row.width < 1 || row.width > SlotRow.widest { return "\(name): width \(row.width)" }
      if row.taps < 1 || row.taps > SlotRow.mostTaps || (row.role == .up && row.taps != 1) {
        return "\(name): \(row.taps) taps"
      }
      if row.row < 0 || row.row > 1 << 24 { return "\(name): not numbered from 0 without gaps" }
      let isNew = seen.insert([row.component, row.module, row.role.rawValue]).inserted
      let width = "\(row.component) width \(row.width)"
      let isFree = (row.row..<row.row + row.taps).allSatisfy { numbers[width, default: []].insert($0).inserted }
      if !isNew || !isFree { return "\(name): listed twice" }
    }
    let gap = numbers.sorted { $0.key < $1.key }.first { ($0.value.max() ?? 0) >= $0.value.count }
    return gap.map { "`rows`: `\($0.key)`: the rows are not numbered from 0 without gaps" }
  }
}

/// Size and hash of a member of an archive.
public struct AssetMember: Codable, Sendable, Equatable {
  /// In bytes.
  public let size: Int
  /// 64 lower-case hexadecimal digits.
  public let sha256: String
}

/// What an adapter asset says about itself (`docs/adapter-format.md` section 2).
public struct AdapterManifest: Decodable, Sendable, Equatable {
  /// One component of an adapter.
  public struct Component: Codable, Sendable, Equatable {
    /// Name of the package in the archive.
    public let package: String
    /// Layout hash of the slots that it was made for.
    public let layoutHash: String
    /// Rank r of its factors.
    public let rank: Int

    enum CodingKeys: String, CodingKey {
      case package, rank
      case layoutHash = "layout_hash"
    }
  }

  /// Version of the form.
  public let schema: Int
  /// Oldest reader that can use the asset.
  public let minReader: Int
  /// Name of the adapter.
  public let name: String
  /// Highest rank of its components.
  public let rank: Int
  /// Strength that an app starts with.
  public var defaultStrength: Float { Float(strength) }
  private let strength: Double
  /// Words that a prompt should have.
  public let triggerWords: [String]
  /// How a few-step release wants to be sampled.
  public let schedulerHint: SchedulerHint?
  /// Author, when the LoRA file names one.
  public let author: String?
  /// Licence, when the LoRA file names one.
  public let license: String?
  /// Metadata of the LoRA file as it was.
  public let metadata: [String: String]
  /// Source hash of the only base that it fits, when its factors depend on that base's weights.
  public let baseSourceHash: String?
  /// The components that it touches, by name.
  public let components: [String: Component]
  /// Which row carries which factor of which module.
  public let rows: [SlotRow]
  /// Every member of the archive but the manifest.
  public let members: [String: AssetMember]
  /// The signature, when there is one.
  public let signature: String?

  enum CodingKeys: String, CodingKey {
    case schema, name, rank, author, license, metadata, components, rows, members, signature
    case minReader = "min_reader"
    case strength = "default_strength"
    case triggerWords = "trigger_words"
    case schedulerHint = "scheduler_hint"
    case baseSourceHash = "base_source_hash"
  }

  static let kind = "gesso.adapter"
  /// Version of this reader of adapters.
  static let reader = 3
  private static let highestRank = 4096
  /// Members of an adapter package, without the package's name.
  static let packageFiles = [
    "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin", "Manifest.json",
  ]

  /// What is wrong with the fields, if anything is.
  var problem: String? {
    if schema < 1 { return "`schema` is \(schema)" }
    if !defaultStrength.isFinite { return "`default_strength` is not a number" }
    if let problem = schedulerHint?.problem { return problem }
    if components.isEmpty { return "`components` is empty" }
    for (component, info) in components.sorted(by: { $0.key < $1.key }) {
      let shown = component.printable
      if info.package != component + ".mlpackage" || StoredArchive.unsafeName(info.package) != nil
        || component.contains("/")
      {
        return "`components`: `\(shown)` has package `\(info.package.printable)`"
      }
      if info.rank < 1 || info.rank > Self.highestRank { return "`components`: `\(shown)` has rank \(info.rank)" }
    }
    if let hash = baseSourceHash, !SHA256.isHash(hash) { return "`base_source_hash` is no SHA-256" }
    return rows.problem(among: components.keys)
  }
}
