import Foundation

/// Name of something in a model, in a scope or none.
open class MLKey: NSObject, NSCopying {
  public let name: String
  public let scope: String?

  init(name: String, scope: String?) {
    self.name = name
    self.scope = scope
  }

  open func copy(with zone: NSZone? = nil) -> Any { self }

  open override func isEqual(_ object: Any?) -> Bool {
    guard let other = object as? MLKey else { return false }
    return other.name == name && other.scope == scope
  }

  open override var hash: Int { name.hashValue ^ scope.hashValue }
}

/// Name of a parameter of an updatable or linked model; the engine has neither.
open class MLParameterKey: MLKey {
  open class var beta1: MLParameterKey { key("beta1") }
  open class var beta2: MLParameterKey { key("beta2") }
  open class var biases: MLParameterKey { key("biases") }
  open class var epochs: MLParameterKey { key("epochs") }
  open class var eps: MLParameterKey { key("eps") }
  open class var learningRate: MLParameterKey { key("learningRate") }
  open class var linkedModelFileName: MLParameterKey { key("linkedModelFileName") }
  open class var linkedModelSearchPath: MLParameterKey { key("linkedModelSearchPath") }
  open class var miniBatchSize: MLParameterKey { key("miniBatchSize") }
  open class var momentum: MLParameterKey { key("momentum") }
  open class var numberOfNeighbors: MLParameterKey { key("numberOfNeighbors") }
  open class var seed: MLParameterKey { key("seed") }
  open class var shuffle: MLParameterKey { key("shuffle") }
  open class var weights: MLParameterKey { key("weights") }

  open func scoped(to scope: String) -> MLParameterKey { MLParameterKey(name: name, scope: scope) }

  private static func key(_ name: String) -> MLParameterKey { MLParameterKey(name: name, scope: nil) }
}
