import CoreML
import Foundation
import XCTest

/// `MLMultiArray` and the shaped arrays.
final class ArrayTests: XCTestCase {
  func testElementsFollowStrides() throws {
    let array = MLMultiArray(shape: [2, 3], dataType: .int32, strides: [4, 1])
    for index in 0..<6 { array[index] = NSNumber(value: index) }
    XCTAssertEqual(array.count, 6)
    XCTAssertEqual(array.strides, [4, 1])
    XCTAssertEqual(array[[1, 2]], 5)
    array[[0, 1]] = 9
    XCTAssertEqual((0..<6).map { array[$0].intValue }, [0, 9, 2, 3, 4, 5])
    array.withUnsafeBytes { XCTAssertEqual($0.count, 7 * 4) }
    array.withUnsafeMutableBufferPointer(ofType: Int32.self) { elements, strides in
      XCTAssertEqual(strides, [4, 1])
      elements[4] = 30
    }
    XCTAssertEqual(array[3], 30)
    array.withUnsafeMutableBytes { bytes, strides in
      XCTAssertEqual(strides, [4, 1])
      bytes.storeBytes(of: 7, as: Int32.self)
    }
    XCTAssertEqual(array[0], 7)
  }

  func testMemoryOfTheClient() throws {
    let memory = UnsafeMutablePointer<Float>.allocate(capacity: 4)
    memory.update(from: [1, 2, 3, 4], count: 4)
    var freed = 0
    do {
      let array = try MLMultiArray(
        dataPointer: memory, shape: [2, 2], dataType: .float32, strides: [1, 2],
        deallocator: { _ in freed += 1 })
      XCTAssertEqual(values(array), [1, 3, 2, 4])
      XCTAssertEqual(freed, 0)
    }
    XCTAssertEqual(freed, 1)
    XCTAssertThrowsError(
      try MLMultiArray(dataPointer: memory, shape: [2, 2], dataType: .float32, strides: [1])
    ) { XCTAssertEqual(($0 as? MLModelError)?.code, .generic) }
    memory.deallocate()
  }

  func testTransferConverts() throws {
    let from = try array([2, 2], [1.5, -2.5, 70000, .nan])
    let half = try MLMultiArray(shape: [2, 2], dataType: .float16)
    from.transfer(to: half)
    XCTAssertEqual(values(half)[0...2], [1.5, -2.5, .infinity])
    XCTAssert(values(half)[3].isNaN)
    let small = MLMultiArray(shape: [2, 2], dataType: .int8, strides: [1, 2])
    from.transfer(to: small)
    XCTAssertEqual(values(small), [1, -2, 127, 0])
  }

  func testConcatenation() throws {
    let (a, b) = (try array([1, 2], [1, 2]), try array([1, 2], [3, 4]))
    let rows = MLMultiArray(byConcatenatingMultiArrays: [a, b], alongAxis: 0, dataType: .double)
    XCTAssertEqual(rows.shape, [2, 2])
    XCTAssertEqual(values(rows), [1, 2, 3, 4])
    let columns = MLMultiArray(byConcatenatingMultiArrays: [a, b], alongAxis: -1, dataType: .float16)
    XCTAssertEqual(columns.shape, [1, 4])
    XCTAssertEqual(values(columns), [1, 2, 3, 4])
  }

  func testArraysOfCollections() throws {
    XCTAssertEqual(try MLMultiArray([1.5, 2.5]).dataType, .double)
    XCTAssertEqual(try MLMultiArray([1.5, 2.5] as [Float]).dataType, .float32)
    let whole = try MLMultiArray([1, 2, 3])
    XCTAssertEqual(whole.dataType, .int32)
    XCTAssertEqual(whole.shape, [3])
    XCTAssertEqual(values(whole), [1, 2, 3])
  }

  func testWhatCannotBeAnArrayIsAnError() {
    for shape in [[-1], [Int.max, 3]] as [[Int]] {
      XCTAssertThrowsError(try MLMultiArray(shape: shape.map { NSNumber(value: $0) }, dataType: .float32)) {
        XCTAssertEqual(($0 as? MLModelError)?.code, .generic)
      }
    }
  }

