import Foundation

/// Memory of scalars with an owner.
final class ScalarMemory<Scalar> {
  let base: UnsafeMutablePointer<Scalar>
  let count: Int
  /// False for memory that somebody else gave: it is copied before the first write.
  let isWritable: Bool
  private let release: () -> Void

  init(base: UnsafeMutablePointer<Scalar>, count: Int, isWritable: Bool, release: @escaping () -> Void) {
    self.base = base
    self.count = count
    self.isWritable = isWritable
    self.release = release
  }

  /// New memory, all zero bits.
  convenience init(count: Int) {
    let bytes = max(count, 1) * MemoryLayout<Scalar>.stride
    let raw = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
    raw.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
    let base = raw.bindMemory(to: Scalar.self, capacity: max(count, 1))
    self.init(base: base, count: count, isWritable: true) { raw.deallocate() }
  }

  deinit { release() }
}

/// A shaped window on memory that is copied before a write when it is not this value's alone.
struct ShapedStorage<Scalar: MLShapedArrayScalar> {
  var memory: ScalarMemory<Scalar>
  var offset: Int
  var shape: [Int]
  var strides: [Int]

  init(memory: ScalarMemory<Scalar>, offset: Int, shape: [Int], strides: [Int]) {
    self.memory = memory
    self.offset = offset
    self.shape = shape
    self.strides = strides
  }

  /// Row-major zeros.
  init(shape: [Int]) {
    let steps = Layout.rowMajor(shape)
    let count = Layout.extent(shape, steps)
    precondition(count != nil, "a shaped array cannot have the shape \(shape)")
    self.init(memory: ScalarMemory(count: count ?? 0), offset: 0, shape: shape, strides: steps)
  }

  init(bytesNoCopy bytes: UnsafeRawPointer, shape: [Int], strides: [Int], deallocator: Data.Deallocator) {
    let count = Layout.extent(shape, strides)
    precondition(count != nil, "a shaped array of shape \(shape) cannot have the strides \(strides)")
    let raw = UnsafeMutableRawPointer(mutating: bytes)
    let base = raw.assumingMemoryBound(to: Scalar.self)
    let length = (count ?? 0) * MemoryLayout<Scalar>.stride
    let memory = ScalarMemory(base: base, count: count ?? 0, isWritable: false) { deallocator.release(raw, length) }
    self.init(memory: memory, offset: 0, shape: shape, strides: strides)
  }

  init(data: Data, shape: [Int], strides: [Int]) {
    let count = Layout.extent(shape, strides)
    let fits = count.flatMap { $0.times(MemoryLayout<Scalar>.stride) }.map { $0 <= data.count }
    precondition(fits == true, "\(data.count) bytes do not hold the shape \(shape) with the strides \(strides)")
    let memory = ScalarMemory<Scalar>(count: count ?? 0)
    _ = data.copyBytes(
      to: UnsafeMutableRawBufferPointer(start: memory.base, count: (count ?? 0) * MemoryLayout<Scalar>.stride))
    self.init(memory: memory, offset: 0, shape: shape, strides: strides)
  }

  /// The elements of a view of any dtype, converted.
  init(converting view: ElementView) {
    self.init(shape: view.sizes)
    self.view.fill(from: view)
  }

  var scalarCount: Int { shape.reduce(1, *) }
  var extent: Int { Layout.extent(shape, strides) ?? 0 }

  var view: ElementView {
    ElementView(memory: memory.base + offset, sizes: shape, steps: strides, dataType: Scalar.multiArrayDataType)
  }

  func read<R>(_ body: (UnsafeBufferPointer<Scalar>, [Int], [Int]) throws -> R) rethrows -> R {
    try withExtendedLifetime(memory) {
      try body(UnsafeBufferPointer(start: memory.base + offset, count: extent), shape, strides)
    }
  }

  mutating func write<R>(_ body: (inout UnsafeMutableBufferPointer<Scalar>, [Int], [Int]) throws -> R) rethrows -> R {
    makeOwn()
    var elements = UnsafeMutableBufferPointer(start: memory.base + offset, count: extent)
    return try withExtendedLifetime(memory) { try body(&elements, shape, strides) }
  }

  /// Copies the window unless its memory is this value's alone.
  mutating func makeOwn() {
    if memory.isWritable, isKnownUniquelyReferenced(&memory) { return }
    self = dense
  }

