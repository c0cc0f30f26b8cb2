//! The best division of a weighted, sorted list of whole numbers into k runs.
//!
//! The cost of a run is its sum of squared distances from its mean, Σw·x² − (Σw·x)²/Σw. That cost is concave Monge, so
//! for a fixed price per run the best division of every prefix is found in O(n log n) by monotone search, and the least
//! cost as a function of the number of runs is convex. The right price is searched; where several numbers of runs
//! are equally good at one price, two divisions are spliced into one with exactly k runs.
//!
//! Source: Aggarwal, Schieber, Tokuyama, "Finding a minimum-weight k-link path in graphs with the concave Monge
//! property", 1994.

/// Prefix sums over the list; run costs come from their differences without cancellation.
pub(crate) struct Prefix {
    rows: Vec<Row>,
}

#[derive(Clone, Copy)]
struct Row {
    /// Σw·x².
    squares: i128,
    /// Σw·x modulo 2^64.
    sum: i64,
    /// Σw·x, rounded.
    about: f64,
    /// Σw.
    weight: i64,
}

impl Prefix {
    /// Sums of (number, weight) pairs. |number| ≤ 2^40, weights positive, fewer than 2^46 together.
    pub(crate) fn new(values: &[(i64, i64)]) -> Self {
        let mut row = Row {
            squares: 0,
            sum: 0,
            about: 0.0,
            weight: 0,
        };
        let mut total = 0_i128;
        let mut rows = Vec::with_capacity(values.len() + 1);
        rows.push(row);
        for &(x, weight) in values {
            let part = i128::from(x) * i128::from(weight);
            total += part;
            row = Row {
                squares: row.squares + part * i128::from(x),
                sum: total as i64,
                about: total as f64,
                weight: row.weight + weight,
            };
            rows.push(row);
        }
        Self { rows }
    }

    /// Number of entries of the list.
    fn len(&self) -> usize {
        self.rows.len().saturating_sub(1)
    }

    /// Cost of the run `from..to`, which is not empty.
    ///
    /// With the whole number m nearest to the mean and r = Σw·x − m·Σw, the cost is Σw·(x−m)² − r²/Σw. The first term
    /// is exact and at least twice the second, so the result is right to a few units in the last place.
    #[inline]
    fn cost(&self, from: usize, to: usize) -> f64 {
        let (Some(a), Some(b)) = (self.rows.get(from), self.rows.get(to)) else {
            return f64::INFINITY;
        };
        let weight = b.weight - a.weight;
        let mean = (b.about - a.about) / weight as f64;
        let mut middle = (mean + 0.5_f64.copysign(mean)) as i64;
        // |r| is far below 2^62, so arithmetic modulo 2^64 gives it exactly.
        let mut rest = b
            .sum
            .wrapping_sub(a.sum)
            .wrapping_sub(middle.wrapping_mul(weight));
        // Very large sums are known only roughly, and m may be some units off.
        if 2 * rest.abs() > weight {
            let units = (2 * rest + weight * rest.signum()) / (2 * weight);
            middle += units;
            rest -= units * weight;
        }
        let wide = i128::from(middle);
        let around = (b.squares - a.squares)
            - wide * (i128::from(middle) * i128::from(weight))
            - 2 * wide * i128::from(rest);
        let around = match i64::try_from(around) {
            Ok(narrow) => narrow as f64,
            Err(_) => around as f64,
        };
        let rest = rest as f64;
        (around - rest * rest / weight as f64).max(0.0)
    }
}

/// A division into runs: ascending bounds from 0 to the length of the list.
struct Division {
    bounds: Vec<usize>,
    cost: f64,
}

impl Division {
    fn new(prefix: &Prefix, bounds: Vec<usize>) -> Self {
        let cost = bounds
            .windows(2)
            .map(|run| match run {
                &[from, to] => prefix.cost(from, to),
                _ => 0.0,
            })
            .sum();
        Self { bounds, cost }
    }

    fn runs(&self) -> usize {
        self.bounds.len() - 1
    }
}

