import Foundation
import GessoPipeline

#if canImport(CoreGraphics)
  import CoreGraphics

  /// The platform's picture: `CGImage` on Apple's systems, `RGBAImage` elsewhere.
  public typealias PlatformImage = CGImage

  extension RGBAImage {
    /// The picture as Core Graphics has it, in sRGB.
    ///
    /// - Throws: `PipelineError.length` when Core Graphics refuses the bytes.
    public func cgImage() throws -> CGImage {
      let data = Data(bytes) as CFData
      guard let provider = CGDataProvider(data: data), let space = CGColorSpace(name: CGColorSpace.sRGB),
        let image = CGImage(
          width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 32, bytesPerRow: 4 * width, space: space,
          bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.last.rawValue), provider: provider, decode: nil,
          shouldInterpolate: false, intent: .defaultIntent)
      else { throw PipelineError.length(what: "picture", expected: 4 * width * height, found: bytes.count) }
      return image
    }

    /// A picture of Core Graphics, drawn into 8 bits per channel in sRGB.
    ///
    /// - Throws: `PipelineError.length` when there is no room for it.
    public init(_ image: CGImage) throws {
      let (width, height) = (image.width, image.height)
      var bytes = [UInt8](repeating: 0, count: 4 * width * height)
      let isDrawn = bytes.withUnsafeMutableBytes { target in
        guard let space = CGColorSpace(name: CGColorSpace.sRGB),
          let context = CGContext(
            data: target.baseAddress, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
            space: space, bitmapInfo: CGImageAlphaInfo.premultipliedLast.rawValue)
        else { return false }
        context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
        return true
      }
      guard isDrawn else { throw PipelineError.length(what: "picture", expected: bytes.count, found: 0) }
      try self.init(width: width, height: height, bytes: bytes)
    }
  }

  extension RGBAImage {
    fileprivate func platformImage() throws -> PlatformImage { try cgImage() }
  }
#else
  /// The platform's picture: `CGImage` on Apple's systems, `RGBAImage` elsewhere.
  public typealias PlatformImage = RGBAImage

  extension RGBAImage {
    fileprivate func platformImage() throws -> PlatformImage { self }
  }
#endif

extension ImageGenerator {
  /// Makes a picture with the settings of `Options.template`.
  ///
  /// - Parameters:
  ///   - prompt: What it should show.
  ///   - loraURL: A style: what `ModelManager.compileAndSaveLoRA(at:)` returned, or the asset itself, which is then
  ///     compiled first. nil for the base alone.
  /// - Throws: as `generate(_:)`.
  public nonisolated func generateImage(prompt: String, loraURL: URL? = nil) async throws -> sending PlatformImage {
    var request = options.template
    request.prompt = prompt
    if let loraURL { request.adapters.append(AdapterUse(loraURL)) }
    let made = try await generate(request)
    return try made.image.platformImage()
  }
}
