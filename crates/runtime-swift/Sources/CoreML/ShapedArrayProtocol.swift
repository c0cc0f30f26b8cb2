import Foundation

/// A number that shaped arrays hold.
public protocol MLShapedArrayScalar {
  static var multiArrayDataType: MLMultiArrayDataType { get }
}

extension Double: MLShapedArrayScalar { public static var multiArrayDataType: MLMultiArrayDataType { .double } }
extension Float: MLShapedArrayScalar { public static var multiArrayDataType: MLMultiArrayDataType { .float32 } }
extension Float16: MLShapedArrayScalar { public static var multiArrayDataType: MLMultiArrayDataType { .float16 } }
extension Int32: MLShapedArrayScalar { public static var multiArrayDataType: MLMultiArrayDataType { .int32 } }
extension Int8: MLShapedArrayScalar { public static var multiArrayDataType: MLMultiArrayDataType { .int8 } }

/// A value with scalars in any number of dimensions; as a collection, its slices along the first one.
public protocol MLShapedArrayProtocol<Scalar>: ExpressibleByArrayLiteral, MutableCollection, RandomAccessCollection
where Self.Index == Int {
  associatedtype Scalar: MLShapedArrayScalar

  init(bytesNoCopy bytes: UnsafeRawPointer, shape: [Int], strides: [Int], deallocator: Data.Deallocator)
  /// The initializer fills row-major memory, which is zero.
  init(
    unsafeUninitializedShape shape: [Int],
    initializingWith initializer: (inout UnsafeMutableBufferPointer<Self.Scalar>, [Int]) throws -> Void) rethrows

  /// Gives the scalars with the gaps that the strides leave, the shape and the strides.
  func withUnsafeShapedBufferPointer<R>(
    _ body: (UnsafeBufferPointer<Self.Scalar>, [Int], [Int]) throws -> R) rethrows -> R
  mutating func withUnsafeMutableShapedBufferPointer<R>(
    _ body: (inout UnsafeMutableBufferPointer<Self.Scalar>, [Int], [Int]) throws -> R) rethrows -> R

  var shape: [Int] { get }
  /// In scalars.
  var strides: [Int] { get }

  subscript<C>(scalarAt indices: C) -> Self.Scalar where C: Collection, C.Element == Int { get set }
  subscript<C>(indices: C) -> MLShapedArraySlice<Self.Scalar> where C: Collection, C.Element == Int { get set }
  subscript<C>(sliceRanges: C) -> MLShapedArraySlice<Self.Scalar> where C: Collection, C.Element == Range<Int> {
    get set
  }
}

extension MLShapedArrayProtocol {
  /// A copy of an array, which must have the scalar's dtype.
  public init(_ multiArray: MLMultiArray) {
    precondition(
      multiArray.dataType == Scalar.multiArrayDataType,
      "an array of \(multiArray.dataType.word) is not one of \(Scalar.self); use `init(converting:)`")
    self.init(converting: multiArray)
  }

  /// A copy of an array, each element converted.
  public init(converting multiArray: MLMultiArray) {
    self.init(filling: multiArray.view)
  }

  public init<T>(converting source: T) where T: MLShapedArrayProtocol {
    self = source.withUnsafeShapedBufferPointer { elements, shape, strides in
      Self(filling: ElementView(elements, shape, strides, T.Scalar.multiArrayDataType))
    }
  }

  private init(filling view: ElementView) {
    self.init(unsafeUninitializedShape: view.sizes) { elements, strides in
      guard let base = elements.baseAddress, !elements.isEmpty else { return }
      ElementView(memory: base, sizes: view.sizes, steps: strides, dataType: Scalar.multiArrayDataType)
        .fill(from: view)
    }
  }

  public init(bytesNoCopy bytes: UnsafeRawPointer, shape: [Int], deallocator: Data.Deallocator) {
    self.init(bytesNoCopy: bytes, shape: shape, strides: Layout.rowMajor(shape), deallocator: deallocator)
  }

  /// At least as many scalars as the shape holds, in row-major order; the rest is not looked at.
  public init<S>(scalars: S, shape: [Int]) where S: Sequence, Self.Scalar == S.Element {
    self.init(unsafeUninitializedShape: shape) { elements, _ in
      var count = 0
      var rest = scalars.makeIterator()
      while count < elements.count, let scalar = rest.next() {
        elements[count] = scalar
        count += 1
      }
      precondition(count == elements.count, "\(count) scalars for the shape \(shape)")
    }
  }

  public init(repeating value: Self.Scalar, shape: [Int]) {
    self.init(unsafeUninitializedShape: shape) { elements, _ in elements.update(repeating: value) }
  }

  /// One dimension.
  public init(arrayLiteral elements: Self.Scalar...) {
    self.init(scalars: elements, shape: [elements.count])
  }

