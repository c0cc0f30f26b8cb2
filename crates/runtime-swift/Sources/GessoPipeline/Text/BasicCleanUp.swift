import Foundation

/// The text in NFC without control characters and U+FFFD, with spaces around Chinese characters: what transformers'
/// slow `CLIPTokenizer` does where ftfy is not installed.
///
/// Source: transformers 4.57 `BasicTokenizer(strip_accents=False, do_split_on_punc=False)`.
func basicallyCleaned(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
  var out: [Unicode.Scalar] = []
  for scalar in text {
    switch scalar {
    case "\t", "\n", "\r": out.append(" ")
    case "\u{fffd}": break
    case _ where scalar.isOther: break
    case _ where isChinese(scalar): out += [" ", scalar, " "]
    default: out.append(scalar)
    }
  }
  return Array(out.text.precomposedStringWithCanonicalMapping.unicodeScalars)
}

/// Whether a character lies in a block of CJK ideographs.
private func isChinese(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.value {
  case 0x4e00...0x9fff, 0x3400...0x4dbf, 0x20000...0x2a6df, 0x2a700...0x2b73f, 0x2b740...0x2ceaf, 0xf900...0xfaff,
    0x2f800...0x2fa1f:
    true
  default: false
  }
}
