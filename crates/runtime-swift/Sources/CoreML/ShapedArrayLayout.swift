import Foundation

/// How the scalars of a shaped array lie in memory.
public enum MLShapedArrayBufferLayout: Sendable {
  /// Row-major without gaps.
  case firstMajorContiguous
  /// Column-major without gaps.
  case lastMajorContiguous
  /// A stride for each dimension, in scalars.
  case strides([Int])

  func strides(for shape: [Int]) -> [Int] {
    switch self {
    case .firstMajorContiguous: Layout.rowMajor(shape)
    case .lastMajorContiguous: Layout.rowMajor(shape.reversed()).reversed()
    case .strides(let strides): strides
    }
  }
}

extension ShapedStorage {
  /// A copy with other strides.
  func laidOut(_ strides: [Int]) -> Self {
    let count = Layout.extent(shape, strides)
    precondition(count != nil, "a shaped array of shape \(shape) cannot have the strides \(strides)")
    let copy = Self(memory: ScalarMemory(count: count ?? 0), offset: 0, shape: shape, strides: strides)
    withExtendedLifetime((memory, copy.memory)) { copy.view.fill(from: view) }
    return copy
  }

  mutating func write<R>(
    using strides: [Int], _ body: (inout UnsafeMutableBufferPointer<Scalar>, [Int], [Int]) throws -> R
  ) rethrows -> R {
    if self.strides != strides { self = laidOut(strides) }
    makeOwn()
    if self.strides != strides { self = laidOut(strides) }
    return try write(body)
  }
}

extension MLShapedArray {
  /// A copy whose scalars lie as said.
  public func changingLayout(to bufferLayout: MLShapedArrayBufferLayout) -> MLShapedArray<Scalar> {
    MLShapedArray(storage: storage.laidOut(bufferLayout.strides(for: shape)))
  }

  /// Gives the scalars to write, laid out as said, the shape and the strides.
  public mutating func withUnsafeMutableShapedBufferPointer<R>(
    using bufferLayout: MLShapedArrayBufferLayout,
    _ body: (inout UnsafeMutableBufferPointer<Scalar>, [Int], [Int]) throws -> R
  ) rethrows -> R {
    try storage.write(using: bufferLayout.strides(for: shape), body)
  }
}

extension MLShapedArraySlice {
  /// A copy whose scalars lie as said.
  public func changingLayout(to bufferLayout: MLShapedArrayBufferLayout) -> MLShapedArraySlice<Scalar> {
    MLShapedArraySlice(storage: storage.laidOut(bufferLayout.strides(for: shape)))
  }

  /// Gives the scalars to write, laid out as said, the shape and the strides.
  public mutating func withUnsafeMutableShapedBufferPointer<R>(
    using bufferLayout: MLShapedArrayBufferLayout,
    _ body: (inout UnsafeMutableBufferPointer<Scalar>, [Int], [Int]) throws -> R
  ) rethrows -> R {
    try storage.write(using: bufferLayout.strides(for: shape), body)
  }
}

/// A range of indices of one dimension, as it is written between brackets: `1...`.
public protocol MLShapedArrayRangeExpression {
  /// The indices out of all those of the dimension.
  func relative(toShapedArrayAxis range: Range<Int>) -> Range<Int>
}

extension Range: MLShapedArrayRangeExpression where Bound == Int {
  public func relative(toShapedArrayAxis range: Range<Int>) -> Range<Int> { self }
}

extension ClosedRange: MLShapedArrayRangeExpression where Bound == Int {
  public func relative(toShapedArrayAxis range: Range<Int>) -> Range<Int> { lowerBound..<(upperBound + 1) }
}

extension PartialRangeFrom: MLShapedArrayRangeExpression where Bound == Int {
  public func relative(toShapedArrayAxis range: Range<Int>) -> Range<Int> { lowerBound..<range.upperBound }
}

extension PartialRangeUpTo: MLShapedArrayRangeExpression where Bound == Int {
  public func relative(toShapedArrayAxis range: Range<Int>) -> Range<Int> { range.lowerBound..<upperBound }
}

extension PartialRangeThrough: MLShapedArrayRangeExpression where Bound == Int {
  public func relative(toShapedArrayAxis range: Range<Int>) -> Range<Int> { range.lowerBound..<(upperBound + 1) }
}

extension MLShapedArrayProtocol {
  /// The part within ranges of the leading dimensions.
  public subscript<C>(partialSliceRanges: C) -> MLShapedArraySlice<Self.Scalar>
  where C: Collection, C.Element == any MLShapedArrayRangeExpression {
    get { self[ranges(partialSliceRanges)] }
    set { self[ranges(partialSliceRanges)] = newValue }
  }

  public subscript(sliceRanges: any MLShapedArrayRangeExpression...) -> MLShapedArraySlice<Self.Scalar> {
    get { self[ranges(sliceRanges)] }
    set { self[ranges(sliceRanges)] = newValue }
  }

  public subscript(sliceRange: any MLShapedArrayRangeExpression) -> MLShapedArraySlice<Self.Scalar> {
    get { self[ranges([sliceRange])] }
    set { self[ranges([sliceRange])] = newValue }
  }

  private func ranges(_ expressions: some Collection<any MLShapedArrayRangeExpression>) -> [Range<Int>] {
    precondition(expressions.count <= shape.count, "\(expressions.count) ranges for \(shape.count) dimensions")
    return zip(expressions, shape).map { $0.relative(toShapedArrayAxis: 0..<$1) }
  }
}
