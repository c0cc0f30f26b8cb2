import Foundation

/// Adapters that are used together, each with its strength. A value: changing it costs nothing until it is put into slots.
public struct AdapterSet: Sendable, Equatable {
  /// An adapter with its strengths. 0 leaves it out, negative ones take the style away.
  public struct Member: Sendable, Equatable {
    /// The adapter.
    public let adapter: Adapter
    /// Strength for the UNet.
    public var unet: Float
    /// Strength for the text encoder.
    public var textEncoder: Float

    /// An adapter with its own default strength, or another one.
    public init(_ adapter: Adapter, strength: Float? = nil) {
      self.init(
        adapter, unet: strength ?? adapter.manifest.defaultStrength,
        textEncoder: strength ?? adapter.manifest.defaultStrength)
    }

    /// An adapter with a strength for each component.
    public init(_ adapter: Adapter, unet: Float, textEncoder: Float) {
      self.adapter = adapter
      self.unet = unet
      self.textEncoder = textEncoder
    }

    func strength(_ component: String) -> Float { component == "unet" ? unet : textEncoder }
  }

  /// In the order in which they are stacked.
  public var members: [Member]

  /// A set of these members; without any it is the base alone.
  public init(_ members: [Member] = []) { self.members = members }

  /// Checks that every adapter that does something fits a base's slots.
  ///
  /// - Parameters:
  ///   - table: The slots of one component.
  ///   - base: Name of the base, for messages.
  ///   - sourceHash: `source_hash` in the base's `gesso.json`, nil when it is not known.
  /// - Throws: ``GessoError/layout(adapter:component:expected:found:)``;
  ///   ``GessoError/otherBase(adapter:base:expected:found:)`` for an adapter that depends on the weights of another base.
  public func check(fits table: SlotTable, of base: String, sourceHash: String?) throws {
    for member in active(table.component) {
      let factors = member.factors
      guard factors.layoutHash == table.layoutHash else {
        throw GessoError.layout(
          adapter: member.name, component: table.component, expected: table.layoutHash, found: factors.layoutHash)
      }
      if let wanted = member.source, wanted != sourceHash {
        throw GessoError.otherBase(
          adapter: member.name, base: base, expected: wanted, found: sourceHash ?? "a base without `gesso.json`")
      }
    }
  }

  /// An adapter that changes a component.
  struct Active {
    let name: String
    let source: String?
    let factors: AdapterFactors
    let strength: Float
  }

  /// The members that change a component, in order.
  func active(_ component: String) -> [Active] {
    members.compactMap { member in
      let strength = member.strength(component)
      guard strength != 0, let factors = member.adapter.factors[component] else { return nil }
      return Active(
        name: member.adapter.name, source: member.adapter.manifest.baseSourceHash, factors: factors, strength: strength)
    }
  }

  /// One run of numbers from an adapter into an input.
  struct Copy: Equatable {
    /// Input `adapter_W`.
    let width: Int
    /// Vector of W numbers in `[n_W · R]` that it starts with.
    let to: Int
    /// Number of vectors.
    let count: Int
    /// Which of the active members.
    let member: Int
    /// Vector of W numbers in the adapter's `[m_W · r]`.
    let from: Int
    /// What the numbers are multiplied with.
    let gain: Float
  }

  /// How the members are put into slots: each factor goes to the row of its module, behind those of the members before it.
  ///
  /// - Throws: ``GessoError/stack(adapters:module:rank:slots:needed:)``, ``GessoError/layout(adapter:component:expected:found:)``,
  ///   ``GessoError/strength(adapter:component:value:)``.
  func copies(into table: SlotTable) throws -> [Copy] {
    let active = active(table.component)
    try checkRanks(active, table)
    var taken: [SlotRow: Int] = [:]
    var copies: [Copy] = []
    for (index, member) in active.enumerated() {
      let rank = member.factors.rank
      let reach = member.factors.largestUp * abs(member.strength)
      // Half a step above the largest number rounds to infinity.
      guard member.strength.isFinite, reach < 65520 else {
        throw GessoError.strength(adapter: member.name, component: table.component, value: member.strength)
      }
      for row in member.factors.rows {
        guard let slot = table.row(row.module, row.role), slot.width == row.width, slot.taps == row.taps else {
          throw GessoError.layout(
            adapter: member.name, component: table.component, expected: table.layoutHash,
            found: "one with a row of width \(row.width) for `\(row.module.printable)`")
        }
        let start = taken[slot, default: 0]
        taken[slot] = start + rank
        copies.append(
          Copy(
            width: row.width, to: slot.row * table.rank + start * row.taps, count: rank * row.taps, member: index,
            from: row.row * rank, gain: row.role == .up ? member.strength : 1))
      }
    }
    return copies
  }

  private func checkRanks(_ active: [Active], _ table: SlotTable) throws {
    var sums: [String: Int] = [:]
    for member in active {
      for row in member.factors.rows { sums["\(row.role.rawValue) \(row.module)", default: 0] += member.factors.rank }
    }
    guard let most = sums.max(by: { ($0.value, $1.key) < ($1.value, $0.key) }), most.value > table.rank else { return }
    throw GessoError.stack(
      adapters: active.map { "`\($0.name)` (rank \($0.factors.rank))" },
      module: String(most.key.drop { $0 != " " }.dropFirst()), rank: most.value, slots: table.rank,
      needed: (most.value + 31) / 32 * 32)
  }
}