  /// A row-major copy.
  var dense: Self { withExtendedLifetime(memory) { Self(converting: view) } }

  func place(_ indices: some Collection<Int>) -> Int {
    precondition(indices.count == shape.count, "\(indices.count) indices for \(shape.count) dimensions")
    var place = offset
    for (axis, index) in indices.enumerated() {
      precondition(index >= 0 && index < shape[axis], "index \(index) of dimension \(axis), which has \(shape[axis])")
      place += index * strides[axis]
    }
    return place
  }

  /// The part at leading indices.
  func part(_ indices: some Collection<Int>) -> Self {
    precondition(indices.count <= shape.count, "\(indices.count) indices for \(shape.count) dimensions")
    var part = self
    for (axis, index) in indices.enumerated() {
      precondition(index >= 0 && index < shape[axis], "index \(index) of dimension \(axis), which has \(shape[axis])")
      part.offset += index * strides[axis]
    }
    part.shape = Array(shape.dropFirst(indices.count))
    part.strides = Array(strides.dropFirst(indices.count))
    return part
  }

  /// The part within ranges of the leading dimensions.
  func part(within ranges: some Collection<Range<Int>>) -> Self {
    precondition(ranges.count <= shape.count, "\(ranges.count) ranges for \(shape.count) dimensions")
    var part = self
    for (axis, range) in ranges.enumerated() {
      precondition(
        range.lowerBound >= 0 && range.upperBound <= shape[axis],
        "range \(range) of dimension \(axis), which has \(shape[axis])")
      part.offset += range.lowerBound * strides[axis]
      part.shape[axis] = range.count
    }
    return part
  }

  /// Writes `source` over a part of this value.
  mutating func replace(_ part: (Self) -> Self, with source: Self) {
    makeOwn()
    let target = part(self)
    precondition(target.shape == source.shape, "the shape \(source.shape) does not go into \(target.shape)")
    // The source may be a part of the same memory.
    let source = source.memory === memory ? source.dense : source
    withExtendedLifetime((memory, source.memory)) { target.view.fill(from: source.view) }
  }

  func transposed(_ axes: [Int]) -> Self {
    precondition(axes.sorted() == Array(shape.indices), "\(axes) is no permutation of \(shape.count) dimensions")
    return Self(memory: memory, offset: offset, shape: axes.map { shape[$0] }, strides: axes.map { strides[$0] })
  }

  func reshaped(_ newShape: [Int]) -> Self {
    precondition(newShape.reduce(1, *) == scalarCount, "the shape \(shape) does not become \(newShape)")
    var result = strides == Layout.rowMajor(shape) ? self : dense
    result.shape = newShape
    result.strides = Layout.rowMajor(newShape)
    return result
  }

  func expanded(at axis: Int) -> Self {
    let axis = axis < 0 ? axis + shape.count + 1 : axis
    precondition(axis >= 0 && axis <= shape.count, "no axis \(axis) in \(shape.count + 1) dimensions")
    var result = self
    result.shape.insert(1, at: axis)
    result.strides.insert(axis < shape.count ? shape[axis] * strides[axis] : 1, at: axis)
    return result
  }

  var squeezed: Self {
    let axes = shape.indices.filter { shape[$0] != 1 }
    return Self(memory: memory, offset: offset, shape: axes.map { shape[$0] }, strides: axes.map { strides[$0] })
  }

  static func concatenated(_ parts: [Self], _ alongAxis: Int) -> Self {
    var shape = parts.first?.shape ?? [0]
    let axis = alongAxis < 0 ? alongAxis + shape.count : alongAxis
    precondition(shape.indices.contains(axis), "no axis \(alongAxis) in \(shape.count) dimensions")
    shape[axis] = parts.reduce(0) { $0 + $1.shape[axis] }
    var result = Self(shape: shape)
    var start = 0
    for part in parts {
      let range = start..<(start + part.shape[axis])
      let ranges = shape.indices.map { $0 == axis ? range : 0..<shape[$0] }
      result.replace({ $0.part(within: ranges) }, with: part)
      start = range.upperBound
    }
    return result
  }
}

extension Data.Deallocator {
  func release(_ bytes: UnsafeMutableRawPointer, _ count: Int) {
    switch self {
    case .free: Foundation.free(bytes)
    case .unmap: munmap(bytes, count)
    case .custom(let body): body(bytes, count)
    default: break
    }
  }
}
