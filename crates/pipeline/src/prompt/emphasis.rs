//! How weights act on the text encoder's states.

/// The states with each token's row multiplied by its weight, and all of them scaled so that their mean is as before.
///
/// Shapes: `states [n_tokens, D]`, `weights [n_tokens]` → `[n_tokens, D]`. With all weights 1 the states come back bit
/// for bit. Products, means and the scale are computed in f64, sums in the order of the array, rounded once at the end;
/// weights whose products have mean 0 give values that are not finite.
/// Source: the "original" emphasis of AUTOMATIC1111's web UI (z' = z·w; z'' = z'·mean(z)/mean(z')).
pub fn emphasised(states: &[f32], weights: &[f64]) -> Vec<f32> {
    if weights.iter().all(|&w| w == 1.0) {
        return states.to_vec();
    }
    let width = states.len() / weights.len().max(1);
    let rows = states.chunks(width.max(1)).zip(weights);
    let products: Vec<f64> = rows
        .flat_map(|(row, w)| row.iter().map(move |&x| f64::from(x) * w))
        .collect();
    let before: f64 = states.iter().map(|&x| f64::from(x)).sum();
    let scale = before / products.iter().sum::<f64>();
    products.into_iter().map(|x| (x * scale) as f32).collect()
}
