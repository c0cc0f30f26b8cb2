@preconcurrency import CoreML
import Foundation

/// The adapter slots of a program: which row of which input `adapter_W` carries which factor of which module
/// (`docs/adapter-format.md` section 1).
public struct SlotTable: Sendable, Equatable {
  /// `unet` or `text_encoder`.
  public let component: String
  /// Rank R of every row.
  public let rank: Int
  /// The rows.
  public let rows: [SlotRow]
  /// Says whether an adapter fits.
  public let layoutHash: String
  /// Number of rows of each input, by width.
  public let widths: [Int: Int]
  private let places: [Place: SlotRow]

  private struct Place: Hashable {
    let module: String
    let role: SlotRole
  }

  /// A table of these rows, all of one component.
  ///
  /// - Throws: ``GessoError/manifest(file:reason:)`` for rows that contradict each other.
  public init(component: String, rank: Int, rows: [SlotRow], file: String = "gesso.rows") throws {
    if let problem = rows.problem(among: [component]) { throw GessoError.manifest(file: file, reason: problem) }
    guard rank > 0, rank <= 4096 else { throw GessoError.manifest(file: file, reason: "slots of rank \(rank)") }
    self.component = component
    self.rank = rank
    self.rows = rows
    places = Dictionary(uniqueKeysWithValues: rows.map { (Place(module: $0.module, role: $0.role), $0) })
    widths = rows.reduce(into: [:]) { $0[$1.width, default: 0] += $1.taps }
    layoutHash = try Self.hash(rows, file)
  }

  /// The slots that a loaded model says it has; `name` is for messages.
  ///
  /// - Throws: ``GessoError/noSlots(base:component:)`` for a model without slots; ``GessoError/manifest(file:reason:)`` and
  ///   ``GessoError/factors(adapter:tensor:expected:found:)`` for one whose table and inputs differ.
  public init(of model: MLModelDescription, name: String) throws {
    let metadata = model.metadata[.creatorDefinedKey] as? [String: String] ?? [:]
    let component = metadata["gesso.component"] ?? "model"
    guard let text = metadata["gesso.rows"], let rank = metadata["gesso.adapter_rank"].flatMap(Int.init) else {
      throw GessoError.noSlots(base: name, component: component)
    }
    let rows: [SlotRow]
    do {
      rows = try JSONText.decode([SlotRow].self, from: Data(text.utf8))
    } catch {
      let reason = (error as? JSONText.Problem)?.reason ?? (error as? DecodingError)?.sentence ?? "\(error)"
      throw GessoError.manifest(file: name, reason: "`gesso.rows`: \(reason)")
    }
    try self.init(component: component, rank: rank, rows: rows, file: name)
    if let hash = metadata["gesso.layout_hash"], hash != layoutHash {
      throw GessoError.manifest(file: name, reason: "`gesso.layout_hash` is \(hash), its rows have \(layoutHash)")
    }
    for width in widths.keys.sorted() {
      let tensor = Self.inputName(width)
      let found = Declared(tensor, of: model)?.shape ?? []
      let expected = shape(width)
      guard found == expected else {
        throw GessoError.factors(adapter: name, tensor: tensor, expected: expected, found: found)
      }
    }
  }

  /// Name of the input that carries the rows of a width.
  public static func inputName(_ width: Int) -> String { "adapter_\(width)" }

  /// `[n_W, R, W]`.
  public func shape(_ width: Int) -> [Int] { [widths[width] ?? 0, rank, width] }

  func row(_ module: String, _ role: SlotRole) -> SlotRow? { places[Place(module: module, role: role)] }

  /// SHA-256 over one line per module.
  private static func hash(_ rows: [SlotRow], _ file: String) throws -> String {
    var ups: [String: Int] = [:]
    for row in rows where row.role == .up { ups[row.module] = row.width }
    let downs = rows.filter { $0.role == .down }
    guard downs.count == ups.count else {
      throw GessoError.manifest(file: file, reason: "its rows have \(downs.count) `down` and \(ups.count) `up`")
    }
    var hash = SHA256()
    for row in downs.sorted(by: { $0.module.utf8.lexicographicallyPrecedes($1.module.utf8) }) {
      let side = Int(Double(row.taps).squareRoot())
      guard let outputs = ups[row.module], side * side == row.taps else {
        throw GessoError.manifest(file: file, reason: "module `\(row.module.printable)` has no `up`, or no square kernel")
      }
      let kernel = side == 1 ? "" : " \(side)x\(side)"
      hash.update(Data("\(row.component):\(row.module) \(row.width) \(outputs)\(kernel)\n".utf8))
    }
    return hash.finish()
  }
}

/// How a model declares the array of a row table.
struct Declared {
  let shape: [Int]
  let type: MLMultiArrayDataType
  /// Whether it is a state, which is written once, instead of an input.
  let isState: Bool

  /// The input or state `name`; nil when there is none.
  init?(_ name: String, of model: MLModelDescription) {
    if let input = model.inputDescriptionsByName[name]?.multiArrayConstraint {
      (shape, type, isState) = (input.shape.map(\.intValue), input.dataType, false)
      return
    }
    guard #available(iOS 18, macOS 15, *), let state = model.stateDescriptionsByName[name]?.stateConstraint else {
      return nil
    }
    (shape, type, isState) = (state.bufferShape, state.dataType, true)
  }
}
