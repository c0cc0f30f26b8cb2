/// A single-byte encoding that text is often read in by mistake: bytes below 0x80 are ASCII.
struct Charset: Sendable {
  /// Name as IANA writes it.
  let name: String
  /// Characters of bytes 0x80 to 0xff, in order; bytes that the standard leaves free stand for the C1 control or
  /// Latin-1 character of the same number.
  let upper: [Unicode.Scalar]
  /// Whether byte 0x1a stands for U+FFFD, as where unreadable bytes were replaced by it.
  let lossy: Bool
  private let bytes: [Unicode.Scalar: UInt8]

  init(_ name: String, _ upper: String, lossy: Bool) {
    self.name = name
    self.upper = Array(upper.unicodeScalars)
    self.lossy = lossy
    var bytes: [Unicode.Scalar: UInt8] = [:]
    for (index, scalar) in self.upper.enumerated() where bytes[scalar] == nil {
      bytes[scalar] = UInt8(truncatingIfNeeded: index + 0x80)
    }
    self.bytes = bytes
  }

  /// The byte that stands for a character.
  func byte(_ scalar: Unicode.Scalar) -> UInt8? {
    switch scalar {
    case "\u{fffd}" where lossy: 0x1a
    case "\u{1a}" where lossy: nil
    case "\u{0}"..."\u{7f}": UInt8(exactly: scalar.value)
    default: bytes[scalar]
    }
  }

  /// The character that a byte stands for.
  func character(_ byte: UInt8) -> Unicode.Scalar {
    if byte == 0x1a, lossy { return "\u{fffd}" }
    return byte < 0x80 ? Unicode.Scalar(byte) : upper[Int(byte) - 0x80]
  }

  /// The text's bytes, if this encoding has all of its characters.
  func encoded(_ text: [Unicode.Scalar]) -> [UInt8]? {
    var out: [UInt8] = []
    out.reserveCapacity(text.count)
    for scalar in text {
      guard let byte = byte(scalar) else { return nil }
      out.append(byte)
    }
    return out
  }

  /// Latin-1, whose byte is the code point.
  static let latin1 = Charset(
    "latin-1", String(String.UnicodeScalarView((0x80...0xff).map { Unicode.Scalar(UInt8($0)) })), lossy: false)

  static let windows1252 = Charset(
    "windows-1252",
    "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿"
      + "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ",
    lossy: true)

  /// Those that are tried after Latin-1, in this order.
  static let all: [Charset] = [
    windows1252,
    Charset(
      "windows-1251",
      "ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕї"
        + "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя",
      lossy: true),
    Charset(
      "windows-1250",
      "€\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·¸ąş»Ľ˝ľż"
        + "ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
      lossy: true),
    Charset(
      "windows-1253",
      "€\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏ"
        + "ΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδεζηθικλμνξοπρςστυφχψωϊϋόύώÿ",
      lossy: true),
    Charset(
      "windows-1254",
      "€\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·¸¹º»¼½¾¿"
        + "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ",
      lossy: true),
    Charset(
      "windows-1257",
      "€\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\u{a0}¡¢£¤¥¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æ"
        + "ĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųłśūüżž˙",
      lossy: true),
    Charset(
      "iso-8859-2",
      "\u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\u{9e}\u{9f}\u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žż"
        + "ŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙",
      lossy: false),
    Charset(
      "macintosh",
      "ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø"
        + "¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ",
      lossy: false),
    Charset(
      "ibm437",
      "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"
        + "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}",
      lossy: false),
  ]
}
