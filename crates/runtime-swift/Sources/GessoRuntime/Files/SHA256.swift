import Foundation

/// SHA-256 (FIPS 180-4): 32 bytes of any number of bytes. Linux has no CryptoKit, and both systems must agree.
struct SHA256 {
  private var state: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
  ]
  /// Bytes that do not fill a block yet.
  private var pending: [UInt8] = []
  private var length: UInt64 = 0

  /// Takes the next bytes.
  mutating func update(_ bytes: UnsafeRawBufferPointer) {
    length &+= UInt64(bytes.count)
    var rest = bytes[...]
    if !pending.isEmpty {
      let missing = rest.prefix(64 - pending.count)
      pending.append(contentsOf: missing)
      rest = rest.dropFirst(missing.count)
      guard pending.count == 64 else { return }
      let block = pending
      block.withUnsafeBytes { compress($0) }
      pending.removeAll(keepingCapacity: true)
    }
    let whole = rest.count / 64 * 64
    compress(UnsafeRawBufferPointer(rebasing: rest.prefix(whole)))
    pending.append(contentsOf: rest.dropFirst(whole))
  }

  /// Takes the next bytes.
  mutating func update(_ data: some ContiguousBytes) { data.withUnsafeBytes { update($0) } }

  /// The hash of all bytes so far, 64 lower-case hexadecimal digits.
  func finish() -> String {
    var copy = self
    var tail = [UInt8](repeating: 0, count: (pending.count < 56 ? 64 : 128) - pending.count)
    tail[0] = 0x80
    for index in 0..<8 { tail[tail.count - 1 - index] = UInt8(truncatingIfNeeded: (length &* 8) >> (8 * index)) }
    copy.update(tail)
    return copy.state.map(Self.digits).joined()
  }

  /// The hash of `data`, 64 lower-case hexadecimal digits.
  static func hex(_ data: some ContiguousBytes) -> String {
    var hash = SHA256()
    hash.update(data)
    return hash.finish()
  }

  /// Whether a text is a hash as this type writes it.
  static func isHash(_ text: String) -> Bool {
    text.utf8.count == 64 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
  }

  private static func digits(_ word: UInt32) -> String {
    let text = String(word, radix: 16)
    return String(repeating: "0", count: 8 - text.count) + text
  }

  /// Whole blocks.
  private mutating func compress(_ blocks: UnsafeRawBufferPointer) {
    guard let first = blocks.baseAddress else { return }
    state.withUnsafeMutableBufferPointer { state in
      Self.constants.withUnsafeBufferPointer { constants in
        withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { schedule in
          guard let s = state.baseAddress, let k = constants.baseAddress, let w = schedule.baseAddress else { return }
          var offset = 0
          while offset < blocks.count {
            Self.round(first + offset, s, k, w)
            offset &+= 64
          }
        }
      }
    }
  }

  /// One block of 64 bytes: `s` has 8 words, `k` and `w` have 64.
  private static func round(
    _ block: UnsafeRawPointer, _ s: UnsafeMutablePointer<UInt32>, _ k: UnsafePointer<UInt32>,
    _ w: UnsafeMutablePointer<UInt32>
  ) {
    var t = 0
    while t < 16 {
      w[t] = UInt32(bigEndian: block.loadUnaligned(fromByteOffset: 4 &* t, as: UInt32.self))
      t &+= 1
    }
    while t < 64 {
      let x = w[t &- 15]
      let y = w[t &- 2]
      let low: UInt32 = rotated(x, 7) ^ rotated(x, 18) ^ (x &>> 3)
      let high: UInt32 = rotated(y, 17) ^ rotated(y, 19) ^ (y &>> 10)
      w[t] = (w[t &- 16] &+ low) &+ (w[t &- 7] &+ high)
      t &+= 1
    }
    var a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7]
    t = 0
    while t < 64 {
      let sum1: UInt32 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)
      let choice: UInt32 = (e & f) ^ (~e & g)
      let one: UInt32 = (h &+ sum1) &+ (choice &+ k[t]) &+ w[t]
      let sum0: UInt32 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)
      let majority: UInt32 = (a & b) ^ (a & c) ^ (b & c)
      h = g
      g = f
      f = e
      e = d &+ one
      d = c
      c = b
      b = a
      a = one &+ sum0 &+ majority
      t &+= 1
    }
    s[0] &+= a
    s[1] &+= b
    s[2] &+= c
    s[3] &+= d
    s[4] &+= e
    s[5] &+= f
    s[6] &+= g
    s[7] &+= h
  }

  private static let constants: [UInt32] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
  ]
}

/// The word turned right by `count` bits.
@inline(__always)
private func rotated(_ word: UInt32, _ count: UInt32) -> UInt32 { (word &>> count) | (word &<< (32 &- count)) }
