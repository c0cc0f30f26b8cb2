import Foundation

/// The conditions of this device: heat and Low Power Mode on Apple's systems, memory warnings and the background on iOS.
/// Elsewhere they never change.
public final class SystemConditions: DeviceConditionsSource {
  private struct Change: Sendable {
    let name: Notification.Name
    let apply: @Sendable (inout DeviceConditions) -> Void
  }

  private let state = Guarded(DeviceConditions())
  private let handlers = Guarded<[ObjectIdentifier: @Sendable (DeviceConditions) -> Void]>([:])
  private let tokens = Guarded<[any NSObjectProtocol]>([])

  public init() {
    state.change { Self.refresh(&$0) }
    for change in Self.changes {
      let token = NotificationCenter.default.addObserver(forName: change.name, object: nil, queue: nil) {
        [weak self] _ in self?.apply(change)
      }
      tokens.change { $0.append(token) }
    }
  }

  deinit {
    for token in tokens.value { NotificationCenter.default.removeObserver(token) }
  }

  public var current: DeviceConditions { state.value }

  public func observe(_ handler: @escaping @Sendable (DeviceConditions) -> Void) -> AnyObject {
    let observation = Observation { [weak self] id in self?.handlers.change { $0[id] = nil } }
    handlers.change { $0[ObjectIdentifier(observation)] = handler }
    return observation
  }

  private func apply(_ change: Change) {
    let now = state.change {
      change.apply(&$0)
      return $0
    }
    for handler in handlers.value.values { handler(now) }
  }

  private final class Observation: Sendable {
    private let end: @Sendable (ObjectIdentifier) -> Void

    init(_ end: @escaping @Sendable (ObjectIdentifier) -> Void) { self.end = end }

    deinit { end(ObjectIdentifier(self)) }
  }

  #if os(Linux)
    private static let changes: [Change] = []
    private static func refresh(_: inout DeviceConditions) {}
  #else
    private static func refresh(_ conditions: inout DeviceConditions) {
      conditions.isLowPowerMode = ProcessInfo.processInfo.isLowPowerModeEnabled
      conditions.thermalState =
        switch ProcessInfo.processInfo.thermalState {
        case .nominal: .nominal
        case .fair: .fair
        case .serious: .serious
        case .critical: .critical
        @unknown default: .serious
        }
    }

    private static var changes: [Change] {
      var changes = [
        Change(name: ProcessInfo.thermalStateDidChangeNotification) { Self.refresh(&$0) },
        Change(name: .NSProcessInfoPowerStateDidChange) { Self.refresh(&$0) },
      ]
      #if canImport(UIKit)
        // The names are written out: UIKit's constants belong to the main actor, and this source does not.
        changes += [
          Change(name: Notification.Name("UIApplicationDidReceiveMemoryWarningNotification")) { $0.memoryWarnings += 1 },
          Change(name: Notification.Name("UIApplicationDidEnterBackgroundNotification")) { $0.isInBackground = true },
          Change(name: Notification.Name("UIApplicationWillEnterForegroundNotification")) { $0.isInBackground = false },
        ]
      #endif
      return changes
    }
  #endif
}

/// A value behind a lock.
final class Guarded<Value>: @unchecked Sendable {
  private let lock = NSLock()
  private var held: Value

  init(_ value: Value) { held = value }

  var value: Value { lock.withLock { held } }

  @discardableResult
  func change<Result>(_ body: (inout Value) -> Result) -> Result { lock.withLock { body(&held) } }
}
