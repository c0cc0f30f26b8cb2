/// Natural logarithm, sine and cosine in float32, rounded as glibc's C functions round them.
///
/// PyTorch's portable code calls these, and its numbers can only be met with the same approximations: they are
/// evaluated in double precision with an error up to 0.82 ulp after rounding to float32, so a correctly rounded
/// function differs in about one result of a hundred. The coefficients are those of the C library's published
/// tables; the tests against PyTorch's draws check every one of them.
enum SingleMath {
  /// Reciprocals of the centres of sixteen intervals of [0.7, 1.4), and the logarithms of the centres.
  private static let centres: [(reciprocal: Double, logarithm: Double)] = [
    (1.398907162146528, -0.33569133332882284),
    (1.3403141896637998, -0.2929040563774074),
    (1.286432210124115, -0.2518726580937369),
    (1.2367150214269895, -0.21245868807117255),
    (1.1906977166711752, -0.17453945183745634),
    (1.1479821020556429, -0.1380057072319758),
    (1.1082251448272158, -0.10275976698545139),
    (1.0711297413057381, -0.06871392447020525),
    (1.036437278977283, -0.0357891387398228),
    (1.0, 0.0),
    (0.9492859795739057, 0.05204517742929496),
    (0.8951049428609004, 0.11081431298787942),
    (0.8476821620351103, 0.1652495223695143),
    (0.8050314851692001, 0.21687389031699977),
    (0.7664671008843108, 0.2659635028121397),
    (0.731428603316328, 0.3127556664073557),
  ]
  private static let logTail = (-0.25089342214237154, 0.333456765744066, -0.4999997485802103)

  /// Natural logarithm of a normal, positive number.
  static func log(_ x: Float) -> Float {
    let offset = x.bitPattern &- 0x3f33_0000
    let exponent = Int32(bitPattern: offset) >> 23
    let mantissa = Float(bitPattern: x.bitPattern &- (offset & 0xff80_0000))
    let (reciprocal, logCentre) = centres[Int(offset >> 19) % centres.count]
    let r = Double(mantissa) * reciprocal - 1
    let base = logCentre + Double(exponent) * 0.693147180559945309417232121458
    let r2 = r * r
    let tail = logTail.0 * r2 + (logTail.1 * r + logTail.2)
    return Float(tail * r2 + (base + r))
  }

  /// Sine of an angle of [0, 100).
  static func sin(_ x: Float) -> Float {
    let (r, quarter) = reduced(x)
    switch quarter % 4 {
    case 0: return sine(r)
    case 1: return cosine(r)
    case 2: return sine(-r)
    default: return -cosine(r)
    }
  }

  /// Cosine of an angle of [0, 100).
  static func cos(_ x: Float) -> Float {
    let (r, quarter) = reduced(x)
    switch quarter % 4 {
    case 0: return cosine(r)
    case 1: return sine(-r)
    case 2: return -cosine(r)
    default: return sine(r)
    }
  }

  /// The angle less the nearest multiple of π/2, and that multiple.
  private static func reduced(_ x: Float) -> (Double, Int) {
    let x = Double(x)
    let quarter = Int(x * 0.636619772367581343075535053490 + 0.5)
    return (x - Double(quarter) * 1.57079632679489661923132169164, quarter)
  }

  private static func sine(_ r: Double) -> Float {
    let r2 = r * r
    let r3 = r * r2
    let head = r + r3 * -0.16666654943701084
    return Float(head + r3 * r2 * (0.008332178146138854 + r2 * -0.00019517298981385725))
  }

  private static func cosine(_ r: Double) -> Float {
    let r2 = r * r
    let r4 = r2 * r2
    let head = 1 + r2 * -0.49999999725108224 + r4 * 0.041666623324344516
    return Float(head + r4 * r2 * (-0.001388676379437604 + r2 * 2.4390450703564542e-05))
  }
}