  func testShapedArraysAreValues() {
    let first = MLShapedArray<Float>(scalars: [1, 2, 3, 4, 5, 6], shape: [2, 3])
    var second = first
    second[scalarAt: 1, 2] = 60
    XCTAssertEqual(first[scalarAt: 1, 2], 6)
    XCTAssertEqual(second.scalars, [1, 2, 3, 4, 5, 60])
    XCTAssertNotEqual(first, second)
    var slice = first[1]
    slice[scalarAt: 0] = 40
    XCTAssertEqual(first.scalars, [1, 2, 3, 4, 5, 6])
    second[0] = slice
    XCTAssertEqual(second.scalars, [40, 5, 6, 4, 5, 60])
  }

  func testSlices() {
    let array = MLShapedArray<Int32>(scalars: 0..<24, shape: [2, 3, 4])
    XCTAssertEqual(array.count, 2)
    XCTAssertEqual(array[1].shape, [3, 4])
    XCTAssertEqual(array[1, 2].scalars, [20, 21, 22, 23])
    XCTAssertEqual(array[1][2][3].scalar, 23)
    XCTAssertEqual(array[[0..<2, 1..<2, 0..<2]].scalars, [4, 5, 16, 17])
    XCTAssertEqual(array[0..<1].shape, [1, 3, 4])
    XCTAssertEqual(array[...].scalars, array.scalars)
    XCTAssertEqual(array.map { $0.scalarCount }, [12, 12])
    let turned = array.transposed()
    XCTAssertEqual(turned.shape, [4, 3, 2])
    XCTAssertEqual(turned[scalarAt: 3, 2, 1], 23)
    XCTAssertEqual(turned.scalars.prefix(4), [0, 12, 4, 16])
    XCTAssertEqual(array.transposed(permutation: [1, 0, 2])[scalarAt: 2, 1, 0], 20)
    XCTAssertEqual(turned.reshaped(to: [24]).scalars, turned.scalars)
    XCTAssertEqual(array[0].expandingShape(at: 1).shape, [3, 1, 4])
    XCTAssertEqual(array[0].expandingShape(at: 1).squeezingShape(), array[0])
    XCTAssertEqual(MLShapedArray(concatenating: [array, array], alongAxis: 1).shape, [2, 6, 4])
  }

  func testRangesBetweenBrackets() {
    let source = MLShapedArray<Int32>(scalars: 0..., shape: [4, 4])
    XCTAssertEqual(source[1...2, 1...2].scalars, [5, 6, 9, 10])
    XCTAssertEqual(source[2..., ..<1].scalars, [8, 12])
    XCTAssertEqual(source[...0, 3...].scalars, [3])
    XCTAssertEqual(source[1...2].shape, [2, 4])
    XCTAssertEqual(source[3...].scalars, [12, 13, 14, 15])
    let list: [any MLShapedArrayRangeExpression] = [0..<1, 1...]
    XCTAssertEqual(source[list].scalars, [1, 2, 3])
    var changed = source
    changed[1...2, 1...2] = MLShapedArraySlice(repeating: -1, shape: [2, 2])
    XCTAssertEqual(changed.scalars, [0, 1, 2, 3, 4, -1, -1, 7, 8, -1, -1, 11, 12, 13, 14, 15])
    XCTAssertEqual((1...).relative(toShapedArrayAxis: 0..<3), 1..<3)
  }