/// Bounds (0, …, n) of the division of the list into `k` runs with the least cost, and that cost; `k` from 1 to n.
pub(crate) fn best_division(prefix: &Prefix, k: usize) -> (Vec<usize>, f64) {
    let n = prefix.len();
    let mut few = Division::new(prefix, vec![0, n]);
    let mut many = Division::new(prefix, (0..=n).collect());
    if k <= 1 {
        return (few.bounds, few.cost);
    }
    if k >= n {
        return (many.bounds, many.cost);
    }
    // `few` is best for this price, `many` for that one; k lies strictly between.
    let (mut high, mut low) = (f64::INFINITY, 0.0);
    let start = Division::new(prefix, even_division(prefix, k));
    let mut guess = price_near(&start, k);
    loop {
        let between = (few.cost - many.cost) / (many.runs() - few.runs()) as f64;
        let guessed = guess > low && guess < high && guess != between;
        let price = if guessed { guess } else { between };
        let found = Division::new(prefix, cheapest(prefix, price));
        let runs = found.runs();
        if runs == k {
            return (found.bounds, found.cost);
        }
        if !guessed && (runs <= few.runs() || runs >= many.runs()) {
            // Nothing lies below the line from `few` to `many`: every number of runs between costs what the line says.
            let spliced = Division::new(prefix, splice(&few.bounds, &many.bounds, k));
            return (spliced.bounds, spliced.cost);
        }
        // A guess that brought nothing new is not repeated.
        let fresh = runs > few.runs() && runs < many.runs();
        guess = if fresh { price_near(&found, k) } else { 0.0 };
        if runs < k {
            high = price;
            if fresh {
                few = found;
            }
        } else {
            low = price;
            if fresh {
                many = found;
            }
        }
    }
}

/// The price per run at which about `k` runs are best, from a division into a similar number: cost ≈ c / runs².
fn price_near(division: &Division, k: usize) -> f64 {
    let (runs, k) = (division.runs() as f64, k as f64);
    2.0 * division.cost * (runs * runs) / (k * k * k)
}

/// A fair division into about `k` runs: equal shares of the integral of density^(1/3).
fn even_division(prefix: &Prefix, k: usize) -> Vec<usize> {
    let n = prefix.len();
    let value = |i: usize| match (prefix.rows.get(i), prefix.rows.get(i + 1)) {
        (Some(a), Some(b)) => (b.about - a.about) / (b.weight - a.weight) as f64,
        _ => 0.0,
    };
    let mut shares = Vec::with_capacity(n);
    let mut total = 0.0;
    for i in 0..n {
        let gap = (value((i + 1).min(n - 1)) - value(i.saturating_sub(1))) / 2.0;
        let weight = match (prefix.rows.get(i), prefix.rows.get(i + 1)) {
            (Some(a), Some(b)) => (b.weight - a.weight) as f64,
            _ => 0.0,
        };
        total += third_root(weight * gap * gap);
        shares.push(total);
    }
    let mut bounds = vec![0];
    let mut done = 0.0;
    for (i, share) in shares.iter().enumerate().take(n - 1) {
        if share * k as f64 / total >= done + 1.0 {
            bounds.push(i + 1);
            done = (share * k as f64 / total).floor();
        }
    }
    bounds.push(n);
    bounds
}

/// About x^(1/3), from square roots, which every machine rounds alike: x^(1/4 + 1/16 + 1/64 + 1/256).
fn third_root(x: f64) -> f64 {
    let mut product = 1.0;
    let mut factor = x;
    for _ in 0..4 {
        factor = factor.sqrt().sqrt();
        product *= factor;
    }
    product
}

/// Bounds of the division with the least cost plus `price` per run.
fn cheapest(prefix: &Prefix, price: f64) -> Vec<usize> {
    let n = prefix.len();
    let mut search = Search {
        prefix,
        price,
        best: vec![f64::INFINITY; n + 1],
        last: vec![0; n + 1],
    };
    if let Some(none) = search.best.first_mut() {
        *none = 0.0;
    }
    search.offer(0, n);
    search.fill(0, n);
    let mut bounds = vec![n];
    let mut at = n;
    while at > 0 {
        at = search.last.get(at).copied().unwrap_or(0);
        bounds.push(at);
    }
    bounds.reverse();
    bounds
}

/// Least cost of every prefix so far, and where its last run starts.
struct Search<'a> {
    prefix: &'a Prefix,
    price: f64,
    best: Vec<f64>,
    last: Vec<usize>,
}

