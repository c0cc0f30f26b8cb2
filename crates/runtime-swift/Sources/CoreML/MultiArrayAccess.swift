import Foundation

extension MLMultiArray {
  /// Gives the bytes from the first element to the end of the last, with the gaps that the strides leave.
  public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try body(UnsafeRawBufferPointer(start: dataPointer, count: byteCount))
  }

  /// Gives the bytes to write, and the strides in elements.
  public func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R) rethrows -> R {
    try body(UnsafeMutableRawBufferPointer(start: dataPointer, count: byteCount), steps)
  }

  /// Gives the elements as `type`, which must be the array's dtype, with the gaps that the strides leave.
  public func withUnsafeBufferPointer<S, R>(
    ofType type: S.Type, _ body: (UnsafeBufferPointer<S>) throws -> R
  ) rethrows -> R where S: MLShapedArrayScalar {
    precondition(S.multiArrayDataType == dataType, "an array of \(dataType.word) is not one of \(type)")
    let count = byteCount / dataType.size
    return try body(UnsafeBufferPointer(start: dataPointer.assumingMemoryBound(to: S.self), count: count))
  }

  /// Gives the elements to write, and the strides in elements.
  public func withUnsafeMutableBufferPointer<S, R>(
    ofType type: S.Type, _ body: (UnsafeMutableBufferPointer<S>, [Int]) throws -> R
  ) rethrows -> R where S: MLShapedArrayScalar {
    precondition(S.multiArrayDataType == dataType, "an array of \(dataType.word) is not one of \(type)")
    let count = byteCount / dataType.size
    let elements = UnsafeMutableBufferPointer(start: dataPointer.assumingMemoryBound(to: S.self), count: count)
    return try body(elements, steps)
  }
}
