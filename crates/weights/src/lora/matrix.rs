//! Small dense products, row-major. Sums run in a fixed order and without fused multiply-add, so that every CPU gives the
//! same bits.

/// `left [rows, inner] · right [inner, columns]` in f64.
pub(crate) fn product(
    left: &[f64],
    right: &[f64],
    rows: usize,
    inner: usize,
    columns: usize,
) -> Vec<f64> {
    let mut out = vec![0.0; rows * columns];
    if columns == 0 || inner == 0 {
        return out;
    }
    for (out_row, left_row) in out.chunks_exact_mut(columns).zip(left.chunks_exact(inner)) {
        for (&l, right_row) in left_row.iter().zip(right.chunks_exact(columns)) {
            if l != 0.0 {
                for (o, &r) in out_row.iter_mut().zip(right_row) {
                    *o += l * r;
                }
            }
        }
    }
    out
}

/// `scale · left [rows, inner] · right [inner, columns]` in f32, four inner terms at a time.
pub(crate) fn scaled_product(
    left: &[f32],
    right: &[f32],
    inner: usize,
    columns: usize,
    scale: f32,
) -> Vec<f32> {
    if inner == 0 || columns == 0 {
        return Vec::new();
    }
    let rows = left.len() / inner;
    let mut out = vec![0.0f32; rows * columns];
    for (out_row, left_row) in out.chunks_exact_mut(columns).zip(left.chunks_exact(inner)) {
        let mut terms = left_row.chunks_exact(4);
        let mut right_rows = right.chunks_exact(4 * columns);
        for (l, r) in terms.by_ref().zip(right_rows.by_ref()) {
            let (first, second) = r.split_at(2 * columns);
            let (r0, r1) = first.split_at(columns);
            let (r2, r3) = second.split_at(columns);
            if let [l0, l1, l2, l3] = *l {
                for ((((o, &a), &b), &c), &d) in out_row.iter_mut().zip(r0).zip(r1).zip(r2).zip(r3)
                {
                    *o += (l0 * a + l1 * b) + (l2 * c + l3 * d);
                }
            }
        }
        let rest = right_rows.remainder();
        for (&l, right_row) in terms.remainder().iter().zip(rest.chunks_exact(columns)) {
            for (o, &r) in out_row.iter_mut().zip(right_row) {
                *o += l * r;
            }
        }
        for o in out_row.iter_mut() {
            *o *= scale;
        }
    }
    out
}

/// The transpose of `m [rows, columns]`.
pub(crate) fn transposed<T: Copy>(m: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns)
        .flat_map(|c| (0..rows).filter_map(move |r| m.get(r * columns + c).copied()))
        .collect()
}

/// `m` widened to f64.
pub(crate) fn widened(m: &[f32]) -> Vec<f64> {
    m.iter().map(|&x| f64::from(x)).collect()
}

/// `m` rounded to f32.
pub(crate) fn rounded(m: &[f64]) -> Vec<f32> {
    m.iter().map(|&x| x as f32).collect()
}

/// Solves `a [n, n] · x = b [n, n]` by elimination with row pivoting; `None` when `a` is singular.
pub(crate) fn solved(mut a: Vec<f64>, mut b: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    for column in 0..n {
        let pivot = (column..n)
            .max_by(|&x, &y| a[x * n + column].abs().total_cmp(&a[y * n + column].abs()))?;
        if a[pivot * n + column].abs() < f64::MIN_POSITIVE {
            return None;
        }
        if pivot != column {
            for k in 0..n {
                a.swap(pivot * n + k, column * n + k);
                b.swap(pivot * n + k, column * n + k);
            }
        }
        let lead = a[column * n + column];
        for row in (0..n).filter(|&r| r != column) {
            let factor = a[row * n + column] / lead;
            if factor == 0.0 {
                continue;
            }
            for k in 0..n {
                a[row * n + k] -= factor * a[column * n + k];
                b[row * n + k] -= factor * b[column * n + k];
            }
        }
        for k in 0..n {
            a[column * n + k] /= lead;
            b[column * n + k] /= lead;
        }
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_agree() {
        let left: Vec<f32> = (0..3 * 6).map(|i| (i as f32).sin()).collect();
        let right: Vec<f32> = (0..6 * 5).map(|i| (i as f32).cos()).collect();
        let a = product(&widened(&left), &widened(&right), 3, 6, 5);
        let b = scaled_product(&left, &right, 6, 5, 2.0);
        for (a, b) in a.iter().zip(&b) {
            assert!((2.0 * a - f64::from(*b)).abs() < 1e-5);
        }
    }

    #[test]
    fn solved_gives_the_inverse() {
        let a = vec![0.0, 2.0, 1.0, 3.0];
        let x = solved(a.clone(), vec![1.0, 0.0, 0.0, 1.0], 2).unwrap();
        let one = product(&a, &x, 2, 2, 2);
        assert_eq!(one, [1.0, 0.0, 0.0, 1.0]);
        assert!(solved(vec![0.0; 4], vec![0.0; 4], 2).is_none());
    }
}
