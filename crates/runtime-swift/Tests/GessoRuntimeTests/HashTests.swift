import Foundation
import XCTest

@testable import GessoRuntime

final class HashTests: XCTestCase {
  /// FIPS 180-4's examples and others whose values GNU coreutils gives.
  func testKnownAnswersOfSHA256() {
    let known: [(String, String)] = [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
      (
        "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"
      ),
    ]
    for (text, hash) in known { XCTAssertEqual(SHA256.hex(Data(text.utf8)), hash, text) }
    let million = Data(repeating: UInt8(ascii: "a"), count: 1_000_000)
    XCTAssertEqual(SHA256.hex(million), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
  }

  func testPiecesGiveTheHashOfTheWhole() {
    let bytes = Data((0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) })
    let whole = SHA256.hex(bytes)
    for size in [1, 3, 55, 56, 63, 64, 65, 127, 128, 999] {
      var hash = SHA256()
      for start in stride(from: 0, to: bytes.count, by: size) { hash.update(bytes[start..<min(start + size, 1000)]) }
      XCTAssertEqual(hash.finish(), whole, "pieces of \(size)")
      XCTAssertEqual(hash.finish(), whole, "finishing changes nothing")
    }
  }

  func testKnownAnswersOfCRC32() {
    for (text, value) in [("", 0), ("123456789", 0xcbf4_3926), ("The quick brown fox jumps over the lazy dog", 0x414f_a339)] {
      var crc = CRC32()
      Data(text.utf8).withUnsafeBytes { crc.update($0) }
      XCTAssertEqual(crc.finish(), UInt32(value), text)
    }
  }

  func testHashesAreLowerCaseAndWhole() {
    let hash = SHA256.hex(Data())
    XCTAssert(SHA256.isHash(hash))
    for text in ["", String(hash.dropLast()), hash.uppercased(), hash + "0", "g" + hash.dropFirst()] {
      XCTAssertFalse(SHA256.isHash(text), text)
    }
  }

  #if !(os(macOS) && arch(x86_64))
    func testHalvesInIntegersAreThoseOfTheMachine() {
      for bits in UInt16.min...UInt16.max {
        let number = Float(Float16(bitPattern: bits))
        let ours = HalfFloat.unpacked(bits)
        if number.isNaN {
          XCTAssert(ours.isNaN)
          continue
        }
        XCTAssertEqual(ours.bitPattern, number.bitPattern, "\(bits)")
        // The number itself, its neighbours, and the middle between it and the next one.
        let next = Float(Float16(bitPattern: bits &+ 1))
        for value in [number, number.nextUp, number.nextDown, (number + next) / 2, ((number + next) / 2).nextUp]
        where !value.isNaN {
          XCTAssertEqual(HalfFloat.packed(value), Float16(value).bitPattern, "\(value)")
        }
      }
    }
  #endif
}
