import GessoPipeline
import XCTest

final class ImageTests: XCTestCase {
  func testBytesAreRoundedClampedAndInterleaved() throws {
    let half = 2 * (0.5 / Float(255)) - 1
    let image = try RGBAImage(planes: [-1, 1, half, 7, .nan, -7], width: 2, height: 1)
    XCTAssertEqual(image.bytes, [0, 0, 0, 255, 255, 255, 0, 255])
    XCTAssertThrowsError(try RGBAImage(planes: [0], width: 1, height: 1))
    XCTAssertThrowsError(try RGBAImage(width: 2, height: 1, bytes: [0]))
    let back = try RGBAImage(planes: image.planes, width: 2, height: 1)
    XCTAssertEqual(back, image)
  }

  func testMasksMixPixels() throws {
    let white = try RGBAImage(width: 2, height: 1, bytes: [UInt8](repeating: 255, count: 8))
    let black = try RGBAImage(width: 2, height: 1, bytes: [0, 0, 0, 255, 0, 0, 0, 255])
    XCTAssertEqual(try white.masked(by: [1, 0.5], over: black).bytes, [255, 255, 255, 255, 128, 128, 128, 255])
    XCTAssertEqual(white.brightness, [1, 1])
    XCTAssertThrowsError(try white.masked(by: [1], over: black))
  }

  func testPicturesComeBackFromPNG() throws {
    for (width, height, hasAlpha) in [(5, 4, false), (300, 80, true), (1, 1, true)] {
      let bytes = (0..<(4 * width * height)).map { $0 % 4 == 3 && !hasAlpha ? 255 : UInt8($0 * 7 % 251) }
      let image = try RGBAImage(width: width, height: height, bytes: bytes)
      let file = PNG.data(image, texts: ["parameters": "größe"])
      XCTAssertEqual(try PNG.image(file), image)
    }
  }

  /// Written by the Rust program's encoder: compressed, with filters.
  func testPicturesOfOtherEncodersAreRead() throws {
    let file = try Data(contentsOf: fixtures.appendingPathComponent("swift/base.png"))
    let image = try PNG.image(file)
    XCTAssertEqual([image.width, image.height], [128, 128])
    XCTAssertEqual(try PNG.image(PNG.data(image)), image)
  }

  /// Every form of colour, by Python's standard library: grey, grey with alpha, palette with alpha.
  func testFormsOfColourAreRead() throws {
    let forms: [(String, [UInt8])] = [
      (
        "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAAAAABX3VL4AAAADklEQVR42mNgcGBqaAAAAowBQy0JQ/sAAAAASUVORK5CYII=",
        [0, 0, 0, 255, 64, 64, 64, 255, 128, 128, 128, 255, 192, 192, 192, 255]
      ),
      (
        "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAQAAADYv8WvAAAAEklEQVR42mNg+O/QwNjA6MAIAA9LAoNLeCoOAAAAAElFTkSuQmCC",
        [0, 0, 0, 255, 64, 64, 64, 128, 128, 128, 128, 1, 192, 192, 192, 2]
      ),
      (
        "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAMAAABFaP0WAAAABlBMVEUBAgPIZDJQtK4/AAAAAXRSTlMH3oJNxQAAAAxJREFUeNpjYGAEQgAADAADFZ4Y/AAAAABJRU5ErkJggg==",
        [1, 2, 3, 7, 200, 100, 50, 255, 200, 100, 50, 255, 1, 2, 3, 7]
      ),
    ]
    for (text, want) in forms {
      let file = try XCTUnwrap(Data(base64Encoded: text))
      XCTAssertEqual(try PNG.image(file).bytes, want)
    }
  }

  func testDamagedFilesAreErrors() throws {
    let file = [UInt8](try Data(contentsOf: fixtures.appendingPathComponent("swift/base.png")))
    for count in [0, 7, 8, 20, 40, file.count - 13, file.count - 1] {
      XCTAssertThrowsError(try PNG.image(Data(file.prefix(count))), "\(count) bytes")
    }
    for index in stride(from: 0, to: file.count, by: 997) {
      var damaged = file
      damaged[index] ^= 0x20
      XCTAssertThrowsError(try PNG.image(Data(damaged)), "byte \(index)")
    }
  }
}
