import Foundation

/// A part of a shaped array, a value too; its indices start at 0.
public struct MLShapedArraySlice<Scalar>: MLShapedArrayProtocol, @unchecked Sendable where Scalar: MLShapedArrayScalar {
  public typealias ArrayLiteralElement = Scalar
  public typealias Index = Int
  public typealias Element = MLShapedArraySlice<Scalar>
  public typealias SubSequence = MLShapedArraySlice<Scalar>
  public typealias Indices = Range<Int>
  public typealias Iterator = IndexingIterator<MLShapedArraySlice<Scalar>>

  var storage: ShapedStorage<Scalar>

  init(storage: ShapedStorage<Scalar>) { self.storage = storage }

  public init(bytesNoCopy bytes: UnsafeRawPointer, shape: [Int], strides: [Int], deallocator: Data.Deallocator) {
    storage = ShapedStorage(bytesNoCopy: bytes, shape: shape, strides: strides, deallocator: deallocator)
  }

  public init(
    unsafeUninitializedShape shape: [Int],
    initializingWith initializer: (inout UnsafeMutableBufferPointer<Scalar>, [Int]) throws -> Void
  ) rethrows {
    storage = ShapedStorage(shape: shape)
    try storage.write { elements, _, strides in try initializer(&elements, strides) }
  }

  public init(data: Data, shape: [Int], strides: [Int]) {
    storage = ShapedStorage(data: data, shape: shape, strides: strides)
  }

  public init(data: Data, shape: [Int]) {
    storage = ShapedStorage(data: data, shape: shape, strides: Layout.rowMajor(shape))
  }

  /// No dimensions.
  public init(scalar: Scalar) { self.init(scalars: [scalar], shape: []) }

  /// The arrays one after the other along an axis.
  public init<S>(concatenating shapedArrays: S, alongAxis: Int)
  where Scalar == S.Element.Scalar, S: Sequence, S.Element: MLShapedArrayProtocol {
    storage = ShapedStorage.concatenated(
      shapedArrays.map { MLShapedArray<Scalar>(converting: $0).storage }, alongAxis)
  }

  public var shape: [Int] { storage.shape }
  public var strides: [Int] { storage.strides }
  public var startIndex: Int { 0 }
  public var endIndex: Int { shape.first ?? 0 }

  public func withUnsafeShapedBufferPointer<R>(
    _ body: (UnsafeBufferPointer<Scalar>, [Int], [Int]) throws -> R
  ) rethrows -> R {
    try storage.read(body)
  }

  public mutating func withUnsafeMutableShapedBufferPointer<R>(
    _ body: (inout UnsafeMutableBufferPointer<Scalar>, [Int], [Int]) throws -> R
  ) rethrows -> R {
    try storage.write(body)
  }

  public subscript<C>(scalarAt indices: C) -> Scalar where C: Collection, C.Element == Int {
    get { withExtendedLifetime(storage.memory) { storage.memory.base[storage.place(indices)] } }
    set {
      storage.makeOwn()
      storage.memory.base[storage.place(indices)] = newValue
    }
  }

  public subscript<C>(indices: C) -> MLShapedArraySlice<Scalar> where C: Collection, C.Element == Int {
    get { MLShapedArraySlice(storage: storage.part(indices)) }
    set { storage.replace({ $0.part(indices) }, with: newValue.storage) }
  }

  public subscript<C>(sliceRanges: C) -> MLShapedArraySlice<Scalar> where C: Collection, C.Element == Range<Int> {
    get { MLShapedArraySlice(storage: storage.part(within: sliceRanges)) }
    set { storage.replace({ $0.part(within: sliceRanges) }, with: newValue.storage) }
  }

  /// The dimensions in another order; `axes` names for each the old one.
  public func transposed(permutation axes: [Int]) -> MLShapedArraySlice<Scalar> {
    MLShapedArraySlice(storage: storage.transposed(axes))
  }

  /// The dimensions in reverse.
  public func transposed() -> MLShapedArraySlice<Scalar> {
    transposed(permutation: shape.indices.reversed())
  }

  /// One more dimension, of size 1.
  public func expandingShape(at axis: Int) -> MLShapedArraySlice<Scalar> {
    MLShapedArraySlice(storage: storage.expanded(at: axis))
  }

  /// Without the dimensions of size 1.
  public func squeezingShape() -> MLShapedArraySlice<Scalar> { MLShapedArraySlice(storage: storage.squeezed) }

  /// The same scalars in row-major order in another shape.
  public func reshaped(to newShape: [Int]) -> MLShapedArraySlice<Scalar> {
    MLShapedArraySlice(storage: storage.reshaped(newShape))
  }
}

extension MLShapedArraySlice: Equatable where Scalar: Equatable {
  public static func == (lhs: MLShapedArraySlice<Scalar>, rhs: MLShapedArraySlice<Scalar>) -> Bool {
    lhs.shape == rhs.shape && lhs.scalars == rhs.scalars
  }
}