  func testLayouts() {
    let source = MLShapedArray<Int32>(scalars: 0..., shape: [2, 3])
    let turned = source.changingLayout(to: .lastMajorContiguous)
    XCTAssertEqual(turned.strides, [1, 2])
    XCTAssertEqual(turned, source)
    turned.withUnsafeShapedBufferPointer { elements, _, _ in
      XCTAssertEqual(Array(elements), [0, 3, 1, 4, 2, 5])
    }
    let spread = turned.changingLayout(to: .strides([8, 2]))
    XCTAssertEqual(spread.strides, [8, 2])
    XCTAssertEqual(spread, source)
    XCTAssertEqual(spread.changingLayout(to: .firstMajorContiguous).strides, [3, 1])
    // Data that lies in columns.
    var array = MLShapedArray<Int32>(repeating: 0, shape: [2, 3])
    array.withUnsafeMutableShapedBufferPointer(using: .lastMajorContiguous) { elements, shape, strides in
      XCTAssertEqual(shape, [2, 3])
      XCTAssertEqual(strides, [1, 2])
      for (index, value) in [0, 3, 1, 4, 2, 5].enumerated() { elements[index] = Int32(value) }
    }
    XCTAssertEqual(array, source)
    let copy = array
    array.withUnsafeMutableShapedBufferPointer(using: .lastMajorContiguous) { elements, _, _ in elements[0] = 9 }
    XCTAssertEqual(copy, source)
    XCTAssertEqual(array[scalarAt: 0, 0], 9)
    XCTAssertEqual(source[1].changingLayout(to: .strides([2])).scalars, [3, 4, 5])
  }

  func testOtherWaysToMakeShapedArrays() {
    XCTAssertEqual(MLShapedArray<Double>(repeating: 2, shape: [2, 2]).scalars, [2, 2, 2, 2])
    XCTAssertEqual(MLShapedArray<Float16>(identityMatrixOfSize: 2).scalars, [1, 0, 0, 1])
    XCTAssertEqual(MLShapedArray<Float>(scalar: 3).scalar, 3)
    XCTAssert(MLShapedArray<Float>(scalar: 3).isScalar)
    let literal: MLShapedArray<Int32> = [1, 2, 3]
    XCTAssertEqual(literal.shape, [3])
    let random = MLShapedArray<Float>(randomScalarsIn: 2..<3, shape: [64])
    XCTAssert(random.scalars.allSatisfy { (2..<3).contains($0) })
    let bytes = Data([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0])
    XCTAssertEqual(MLShapedArray<Int32>(data: bytes, shape: [2], strides: [2]).scalars, [1, 3])
    var filled = literal
    filled.fill(with: 7)
    XCTAssertEqual(filled.scalars, [7, 7, 7])
    filled.fill(with: [1, 2])
    XCTAssertEqual(filled.scalars, [1, 2, 1])
    let made = MLShapedArray<Float>(unsafeUninitializedShape: [2, 2]) { elements, strides in
      XCTAssertEqual(strides, [2, 1])
      for index in elements.indices { elements[index] = Float(index) }
    }
    XCTAssertEqual(made.scalars, [0, 1, 2, 3])
  }

  func testMemoryWithoutACopyIsFreedOnceAndNotWritten() {
    let memory = UnsafeMutablePointer<Float>.allocate(capacity: 2)
    memory.update(from: [1, 2], count: 2)
    var freed = 0
    do {
      let free = Data.Deallocator.custom { _, _ in freed += 1 }
      var array = MLShapedArray<Float>(bytesNoCopy: memory, shape: [2], deallocator: free)
      let copy = array
      array[scalarAt: 0] = 9
      XCTAssertEqual(copy.scalars, [1, 2])
      XCTAssertEqual(array.scalars, [9, 2])
      XCTAssertEqual(memory[0], 1)
    }
    XCTAssertEqual(freed, 1)
    memory.deallocate()
  }

  func testShapedArraysAndMultiArrays() throws {
    let shaped = MLShapedArray<Float>(scalars: [1, 2, 3, 4], shape: [2, 2])
    let multi = MLMultiArray(shaped.transposed())
    XCTAssertEqual(values(multi), [1, 3, 2, 4])
    XCTAssertEqual(MLShapedArray<Float>(multi), shaped.transposed())
    XCTAssertEqual(MLShapedArray<Int32>(converting: multi).scalars, [1, 3, 2, 4])
    XCTAssertEqual(MLShapedArray<Float16>(converting: shaped).scalars, [1, 2, 3, 4])
    let value = MLFeatureValue(shapedArray: shaped)
    XCTAssertEqual(value.shapedArrayValue(of: Float.self), shaped)
    XCTAssertNil(value.shapedArrayValue(of: Double.self))
  }
}
