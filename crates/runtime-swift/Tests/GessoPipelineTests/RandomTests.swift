import GessoPipeline
import XCTest

/// Random numbers against NumPy, PyTorch's portable code and Philox.
final class RandomTests: XCTestCase {
  private let seeds: [UInt32] = [0, 1, 42, .max]

  func testNumpyIsExact() throws {
    let golden = try Golden("goldens/rng/numpy.safetensors")
    for seed in seeds {
      var rng = NumpyRng(seed: seed)
      XCTAssertEqual(try golden.values("s\(seed).uint32").filter { $0 != Double(rng.nextBits()) }.count, 0)
      rng = NumpyRng(seed: seed)
      XCTAssertEqual(try golden.values("s\(seed).random_sample").filter { $0 != rng.uniform() }.count, 0)
      rng = NumpyRng(seed: seed)
      let want = try golden.floats("s\(seed).n16384")
      XCTAssertEqual(want.count, 16384)
      XCTAssertTrue(rng.normal(want.count) == want, "seed \(seed)")
    }
  }

  func testTorchIsExactlyThePortableCode() throws {
    let golden = try Golden("goldens/rng/torch_scalar.safetensors")
    for seed in seeds {
      for count in [1, 15, 16, 17, 64, 4096] {
        var rng = TorchRng(seed: UInt64(seed))
        XCTAssertTrue(rng.normal(count) == (try golden.floats("s\(seed).f32.n\(count)")), "seed \(seed) n \(count)")
      }
    }
  }

  /// The file made with AVX2 differs from the portable code by rounding only.
  func testTorchFollowsTheVectorCodeClosely() throws {
    let golden = try Golden("goldens/rng/torch.safetensors")
    let check = { (name: String, found: [Float]) in
      XCTAssertLessThan(relativeRMS(try golden.values(name), found), 1e-6, name)
    }
    for seed in seeds {
      for count in [1, 15, 16, 17, 64, 4096, 16384] {
        var rng = TorchRng(seed: UInt64(seed))
        try check("s\(seed).f32.n\(count)", rng.normal(count))
      }
      for count in [5, 15, 17, 64] {
        var rng = TorchRng(seed: UInt64(seed))
        for call in ["first", "second"] { try check("s\(seed).two_calls.n\(count).\(call)", rng.normal(count)) }
      }
      var rng = TorchRng(seed: UInt64(seed))
      XCTAssertEqual(try golden.values("s\(seed).uniform.n8").filter { $0 != Double(rng.uniform()) }.count, 0)
    }
  }

  func testNvidiaWordsAreExactAndValuesRoundToTheSameFloat() throws {
    let golden = try Golden("goldens/rng/philox.safetensors")
    for seed in seeds {
      var rng = NvidiaRng(seed: UInt64(seed))
      for call in 0..<3 {
        let words = try golden.values("s\(seed).call\(call).words")
        XCTAssertEqual(try golden.shape("s\(seed).call\(call).words"), [4, 8])
        for index in 0..<8 {
          let block = philox4x32x10(counter: [UInt32(call), 0, UInt32(index), 0], key: [seed, 0])
          XCTAssertEqual(block.map { Double($0) }, (0..<4).map { words[$0 * 8 + index] })
        }
        let want = try golden.floats("s\(seed).call\(call).f64")
        XCTAssertEqual(rng.normal(want.count), want)
      }
    }
    let big = (UInt64(1) << 40) + 12345
    var rng = NvidiaRng(seed: big)
    XCTAssertEqual(rng.normal(64), try golden.floats("s\(big).call0.f64"))
  }

  /// The known answers that the Random123 library ships.
  func testPhiloxGivesTheKnownAnswers() {
    XCTAssertEqual(
      philox4x32x10(counter: [0, 0, 0, 0], key: [0, 0]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8])
    XCTAssertEqual(
      philox4x32x10(counter: [.max, .max, .max, .max], key: [.max, .max]),
      [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd])
  }

  func testNumpyRefusesLongSeeds() throws {
    XCTAssertThrowsError(try RngKind.numpy.source(seed: 1 << 32)) { error in
      XCTAssertEqual(
        String(describing: error), "`seed` is 4294967296, expected at most 4294967295 for the numpy generator")
    }
    _ = try RngKind.nvidia.source(seed: 1 << 32)
  }
}
