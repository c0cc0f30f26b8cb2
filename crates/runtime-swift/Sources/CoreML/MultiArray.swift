import Foundation

/// An array of numbers in memory: a shape, strides in elements, a dtype.
open class MLMultiArray: NSObject {
  public let dataType: MLMultiArrayDataType
  let sizes: [Int]
  let steps: [Int]
  private let memory: UnsafeMutableRawPointer
  private let release: (UnsafeMutableRawPointer) -> Void

  init(
    memory: UnsafeMutableRawPointer, sizes: [Int], dataType: MLMultiArrayDataType, steps: [Int],
    release: @escaping (UnsafeMutableRawPointer) -> Void
  ) {
    self.memory = memory
    self.sizes = sizes
    self.dataType = dataType
    self.steps = steps
    self.release = release
  }

  deinit { release(memory) }

  /// New memory; it is filled with zeros, which Apple does not promise.
  convenience init(allocating sizes: [Int], dataType: MLMultiArrayDataType, steps: [Int]) throws {
    guard let extent = Layout.extent(sizes, steps), let bytes = extent.times(dataType.size) else {
      throw MLModelError(.generic, "an array of shape \(sizes) with strides \(steps) cannot be made")
    }
    let memory = UnsafeMutableRawPointer.allocate(byteCount: max(bytes, 1), alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
    self.init(memory: memory, sizes: sizes, dataType: dataType, steps: steps) { $0.deallocate() }
  }

  public convenience init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {
    let sizes = shape.map(\.intValue)
    try self.init(allocating: sizes, dataType: dataType, steps: Layout.rowMajor(sizes))
  }

  public convenience init(shape: [Int], dataType: MLMultiArrayDataType, strides: [Int]) {
    let extent = Layout.extent(shape, strides).flatMap { $0.times(dataType.size) }
    precondition(extent != nil, "an array of shape \(shape) with strides \(strides) cannot be made")
    let bytes = extent ?? 0
    let memory = UnsafeMutableRawPointer.allocate(byteCount: max(bytes, 1), alignment: 64)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
    self.init(memory: memory, sizes: shape, dataType: dataType, steps: strides) { $0.deallocate() }
  }

  public convenience init(
    dataPointer: UnsafeMutableRawPointer, shape: [NSNumber], dataType: MLMultiArrayDataType, strides: [NSNumber],
    deallocator: ((UnsafeMutableRawPointer) -> Void)? = nil
  ) throws {
    let sizes = shape.map(\.intValue)
    let steps = strides.map(\.intValue)
    guard Layout.extent(sizes, steps).flatMap({ $0.times(dataType.size) }) != nil else {
      throw MLModelError(.generic, "an array of shape \(sizes) cannot have strides \(steps)")
    }
    self.init(memory: dataPointer, sizes: sizes, dataType: dataType, steps: steps, release: deallocator ?? { _ in })
  }

  /// The arrays one after the other along `axis`, each element converted to `dataType`.
  public convenience init(
    byConcatenatingMultiArrays multiArrays: [MLMultiArray], alongAxis axis: Int, dataType: MLMultiArrayDataType
  ) {
    var sizes = multiArrays.first?.sizes ?? []
    let place = axis < 0 ? axis + sizes.count : axis
    precondition(sizes.indices.contains(place), "no axis \(axis) in \(multiArrays.count) arrays of shape \(sizes)")
    sizes[place] = multiArrays.reduce(0) { $0 + $1.sizes[place] }
    self.init(shape: sizes, dataType: dataType, strides: Layout.rowMajor(sizes))
    var start = 0
    for array in multiArrays {
      var part = array.sizes
      part[place] = sizes[place]
      precondition(part == sizes, "arrays of shape \(array.sizes) and \(sizes) do not go together along axis \(axis)")
      let target = view
      let offset = start * target.steps[place] * dataType.size
      ElementView(memory: target.memory + offset, sizes: array.sizes, steps: target.steps, dataType: dataType)
        .fill(from: array.view)
      start += array.sizes[place]
    }
  }

  /// A one-dimensional array of doubles.
  public convenience init<C>(_ data: C) throws where C: Collection, C.Element == Double {
    try self.init(vector: data, dataType: .double)
  }

  /// A one-dimensional array of 32-bit floats.
  public convenience init<C>(_ data: C) throws where C: Collection, C.Element == Float {
    try self.init(vector: data, dataType: .float32)
  }

  /// A one-dimensional array of 32-bit integers.
  public convenience init<C>(_ data: C) throws where C: Collection, C.Element: FixedWidthInteger {
    try self.init(vector: data.lazy.map { Int32(truncatingIfNeeded: $0) }, dataType: .int32)
  }

  private convenience init<C: Collection>(vector: C, dataType: MLMultiArrayDataType) throws {
    try self.init(allocating: [vector.count], dataType: dataType, steps: [1])
    let bound = memory.bindMemory(to: C.Element.self, capacity: vector.count)
    for (index, value) in vector.enumerated() { bound[index] = value }
  }

  public var shape: [NSNumber] { sizes.map { NSNumber(value: $0) } }
  public var strides: [NSNumber] { steps.map { NSNumber(value: $0) } }
  /// Number of elements.
  public var count: Int { sizes.reduce(1, *) }
  /// First element.
  public var dataPointer: UnsafeMutableRawPointer { memory }

  /// Bytes from the first element to the end of the last.
  var byteCount: Int { (Layout.extent(sizes, steps) ?? 0) * dataType.size }
  var view: ElementView { ElementView(memory: memory, sizes: sizes, steps: steps, dataType: dataType) }

  /// The element at a place in row-major order, whatever the strides are.
  public subscript(idx: Int) -> NSNumber {
    get { number(at: Layout.offset(ofLinear: idx, sizes, steps)) }
    set { store(newValue, at: Layout.offset(ofLinear: idx, sizes, steps)) }
  }

  /// The element at an index for each dimension.
  public subscript(key: [NSNumber]) -> NSNumber {
    get { number(at: offset(of: key)) }
    set { store(newValue, at: offset(of: key)) }
  }

  /// Copies every element into another array of the same shape, converting it.
  public func transfer(to destinationMultiArray: MLMultiArray) {
    precondition(destinationMultiArray.sizes == sizes, "shape \(sizes) does not go into \(destinationMultiArray.sizes)")
    destinationMultiArray.view.fill(from: view)
  }

  open override var description: String {
    let sizes = sizes.map(String.init).joined(separator: " × ")
    return "MultiArray : \(dataType.word) \(sizes) array"
  }

  private func offset(of key: [NSNumber]) -> Int {
    precondition(key.count == sizes.count, "\(key.count) indices for an array of \(sizes.count) dimensions")
    var offset = 0
    for axis in sizes.indices {
      let index = key[axis].intValue
      precondition(index >= 0 && index < sizes[axis], "index \(index) of dimension \(axis), which has \(sizes[axis])")
      offset += index * steps[axis]
    }
    return offset
  }

  private func number(at offset: Int) -> NSNumber {
    let place = memory + offset * dataType.size
    switch dataType {
    case .double: return NSNumber(value: place.loadUnaligned(as: Double.self))
    case .float32: return NSNumber(value: place.loadUnaligned(as: Float.self))
    case .float16: return NSNumber(value: Float(place.loadUnaligned(as: Float16.self)))
    case .int32: return NSNumber(value: place.loadUnaligned(as: Int32.self))
    case .int8: return NSNumber(value: place.loadUnaligned(as: Int8.self))
    }
  }

  private func store(_ number: NSNumber, at offset: Int) {
    let place = memory + offset * dataType.size
    switch dataType {
    case .double: place.storeBytes(of: number.doubleValue, as: Double.self)
    case .float32: place.storeBytes(of: number.floatValue, as: Float.self)
    case .float16: place.storeBytes(of: Float16(number.doubleValue), as: Float16.self)
    case .int32: place.storeBytes(of: Int32(truncatingIfNeeded: number.intValue), as: Int32.self)
    case .int8: place.storeBytes(of: Int8(truncatingIfNeeded: number.intValue), as: Int8.self)
    }
  }
}
