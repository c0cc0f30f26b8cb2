//! Natural logarithm, sine and cosine in float32, rounded as glibc's C functions round them.
//!
//! PyTorch's portable code calls these, and its numbers can only be met with the same approximations: they are
//! evaluated in double precision with an error up to 0.82 ulp after rounding to float32, so a correctly rounded
//! function differs in about one result of a hundred. The coefficients are those of the C library's published
//! tables; the tests against PyTorch's draws check every one of them.

/// Reciprocals of the centres of sixteen intervals of [0.7, 1.4), and the logarithms of the centres.
const CENTRES: [(f64, f64); 16] = [
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
];
const LOG_TAIL: [f64; 3] = [-0.25089342214237154, 0.333456765744066, -0.4999997485802103];

/// Natural logarithm of a normal, positive number.
pub(super) fn log(x: f32) -> f32 {
    const LOWEST: u32 = 0x3f33_0000;
    let offset = x.to_bits().wrapping_sub(LOWEST);
    let exponent = (offset as i32) >> 23;
    let mantissa = f32::from_bits(x.to_bits().wrapping_sub(offset & 0xff80_0000));
    let (reciprocal, log_centre) = CENTRES[(offset >> 19) as usize % CENTRES.len()];
    let r = f64::from(mantissa) * reciprocal - 1.0;
    let base = log_centre + f64::from(exponent) * std::f64::consts::LN_2;
    let r2 = r * r;
    let tail = LOG_TAIL[0] * r2 + (LOG_TAIL[1] * r + LOG_TAIL[2]);
    (tail * r2 + (base + r)) as f32
}

/// Sine of an angle of [0, 100).
pub(super) fn sin(x: f32) -> f32 {
    let (r, quarter) = reduced(x);
    match quarter % 4 {
        0 => sine(r),
        1 => cosine(r),
        2 => sine(-r),
        _ => -cosine(r),
    }
}

/// Cosine of an angle of [0, 100).
pub(super) fn cos(x: f32) -> f32 {
    let (r, quarter) = reduced(x);
    match quarter % 4 {
        0 => cosine(r),
        1 => sine(-r),
        2 => -cosine(r),
        _ => sine(r),
    }
}

/// The angle less the nearest multiple of π/2, and that multiple.
fn reduced(x: f32) -> (f64, u32) {
    let x = f64::from(x);
    let quarter = (x * std::f64::consts::FRAC_2_PI + 0.5) as u32;
    (
        x - f64::from(quarter) * std::f64::consts::FRAC_PI_2,
        quarter,
    )
}

fn sine(r: f64) -> f32 {
    let r2 = r * r;
    let r3 = r * r2;
    let head = r + r3 * -0.16666654943701084;
    (head + r3 * r2 * (0.008332178146138854 + r2 * -0.00019517298981385725)) as f32
}

fn cosine(r: f64) -> f32 {
    let r2 = r * r;
    let r4 = r2 * r2;
    let head = 1.0 + r2 * -0.49999999725108224 + r4 * 0.041666623324344516;
    (head + r4 * r2 * (-0.001388676379437604 + r2 * 2.4390450703564542e-05)) as f32
}
