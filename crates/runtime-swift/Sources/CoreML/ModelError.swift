import Foundation

/// Domain of the errors of this module, as Apple's errors print it.
public let MLModelErrorDomain: String = "com.apple.CoreML"

/// What went wrong: a code, and in `userInfo` a message that names the feature or file.
public struct MLModelError: CustomNSError, Hashable, @unchecked Sendable {
  /// Apple's codes; there is no 2.
  public enum Code: Int, Hashable, Sendable {
    case generic = 0
    case featureType = 1
    case io = 3
    case customLayer = 4
    case customModel = 5
    case update = 6
    case parameters = 7
    case modelDecryptionKeyFetch = 8
    case modelDecryption = 9
    case modelCollection = 10
    case predictionCancelled = 11

    /// Lets `catch MLModelError.io` match.
    public static func ~= (match: Self, error: any Error) -> Bool {
      (error as? MLModelError)?.code == match
    }
  }

  /// The code.
  public let code: Self.Code
  private let info: NSDictionary

  public init(_ code: Self.Code, userInfo: [String: Any] = [:]) {
    self.code = code
    info = NSDictionary(dictionary: userInfo)
  }

  init(_ code: Code, _ message: String) {
    self.init(code, userInfo: [NSLocalizedDescriptionKey: message])
  }

  public var userInfo: [String: Any] {
    var result: [String: Any] = [:]
    for (key, value) in info {
      if let key = key as? String { result[key] = value }
    }
    return result
  }

  public static var errorDomain: String { MLModelErrorDomain }
  public var errorCode: Int { code.rawValue }
  public var errorUserInfo: [String: Any] { userInfo }

  public var localizedDescription: String {
    info[NSLocalizedDescriptionKey] as? String ?? "error \(code.rawValue) of \(MLModelErrorDomain)"
  }

  public static func == (lhs: Self, rhs: Self) -> Bool {
    lhs.code == rhs.code && lhs.info.isEqual(rhs.info)
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(code) }
  public var hashValue: Int {
    var hasher = Hasher()
    hash(into: &hasher)
    return hasher.finalize()
  }

  public static var generic: MLModelError.Code { .generic }
  public static var featureType: MLModelError.Code { .featureType }
  public static var io: MLModelError.Code { .io }
  public static var customLayer: MLModelError.Code { .customLayer }
  public static var customModel: MLModelError.Code { .customModel }
  public static var update: MLModelError.Code { .update }
  public static var parameters: MLModelError.Code { .parameters }
  public static var modelDecryptionKeyFetch: MLModelError.Code { .modelDecryptionKeyFetch }
  public static var modelDecryption: MLModelError.Code { .modelDecryption }
  public static var modelCollection: MLModelError.Code { .modelCollection }
  public static var predictionCancelled: MLModelError.Code { .predictionCancelled }
}
