@preconcurrency import CoreML
import Foundation

/// The slot inputs of one loaded adaptable model. They are filled in place: changing the style neither compiles nor loads nor
/// copies anything of the base.
///
/// ```swift
/// let slots = try SlotInputs(model: unet, name: "UnetAdaptable", sourceHash: base.sourceHash)
/// try slots.fuse(AdapterSet([.init(sketch, strength: 0.8)]))
/// // give `slots.features` with every prediction
/// slots.unfuse()
/// ```
///
/// Not for several threads at a time: whoever predicts with the model owns it.
public final class SlotInputs {
  /// The model's slots.
  public let table: SlotTable
  /// Whether the slots are states of the model instead of inputs: then ``write(to:)`` puts them there.
  public let areStates: Bool
  /// What is in the slots.
  public private(set) var fused = AdapterSet()
  private let name: String
  private let sourceHash: String?
  private let types: [Int: MLMultiArrayDataType]
  private var arrays: [Int: MLMultiArray] = [:]
  /// Vectors of each array that are not zero.
  private var filled: [Int: [Range<Int>]] = [:]

  /// The slots of a loaded model, empty.
  ///
  /// - Parameters:
  ///   - model: An adaptable model.
  ///   - name: Its name, for messages.
  ///   - sourceHash: `source_hash` in the base's `gesso.json`, nil when it is not known.
  /// - Throws: ``GessoError/noSlots(base:component:)`` for a model without slots.
  public convenience init(model: MLModel, name: String, sourceHash: String?) throws {
    let description = model.modelDescription
    let table = try SlotTable(of: description, name: name)
    var types: [Int: MLMultiArrayDataType] = [:]
    var areStates = false
    for width in table.widths.keys {
      guard let declared = Declared(SlotTable.inputName(width), of: description) else { continue }
      types[width] = declared.type
      areStates = areStates || declared.isState
    }
    try self.init(table: table, types: types, areStates: areStates, name: name, sourceHash: sourceHash)
  }

  /// Slots of this table, whose inputs have these dtypes by width.
  init(
    table: SlotTable, types: [Int: MLMultiArrayDataType], areStates: Bool = false, name: String, sourceHash: String?
  ) throws {
    self.table = table
    self.areStates = areStates
    self.types = types
    self.name = name
    self.sourceHash = sourceHash
    for width in table.widths.keys.sorted() where types[width] != .float16 && types[width] != .float32 {
      throw GessoError.model(file: name, reason: "input `\(SlotTable.inputName(width))` is neither fp16 nor fp32")
    }
  }

  /// The inputs to give with every prediction, by name; none when nothing is in the slots, which the model takes for zeros.
  public var features: [String: MLFeatureValue] {
    var features: [String: MLFeatureValue] = [:]
    if areStates { return features }
    for (width, array) in arrays where filled[width] != nil {
      features[SlotTable.inputName(width)] = MLFeatureValue(multiArray: array)
    }
    return features
  }

  /// Puts adapters into the slots in place of what is there.
  ///
  /// - Throws: ``GessoError`` when one does not fit; the slots are then as they were.
  public func fuse(_ set: AdapterSet) throws {
    guard set != fused else { return }
    try set.check(fits: table, of: name, sourceHash: sourceHash)
    let copies = try set.copies(into: table)
    let active = set.active(table.component)
    for width in Set(copies.map(\.width)) where arrays[width] == nil { arrays[width] = try zeros(width) }
    unfuse()
    for copy in copies {
      guard let array = arrays[copy.width], let from = active[copy.member].factors.tensors[copy.width] else { continue }
      try write(copy, from, to: array)
      filled[copy.width, default: []].append(copy.to..<copy.to + copy.count)
    }
    fused = set
  }

  /// Empties the slots: the model is the base again, exactly.
  public func unfuse() {
    for (width, ranges) in filled {
      guard let array = arrays[width] else { continue }
      eachVector(of: array, width) { vector in
        for range in ranges { for index in range { vector(index).initializeMemory(as: UInt8.self, repeating: 0) } }
      }
    }
    filled = [:]
    fused = AdapterSet()
  }

  /// Writes what is in the slots into a state of the model, for predictions that use that state.
  ///
  /// - Throws: ``GessoError/factors(adapter:tensor:expected:found:)`` for a state of another model.
  @available(iOS 18, macOS 15, *)
  public func write(to state: MLState) throws {
    for width in table.widths.keys.sorted() {
      let source = try arrays[width] ?? zeros(width)
      let tensor = SlotTable.inputName(width)
      try state.withMultiArray(for: tensor) { target in
        guard target.shape == source.shape, target.dataType == source.dataType, target.strides.last == 1 else {
          throw GessoError.factors(
            adapter: name, tensor: tensor, expected: table.shape(width), found: target.shape.map(\.intValue))
        }
        eachVector(of: source, width) { from in
          eachVector(of: target, width) { to in
            for index in 0..<(table.widths[width] ?? 0) * table.rank {
              to(index).copyMemory(from: UnsafeRawBufferPointer(from(index)))
            }
          }
        }
      }
    }
  }

  /// Runs `body` with adapters in the slots, and puts back what was there.
  public func withFused<Value>(_ set: AdapterSet, _ body: ([String: MLFeatureValue]) throws -> Value) throws -> Value {
    let before = fused
    try fuse(set)
    defer { try? fuse(before) }
    return try body(features)
  }

  private func zeros(_ width: Int) throws -> MLMultiArray {
    let shape = table.shape(width)
    do {
      let array = try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: types[width] ?? .float16)
      array.withUnsafeMutableBytes { bytes, _ in _ = bytes.initializeMemory(as: UInt8.self, repeating: 0) }
      guard array.strides.last == 1 else { throw GessoError.model(file: name, reason: "Core ML made an array with gaps") }
      return array
    } catch let error where !(error is GessoError) {
      throw GessoError.model(file: name, reason: "no room for the slots \(shape): \(error.localizedDescription)")
    }
  }

  private func write(_ copy: AdapterSet.Copy, _ from: [UInt16], to array: MLMultiArray) throws {
    let width = copy.width
    let isHalf = array.dataType == .float16
    from.withUnsafeBufferPointer { from in
      eachVector(of: array, width) { vector in
        for index in 0..<copy.count {
          let source = UnsafeBufferPointer(rebasing: from[(copy.from + index) * width..<(copy.from + index + 1) * width])
          let target = vector(copy.to + index)
          if isHalf && copy.gain == 1 {
            target.copyMemory(from: UnsafeRawBufferPointer(source))
          } else if isHalf {
            let numbers = target.assumingMemoryBound(to: UInt16.self)
            for k in 0..<width { numbers[k] = HalfFloat.bits(copy.gain * HalfFloat.number(source[k])) }
          } else {
            let numbers = target.assumingMemoryBound(to: Float.self)
            for k in 0..<width { numbers[k] = copy.gain * HalfFloat.number(source[k]) }
          }
        }
      }
    }
  }

  /// Gives a way to the vectors of W numbers of `[n_W, R, W]`, counted over the first two axes.
  private func eachVector(
    of array: MLMultiArray, _ width: Int, _ body: ((Int) -> UnsafeMutableRawBufferPointer) -> Void
  ) {
    let rank = table.rank
    let size = array.dataType == .float16 ? 2 : 4
    array.withUnsafeMutableBytes { bytes, strides in
      body { index in
        let offset = index / rank * strides[0] + index % rank * strides[1]
        return UnsafeMutableRawBufferPointer(rebasing: bytes[offset * size..<(offset + width) * size])
      }
    }
  }
}
