import Foundation

/// What a stateful model keeps between predictions.
open class MLState: NSObject, @unchecked Sendable {
  private let arrays: [String: MLMultiArray]

  init(arrays: [String: MLMultiArray]) { self.arrays = arrays }
}
