/// A picture of 8 bits per channel, rows from the top.
public struct RGBAImage: Equatable, Sendable {
  /// Width in pixels.
  public let width: Int
  /// Height in pixels.
  public let height: Int
  /// Red, green, blue and alpha of each pixel, not premultiplied; `4 · width · height` bytes.
  public private(set) var bytes: [UInt8]

  /// A picture of these bytes.
  ///
  /// - Throws: `PipelineError.length` when there are not four for each pixel.
  public init(width: Int, height: Int, bytes: [UInt8]) throws {
    let (pixels, tooMany) = width.multipliedReportingOverflow(by: height)
    guard width > 0, height > 0, !tooMany, pixels <= 1 << 32, bytes.count == 4 * pixels else {
      throw PipelineError.length(what: "picture", expected: tooMany ? 0 : 4 &* pixels, found: bytes.count)
    }
    (self.width, self.height, self.bytes) = (width, height, bytes)
  }

  /// The picture of planes `[3, height, width]` of −1 to 1, opaque.
  ///
  /// The rule is diffusers': x/2 + 0.5 in float32, clamped to 0 … 1, times 255, rounded half to even. Not a number is 0.
  ///
  /// - Throws: `PipelineError.length` when there are not three values for each pixel.
  public init(planes: [Float], width: Int, height: Int) throws {
    guard width > 0, height > 0, planes.count == 3 * width * height else {
      throw PipelineError.length(what: "image", expected: 3 * width * height, found: planes.count)
    }
    let plane = width * height
    var bytes = [UInt8](repeating: 255, count: 4 * plane)
    for channel in 0..<3 {
      for pixel in 0..<plane {
        let unit = planes[channel * plane + pixel] / 2 + 0.5
        let level = unit > 0 ? (min(unit, 1) * 255).rounded(.toNearestOrEven) : 0
        bytes[4 * pixel + channel] = UInt8(level)
      }
    }
    (self.width, self.height, self.bytes) = (width, height, bytes)
  }

  /// Planes `[3, height, width]` of −1 to 1; alpha is not looked at.
  public var planes: [Float] {
    let plane = width * height
    var planes = [Float](repeating: 0, count: 3 * plane)
    for channel in 0..<3 {
      for pixel in 0..<plane { planes[channel * plane + pixel] = Float(bytes[4 * pixel + channel]) / 127.5 - 1 }
    }
    return planes
  }

  /// This picture where `mask` is white, and `other` where it is black, pixel by pixel. All three have one size.
  ///
  /// - Throws: `PipelineError.length` when they have not.
  public func masked(by mask: [Float], over other: RGBAImage) throws -> RGBAImage {
    guard mask.count == width * height, other.bytes.count == bytes.count, other.width == width else {
      throw PipelineError.length(what: "mask", expected: width * height, found: mask.count)
    }
    var mixed = self
    for pixel in mask.indices where mask[pixel] < 1 {
      for channel in 0..<4 {
        let (own, under) = (Float(bytes[4 * pixel + channel]), Float(other.bytes[4 * pixel + channel]))
        let level = under + max(mask[pixel], 0) * (own - under)
        mixed.bytes[4 * pixel + channel] = UInt8(level.rounded(.toNearestOrEven))
      }
    }
    return mixed
  }

  /// Brightness of each pixel from 0 to 1: the mean of red, green and blue.
  public var brightness: [Float] {
    (0..<(width * height)).map { pixel in
      let sum = Int(bytes[4 * pixel]) + Int(bytes[4 * pixel + 1]) + Int(bytes[4 * pixel + 2])
      return Float(sum) / 765
    }
  }
}
