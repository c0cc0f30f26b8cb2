import Foundation

/// The file form PNG: 8 bits per channel, not interlaced.
public enum PNG {
  private static let signature: [UInt8] = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]

  /// Most pixels that are read.
  private static let mostPixels = 1 << 26

  /// Why bytes are no picture that is read here.
  public enum Failure: Error, Equatable, Sendable, CustomStringConvertible, LocalizedError {
    /// The bytes are no PNG, or a damaged one.
    case damaged(reason: String)
    /// A form of PNG that is not read.
    case unsupported(what: String)

    public var description: String {
      switch self {
      case .damaged(let reason): "the picture is no PNG or damaged: \(reason)"
      case .unsupported(let what): "PNG with \(what) is not read; save it with 8 bits per channel, not interlaced"
      }
    }

    public var errorDescription: String? { description }
  }

  /// The picture as a file, with a text for each keyword (1–79 characters of Latin-1). The pixels are not compressed; an
  /// opaque picture has no alpha channel in the file.
  public static func data(_ image: RGBAImage, texts: KeyValuePairs<String, String> = [:]) -> Data {
    let isOpaque = stride(from: 3, to: image.bytes.count, by: 4).allSatisfy { image.bytes[$0] == 255 }
    var out = signature
    append("IHDR", bigEndian(image.width) + bigEndian(image.height) + [8, isOpaque ? 2 : 6, 0, 0, 0], to: &out)
    for (keyword, text) in texts {
      append("iTXt", Array(keyword.utf8) + [0, 0, 0, 0, 0] + Array(text.utf8), to: &out)
    }
    let channels = isOpaque ? 3 : 4
    var rows: [UInt8] = []
    rows.reserveCapacity((image.width * channels + 1) * image.height)
    for row in 0..<image.height {
      rows.append(0)
      let start = row * image.width * 4
      if isOpaque {
        for pixel in stride(from: start, to: start + image.width * 4, by: 4) { rows += image.bytes[pixel..<(pixel + 3)] }
      } else {
        rows += image.bytes[start..<(start + image.width * 4)]
      }
    }
    append("IDAT", stored(rows), to: &out)
    append("IEND", [], to: &out)
    return Data(out)
  }

  /// The picture in a file.
  ///
  /// - Throws: `PNG.Failure` for what is none, or of a form that is not read: other than 8 bits, or interlaced.
  public static func image(_ data: Data) throws -> RGBAImage {
    let bytes = [UInt8](data)
    guard bytes.starts(with: signature) else { throw Failure.damaged(reason: "the signature is missing") }
    var header: Header?
    var packed: [UInt8] = []
    var palette: [UInt8] = []
    var transparency: [UInt8] = []
    var at = signature.count
    while true {
      guard at + 12 <= bytes.count else { throw Failure.damaged(reason: "it is cut off") }
      let length = Int(number(bytes, at))
      guard length <= bytes.count - at - 12 else { throw Failure.damaged(reason: "a chunk is cut off") }
      let kind = String(decoding: bytes[(at + 4)..<(at + 8)], as: UTF8.self)
      let body = bytes[(at + 8)..<(at + 8 + length)]
      guard crc32(bytes[(at + 4)..<(at + 8 + length)]) == number(bytes, at + 8 + length) else {
        throw Failure.damaged(reason: "the checksum of chunk `\(kind)` is wrong")
      }
      at += 12 + length
      switch kind {
      case "IHDR": header = try Header(Array(body))
      case "PLTE": palette = Array(body)
      case "tRNS": transparency = Array(body)
      case "IDAT": packed += body
      default: break
      }
      if kind == "IEND" { break }
    }
    guard let header else { throw Failure.damaged(reason: "there is no header") }
    let rows = try unfiltered(try Inflate.zlib(packed, count: header.byteCount), header)
    return try RGBAImage(
      width: header.width, height: header.height, bytes: coloured(rows, header, palette, transparency))
  }

  private struct Header {
    let width: Int
    let height: Int
    let colour: UInt8
    let channels: Int

    /// Bytes of all rows, each with the kind of its filter.
    var byteCount: Int { (width * channels + 1) * height }

    init(_ body: [UInt8]) throws {
      guard body.count == 13 else { throw Failure.damaged(reason: "the header has \(body.count) bytes") }
      (width, height) = (Int(number(body, 0)), Int(number(body, 4)))
      colour = body[9]
      guard let channels = [0: 1, 2: 3, 3: 1, 4: 2, 6: 4][Int(colour)] else {
        throw Failure.damaged(reason: "there is no colour type \(colour)")
      }
      self.channels = channels
      let (pixels, tooMany) = width.multipliedReportingOverflow(by: height)
      guard width > 0, height > 0, !tooMany, pixels <= mostPixels else {
        throw Failure.damaged(reason: "its size is \(width)×\(height)")
      }
      guard body[8] == 8 else { throw Failure.unsupported(what: "\(body[8]) bits per channel") }
      guard body[12] == 0 else { throw Failure.unsupported(what: "interlaced rows") }
    }
  }

  /// Undoes the filter of each row.
  private static func unfiltered(_ rows: [UInt8], _ header: Header) throws -> [UInt8] {
    let (stride, step) = (header.width * header.channels, header.channels)
    var out = [UInt8](repeating: 0, count: stride * header.height)
    for row in 0..<header.height {
      let filter = rows[row * (stride + 1)]
      guard filter <= 4 else { throw Failure.damaged(reason: "there is no filter \(filter)") }
      for column in 0..<stride {
        let at = row * stride + column
        let left = column >= step ? out[at - step] : 0
        let up = row > 0 ? out[at - stride] : 0
        let corner = column >= step && row > 0 ? out[at - stride - step] : 0
        let guess: UInt8 =
          switch filter {
          case 1: left
          case 2: up
          case 3: UInt8((Int(left) + Int(up)) / 2)
          case 4: paeth(left, up, corner)
          default: 0
          }
        out[at] = rows[row * (stride + 1) + 1 + column] &+ guess
      }
    }
    return out
  }

  private static func paeth(_ left: UInt8, _ up: UInt8, _ corner: UInt8) -> UInt8 {
    let guess = Int(left) + Int(up) - Int(corner)
    let (a, b, c) = (abs(guess - Int(left)), abs(guess - Int(up)), abs(guess - Int(corner)))
    if a <= b, a <= c { return left }
    return b <= c ? up : corner
  }

  private static func coloured(
    _ rows: [UInt8], _ header: Header, _ palette: [UInt8], _ transparency: [UInt8]
  ) throws -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(4 * header.width * header.height)
    for at in stride(from: 0, to: rows.count, by: header.channels) {
      switch header.colour {
      case 0: out += [rows[at], rows[at], rows[at], 255]
      case 2: out += [rows[at], rows[at + 1], rows[at + 2], 255]
      case 4: out += [rows[at], rows[at], rows[at], rows[at + 1]]
      case 6: out += rows[at..<(at + 4)]
      default:
        let index = Int(rows[at])
        guard 3 * index + 3 <= palette.count else { throw Failure.damaged(reason: "colour \(index) has no place in the palette") }
        out += palette[(3 * index)..<(3 * index + 3)]
        out.append(index < transparency.count ? transparency[index] : 255)
      }
    }
    return out
  }

  /// A zlib stream of uncompressed blocks.
  private static func stored(_ bytes: [UInt8]) -> [UInt8] {
    var out: [UInt8] = [0x78, 0x01]
    var at = 0
    repeat {
      let count = min(bytes.count - at, 0xffff)
      let isLast = at + count == bytes.count
      let (low, high) = (UInt8(count & 0xff), UInt8(count >> 8))
      out += [isLast ? 1 : 0, low, high, ~low, ~high]
      out += bytes[at..<(at + count)]
      at += count
    } while at < bytes.count
    return out + bigEndian(Int(Inflate.adler32(bytes)))
  }

  private static func append(_ kind: String, _ body: [UInt8], to out: inout [UInt8]) {
    let tagged = Array(kind.utf8) + body
    out += bigEndian(body.count) + tagged + bigEndian(Int(crc32(tagged[...])))
  }

  private static func bigEndian(_ number: Int) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: number >> $0) }
  }

  private static func number(_ bytes: [UInt8], _ at: Int) -> UInt32 {
    bytes[at..<(at + 4)].reduce(0) { $0 << 8 | UInt32($1) }
  }

  private static let crcTable: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { crc, _ in crc & 1 == 1 ? 0xedb8_8320 ^ (crc >> 1) : crc >> 1 }
  }

  private static func crc32(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    let table = crcTable
    var crc: UInt32 = 0xffff_ffff
    for byte in bytes { crc = table[Int((crc ^ UInt32(byte)) & 0xff)] ^ (crc >> 8) }
    return ~crc
  }
}
