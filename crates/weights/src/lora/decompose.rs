//! QR and singular values of small matrices in f64, row-major. Plain loops in a fixed order: the same bits on every CPU.

use super::matrix::transposed;

/// Thin QR of `m [rows, columns]` by Householder reflections: `(q [rows, k], r [k, columns], k)` with `k = min(rows, columns)`.
pub(crate) fn qr(m: &[f64], rows: usize, columns: usize) -> (Vec<f64>, Vec<f64>, usize) {
    let k = rows.min(columns);
    // Columns lie one after the other, so that the inner loops run over neighbours.
    let mut a = transposed(m, rows, columns);
    let mut reflectors: Vec<Vec<f64>> = Vec::with_capacity(k);
    for j in 0..k {
        let column = &a[j * rows..(j + 1) * rows];
        let mut v = vec![0.0; rows];
        v[j..].copy_from_slice(&column[j..]);
        let norm = dot(&v, &v).sqrt();
        if norm > 0.0 {
            v[j] += if v[j] < 0.0 { -norm } else { norm };
            let length = dot(&v, &v).sqrt();
            v.iter_mut().for_each(|x| *x /= length);
        }
        for c in j..columns {
            reflect(&mut a[c * rows..(c + 1) * rows], &v, j);
        }
        reflectors.push(v);
    }
    let mut r = vec![0.0; k * columns];
    for i in 0..k {
        for c in i..columns {
            r[i * columns + c] = a[c * rows + i];
        }
    }
    let mut q = vec![0.0; k * rows];
    for j in 0..k {
        q[j * rows + j] = 1.0;
    }
    for (j, v) in reflectors.iter().enumerate().rev() {
        for c in 0..k {
            reflect(&mut q[c * rows..(c + 1) * rows], v, j);
        }
    }
    (transposed(&q, k, rows), r, k)
}

fn reflect(column: &mut [f64], v: &[f64], from: usize) {
    let twice = 2.0 * dot(&column[from..], &v[from..]);
    for (x, &y) in column[from..].iter_mut().zip(&v[from..]) {
        *x -= twice * y;
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Singular value decomposition of `m [rows, columns]` with `m = Σ_i s_i · u_i · v_iᵀ`, singular values falling.
pub(crate) struct Svd {
    /// Left vectors, one after the other: `[n, rows]`.
    pub(crate) left: Vec<f64>,
    /// Singular values `[n]`.
    pub(crate) values: Vec<f64>,
    /// Right vectors, one after the other: `[n, columns]`.
    pub(crate) right: Vec<f64>,
}

const MAX_SWEEPS: usize = 60;

/// One-sided Jacobi on the columns of `m`; `n = columns`.
pub(crate) fn svd(m: &[f64], rows: usize, columns: usize) -> Svd {
    let mut u = transposed(m, rows, columns);
    let mut v = vec![0.0; columns * columns];
    for j in 0..columns {
        v[j * columns + j] = 1.0;
    }
    for _ in 0..MAX_SWEEPS {
        let mut turned = false;
        for p in 0..columns {
            for q in p + 1..columns {
                turned |= orthogonalize(&mut u, &mut v, rows, columns, p, q);
            }
        }
        if !turned {
            break;
        }
    }
    let lengths: Vec<f64> = u
        .chunks_exact(rows.max(1))
        .map(|c| dot(c, c).sqrt())
        .collect();
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by(|&a, &b| lengths[b].total_cmp(&lengths[a]).then(a.cmp(&b)));
    let mut result = Svd {
        left: Vec::with_capacity(u.len()),
        values: Vec::with_capacity(columns),
        right: Vec::with_capacity(v.len()),
    };
    for j in order {
        let s = lengths[j];
        let unit = if s > 0.0 { 1.0 / s } else { 0.0 };
        result.values.push(s);
        result
            .left
            .extend(u[j * rows..(j + 1) * rows].iter().map(|x| x * unit));
        result
            .right
            .extend_from_slice(&v[j * columns..(j + 1) * columns]);
    }
    result
}

/// Turns columns `p` and `q` until they are orthogonal; whether anything had to be done.
fn orthogonalize(
    u: &mut [f64],
    v: &mut [f64],
    rows: usize,
    columns: usize,
    p: usize,
    q: usize,
) -> bool {
    let (a, b) = pair(u, rows, p, q);
    let (aa, bb, ab) = (dot(a, a), dot(b, b), dot(a, b));
    if ab == 0.0 || ab.abs() <= 1e-15 * (aa * bb).sqrt() {
        return false;
    }
    let zeta = (bb - aa) / (2.0 * ab);
    let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = c * t;
    turn(a, b, c, s);
    let (a, b) = pair(v, columns, p, q);
    turn(a, b, c, s);
    true
}

fn pair(m: &mut [f64], length: usize, p: usize, q: usize) -> (&mut [f64], &mut [f64]) {
    let (head, tail) = m.split_at_mut(q * length);
    (&mut head[p * length..(p + 1) * length], &mut tail[..length])
}

fn turn(a: &mut [f64], b: &mut [f64], c: f64, s: f64) {
    for (x, y) in a.iter_mut().zip(b) {
        let (old_x, old_y) = (*x, *y);
        *x = c * old_x - s * old_y;
        *y = s * old_x + c * old_y;
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::product;
    use super::*;

    fn sample(rows: usize, columns: usize) -> Vec<f64> {
        (0..rows * columns)
            .map(|i| ((i * 7919 + 13) % 101) as f64 / 50.0 - 1.0)
            .collect()
    }

    #[test]
    fn qr_multiplies_back_and_is_orthogonal() {
        for (rows, columns) in [(7, 3), (3, 7), (5, 5), (1, 4)] {
            let m = sample(rows, columns);
            let (q, r, k) = qr(&m, rows, columns);
            let back = product(&q, &r, rows, k, columns);
            assert!(m.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-13));
            let gram = product(&transposed(&q, rows, k), &q, k, rows, k);
            for i in 0..k {
                for j in 0..k {
                    let want = if i == j { 1.0 } else { 0.0 };
                    assert!((gram[i * k + j] - want).abs() < 1e-13);
                }
            }
        }
    }

    #[test]
    fn svd_multiplies_back_with_falling_values() {
        for (rows, columns) in [(6, 4), (5, 5), (8, 1)] {
            let m = sample(rows, columns);
            let d = svd(&m, rows, columns);
            assert!(d.values.windows(2).all(|w| w[0] >= w[1]));
            let mut back = vec![0.0; rows * columns];
            for (n, s) in d.values.iter().enumerate() {
                for i in 0..rows {
                    for j in 0..columns {
                        back[i * columns + j] +=
                            s * d.left[n * rows + i] * d.right[n * columns + j];
                    }
                }
            }
            assert!(m.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-12));
        }
    }

    #[test]
    fn svd_of_a_rank_one_matrix() {
        let d = svd(&[3.0, 0.0, 4.0, 0.0], 2, 2);
        assert_eq!(d.values, [5.0, 0.0]);
    }
}
