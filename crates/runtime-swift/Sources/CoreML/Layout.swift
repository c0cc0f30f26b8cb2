/// Sizes and strides, both in elements.
enum Layout {
  /// Strides of a row-major array without gaps.
  static func rowMajor(_ sizes: [Int]) -> [Int] {
    var steps = [Int](repeating: 1, count: sizes.count)
    for axis in sizes.indices.dropLast().reversed() {
      steps[axis] = steps[axis + 1].multipliedReportingOverflow(by: max(sizes[axis + 1], 1)).partialValue
    }
    return steps
  }

  /// Elements from the first to the last, both counted; nil for sizes and strides that cannot be.
  static func extent(_ sizes: [Int], _ steps: [Int]) -> Int? {
    guard sizes.count == steps.count, sizes.allSatisfy({ $0 >= 0 }), steps.allSatisfy({ $0 >= 0 }) else { return nil }
    var count = 1
    var last = 0
    for (size, step) in zip(sizes, steps) {
      guard let product = count.times(size) else { return nil }
      count = product
      if size > 1 {
        guard let reach = (size - 1).times(step) else { return nil }
        let (sum, overflow) = last.addingReportingOverflow(reach)
        guard !overflow, sum < Int.max else { return nil }
        last = sum
      }
    }
    return count == 0 ? 0 : last + 1
  }

  /// Where the element at a place in row-major order lies.
  static func offset(ofLinear index: Int, _ sizes: [Int], _ steps: [Int]) -> Int {
    let count = sizes.reduce(1, *)
    precondition(index >= 0 && index < count, "index \(index) in an array of \(count)")
    var rest = index
    var offset = 0
    for axis in sizes.indices.reversed() {
      offset += rest % sizes[axis] * steps[axis]
      rest /= sizes[axis]
    }
    return offset
  }
}

extension Int {
  /// Product, nil when it does not fit.
  func times(_ other: Int) -> Int? {
    let (product, overflow) = multipliedReportingOverflow(by: other)
    return overflow ? nil : product
  }
}

/// Elements of one dtype in memory.
struct ElementView {
  let memory: UnsafeMutableRawPointer
  let sizes: [Int]
  let steps: [Int]
  let dataType: MLMultiArrayDataType

  private var isDense: Bool { steps == Layout.rowMajor(sizes) }

  /// Copies every element of a view of the same sizes. A float is rounded to a shorter one, ties to even; towards zero
  /// to an integer, within its range, and NaN becomes 0.
  func fill(from source: ElementView) {
    let count = sizes.reduce(1, *)
    guard count > 0 else { return }
    if source.dataType == dataType, isDense, source.isDense {
      memory.copyMemory(from: source.memory, byteCount: count * dataType.size)
      return
    }
    switch source.dataType {
    case .double: fill(from: source, Double.self) { $0 }
    case .float32: fill(from: source, Float.self) { Double($0) }
    case .float16: fill(from: source, Float16.self) { Double($0) }
    case .int32: fill(from: source, Int32.self) { Double($0) }
    case .int8: fill(from: source, Int8.self) { Double($0) }
    }
  }

  private func fill<S>(from source: ElementView, _: S.Type, _ value: (S) -> Double) {
    switch dataType {
    case .double: fill(from: source) { value($0) }
    case .float32: fill(from: source) { Float(value($0)) }
    case .float16: fill(from: source) { Float16(value($0)) }
    case .int32: fill(from: source) { Int32(clamped: value($0)) }
    case .int8: fill(from: source) { Int8(clamped: value($0)) }
    }
  }

  private func fill<S, T>(from source: ElementView, _ convert: (S) -> T) {
    let rank = sizes.count
    let width = rank == 0 ? 1 : sizes[rank - 1]
    let (fromStep, toStep) = rank == 0 ? (0, 0) : (source.steps[rank - 1], steps[rank - 1])
    var index = [Int](repeating: 0, count: max(rank - 1, 0))
    var (from, to) = (0, 0)
    while true {
      for column in 0..<width {
        let read = source.memory + (from + column * fromStep) * source.dataType.size
        let write = memory + (to + column * toStep) * dataType.size
        write.storeBytes(of: convert(read.loadUnaligned(as: S.self)), as: T.self)
      }
      var axis = index.count - 1
      while axis >= 0 {
        index[axis] += 1
        from += source.steps[axis]
        to += steps[axis]
        if index[axis] < sizes[axis] { break }
        from -= source.steps[axis] * sizes[axis]
        to -= steps[axis] * sizes[axis]
        index[axis] = 0
        axis -= 1
      }
      if axis < 0 { return }
    }
  }
}

extension FixedWidthInteger {
  /// Towards zero, within the range; NaN is 0.
  init(clamped value: Double) {
    if value.isNaN {
      self = 0
    } else if value <= Double(Self.min) {
      self = Self.min
    } else if value >= Double(Self.max) {
      self = Self.max
    } else {
      self = Self(value)
    }
  }
}