  public var scalarCount: Int { shape.reduce(1, *) }
  /// Whether there are no dimensions, and so one scalar.
  public var isScalar: Bool { shape.isEmpty }
  /// Size of the first dimension, 0 for a scalar.
  public var count: Int { shape.first ?? 0 }

  public func index(after: Self.Index) -> Self.Index { after + 1 }
  public func index(_ index: Self.Index, offsetBy distance: Int) -> Self.Index { index + distance }

  /// The scalar of a value without dimensions.
  public var scalar: Self.Scalar? {
    get { isScalar ? self[scalarAt: [Int]()] : nil }
    set {
      guard isScalar, let newValue else { return }
      self[scalarAt: [Int]()] = newValue
    }
  }

  /// All scalars in row-major order.
  public var scalars: [Self.Scalar] {
    get {
      withUnsafeShapedBufferPointer { elements, shape, strides in
        if strides == Layout.rowMajor(shape) { return Array(elements) }
        let count = shape.reduce(1, *)
        return (0..<count).map { elements[Layout.offset(ofLinear: $0, shape, strides)] }
      }
    }
    set { self = Self(scalars: newValue, shape: shape) }
  }

  public mutating func fill(with value: Self.Scalar) {
    self = Self(repeating: value, shape: shape)
  }

  /// Writes the elements of a collection in row-major order, from its start again as often as it takes.
  public mutating func fill<C>(with collection: C) where C: Collection, Self.Scalar == C.Element {
    precondition(!collection.isEmpty || scalarCount == 0, "there is nothing to fill the shape \(shape) with")
    let all = Array(collection)
    self = Self(scalars: (0..<scalarCount).lazy.map { all[$0 % all.count] }, shape: shape)
  }

  public subscript(scalarAt indices: Int...) -> Self.Scalar {
    get { self[scalarAt: indices] }
    set { self[scalarAt: indices] = newValue }
  }

  public subscript(index: Int) -> MLShapedArraySlice<Self.Scalar> {
    get { self[[index]] }
    set { self[[index]] = newValue }
  }

  public subscript(indices: Int...) -> MLShapedArraySlice<Self.Scalar> {
    get { self[indices] }
    set { self[indices] = newValue }
  }

  public subscript(sliceRange: Range<Int>) -> MLShapedArraySlice<Self.Scalar> {
    get { self[[sliceRange]] }
    set { self[[sliceRange]] = newValue }
  }

  public subscript(_: (UnboundedRange_) -> Void) -> MLShapedArraySlice<Self.Scalar> {
    get { self[[Range<Int>]()] }
    set { self[[Range<Int>]()] = newValue }
  }
}

extension MLShapedArrayProtocol where Scalar: BinaryFloatingPoint, Scalar.RawSignificand: FixedWidthInteger {
  public init(randomScalarsIn range: Range<Self.Scalar>, shape: [Int]) {
    self.init(scalars: (0..<shape.reduce(1, *)).map { _ in Scalar.random(in: range) }, shape: shape)
  }

  public init(identityMatrixOfSize size: Int) {
    self.init(scalars: (0..<size * size).map { $0 % (size + 1) == 0 ? 1 : 0 }, shape: [size, size])
  }
}

extension MLShapedArrayProtocol where Scalar: FixedWidthInteger {
  public init(randomScalarsIn range: Range<Self.Scalar>, shape: [Int]) {
    self.init(scalars: (0..<shape.reduce(1, *)).map { _ in Scalar.random(in: range) }, shape: shape)
  }

  public init(identityMatrixOfSize size: Int) {
    self.init(scalars: (0..<size * size).map { $0 % (size + 1) == 0 ? 1 : 0 }, shape: [size, size])
  }
}

extension ElementView {
  /// Nothing is read or written when there are no elements.
  init<Scalar>(
    _ elements: UnsafeBufferPointer<Scalar>, _ shape: [Int], _ strides: [Int], _ dataType: MLMultiArrayDataType
  ) {
    let base = elements.baseAddress.map { UnsafeMutableRawPointer(mutating: $0) } ?? Self.nowhere
    self.init(memory: base, sizes: shape, steps: strides, dataType: dataType)
  }

  private static let nowhere = UnsafeMutableRawPointer.allocate(byteCount: 16, alignment: 16)
}

extension MLMultiArray {
  /// A copy of a shaped array.
  public convenience init<ShapedArray>(_ shapedArray: ShapedArray) where ShapedArray: MLShapedArrayProtocol {
    self.init(
      shape: shapedArray.shape, dataType: ShapedArray.Scalar.multiArrayDataType,
      strides: Layout.rowMajor(shapedArray.shape))
    shapedArray.withUnsafeShapedBufferPointer { elements, shape, strides in
      guard !elements.isEmpty else { return }
      view.fill(from: ElementView(elements, shape, strides, dataType))
    }
  }
}
