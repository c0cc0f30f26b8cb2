import Foundation

/// What a device says of itself.
public struct DeviceConditions: Sendable, Equatable {
  /// Heat, as `ProcessInfo.ThermalState` counts it.
  public enum ThermalState: Int, Comparable, Sendable {
    case nominal, fair, serious, critical

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
  }

  /// Heat.
  public var thermalState = ThermalState.nominal
  /// Whether Low Power Mode is on.
  public var isLowPowerMode = false
  /// Whether the app is in the background.
  public var isInBackground = false
  /// Memory warnings since the source was made.
  public var memoryWarnings = 0

  public init() {}
}

/// Where an `ImageGenerator` learns of its device.
public protocol DeviceConditionsSource: Sendable {
  /// The conditions now.
  var current: DeviceConditions { get }

  /// Calls `handler` when they change, on any thread, as long as the answer is kept.
  func observe(_ handler: @escaping @Sendable (DeviceConditions) -> Void) -> AnyObject
}

/// When a run ends early.
public struct LifecyclePolicy: Sendable {
  /// Whether going to the background ends a run: iOS ends apps that go on using the GPU there.
  public var stopsInBackground = true
  /// Whether a memory warning ends a run.
  public var stopsOnMemoryWarning = true
  /// Heat from which a run ends or does not begin; nil for never.
  public var hottest: DeviceConditions.ThermalState? = .critical
  /// Whether Low Power Mode ends a run or keeps it from beginning.
  public var stopsInLowPowerMode = true

  public init() {}

  /// Nothing ends a run.
  public static var never: LifecyclePolicy {
    var policy = LifecyclePolicy()
    (policy.stopsInBackground, policy.stopsOnMemoryWarning, policy.stopsInLowPowerMode) = (false, false, false)
    policy.hottest = nil
    return policy
  }

  /// Why a run that began under `start` ends under `now`.
  func reason(start: DeviceConditions, now: DeviceConditions) -> StopReason? {
    if stopsInBackground, now.isInBackground { return .background }
    if stopsOnMemoryWarning, now.memoryWarnings > start.memoryWarnings { return .memoryWarning }
    if let hottest, now.thermalState >= hottest { return .thermalState }
    if stopsInLowPowerMode, now.isLowPowerMode { return .lowPowerMode }
    return nil
  }
}

/// How large pictures may be.
public struct MemoryPolicy: Sendable {
  /// Bytes of memory that the device has.
  public var physicalMemory = ProcessInfo.processInfo.physicalMemory
  /// Makes large pictures on small devices, too.
  public var allowsLargePictures = false

  public init() {}

  /// Below this many GiB, pictures have at most `mostOnSmallDevices`.
  static let enough: UInt64 = 6
  static let mostOnSmallDevices = ImageSize(width: 512, height: 512)

  /// - Throws: `GenerationError.tooLarge` for more than 512×512 pixels on a device with less than 6 GB. A device reports
  ///   a little less than it is sold with, so the size is rounded up to whole GiB.
  func check(_ size: ImageSize) throws {
    let gibibytes = (physicalMemory + (1 << 30) - 1) >> 30
    let most = Self.mostOnSmallDevices
    if !allowsLargePictures, gibibytes < Self.enough, size.width * size.height > most.width * most.height {
      throw GenerationError.tooLarge(asked: size, most: most, physicalMemory: physicalMemory)
    }
  }
}