impl Search<'_> {
    /// Tries the run `from..to` as the last one of the prefix `to`; the prefix `from` is complete.
    #[inline]
    fn offer(&mut self, from: usize, to: usize) {
        let before = self.best.get(from).copied().unwrap_or(f64::INFINITY);
        let cost = before + self.prefix.cost(from, to) + self.price;
        if let (Some(best), Some(last)) = (self.best.get_mut(to), self.last.get_mut(to))
            && cost < *best
        {
            (*best, *last) = (cost, from);
        }
    }

    /// Completes the prefixes in `left+1..right`, given that `left` is complete and that `right` has been offered every
    /// start up to `left`. Afterwards `right` has been offered every start below `right`.
    ///
    /// The best start never moves back as the prefix grows, so the middle needs only the starts between those of the
    /// two ends.
    fn fill(&mut self, left: usize, right: usize) {
        if right - left <= 1 {
            return;
        }
        let middle = left.midpoint(right);
        let start = |at: usize| self.last.get(at).copied().unwrap_or(0);
        for from in start(left)..=start(right) {
            self.offer(from, middle);
        }
        self.fill(left, middle);
        for from in left + 1..=middle {
            self.offer(from, right);
        }
        self.fill(middle, right);
    }
}

/// A division into exactly `k` runs from two that are best for the same price, one with fewer and one with more runs.
///
/// A run of `many` that lies inside a run of `few`, `k − few` runs further on, always exists. The result follows `many`
/// up to the start of that run and `few` from the end of the other; by the Monge property it is best as well.
fn splice(few: &[usize], many: &[usize], k: usize) -> Vec<usize> {
    let shift = k.saturating_sub(few.len().saturating_sub(1));
    for (y, end) in few.iter().enumerate().skip(1) {
        if many.get(y + shift).is_some_and(|inner| inner <= end) {
            return many
                .iter()
                .take(y + shift)
                .chain(few.iter().skip(y))
                .copied()
                .collect();
        }
    }
    many.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Least cost for every number of runs by plain dynamic programming, the run costs from exact fractions.
    fn naive(values: &[(i64, i64)]) -> Vec<f64> {
        let n = values.len();
        let cost = |from: usize, to: usize| {
            let (mut w, mut s, mut q) = (0_i128, 0_i128, 0_i128);
            for &(x, c) in &values[from..to] {
                w += i128::from(c);
                s += i128::from(x) * i128::from(c);
                q += i128::from(x) * i128::from(x) * i128::from(c);
            }
            (q * w - s * s) as f64 / w as f64
        };
        let mut best = vec![f64::INFINITY; n + 1];
        best[0] = 0.0;
        let mut answers = vec![f64::INFINITY];
        for _ in 0..n {
            best = (0..=n)
                .map(|to| {
                    (0..to)
                        .map(|from| best[from] + cost(from, to))
                        .fold(f64::INFINITY, f64::min)
                })
                .collect();
            answers.push(best[n]);
        }
        answers
    }

    /// Every number of runs gives the cost of the plain method, and bounds with that number of runs.
    fn check(values: &[(i64, i64)]) {
        let prefix = Prefix::new(values);
        let naive = naive(values);
        for (k, &expected) in naive.iter().enumerate().skip(1) {
            let (bounds, cost) = best_division(&prefix, k);
            assert_eq!(bounds.len(), k + 1, "{values:?}");
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
            assert_eq!((bounds[0], bounds[k]), (0, values.len()));
            assert!(
                (cost - expected).abs() <= 1e-13 * expected,
                "k {k}: {cost} instead of {expected} for {values:?}"
            );
        }
    }

    #[test]
    fn evenly_spaced_values_have_many_equal_divisions() {
        for n in 1..40 {
            check(&(0..n).map(|i| (i * 3, 1)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn extreme_values_and_weights() {
        let top = 65504 << 24;
        check(&[
            (-top, 1),
            (-1, 1 << 20),
            (0, 3),
            (1, 1),
            (top - 1, 7),
            (top, 1 << 20),
        ]);
        check(&[(-top, 5), (top, 5)]);
        let prefix = Prefix::new(&[(-top, 1 << 44), (top, 1 << 44)]);
        let expected = 2.0 * (1_i64 << 44) as f64 * (top as f64) * (top as f64);
        assert_eq!(prefix.cost(0, 2), expected);
        assert_eq!(prefix.cost(0, 1), 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn equals_plain_dynamic_programming(
            values in prop::collection::btree_map(-2000_i64..2000, 1_i64..50, 1..40)
        ) {
            check(&values.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn equals_plain_dynamic_programming_with_ties(
            values in prop::collection::btree_map(-20_i64..20, 1_i64..3, 1..30)
        ) {
            check(&values.into_iter().collect::<Vec<_>>());
        }
    }
}
