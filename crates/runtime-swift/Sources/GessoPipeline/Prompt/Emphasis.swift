/// The text encoder's states with each token's row multiplied by its weight, and all of them scaled so that their mean
/// is as before.
///
/// Shapes: `states [n_tokens, D]`, `weights [n_tokens]` → `[n_tokens, D]`. With all weights 1 the states come back bit
/// for bit. Products, means and the scale are computed in double precision, sums in the order of the array, rounded once
/// at the end; weights whose products have mean 0 give values that are not finite.
/// Source: the "original" emphasis of AUTOMATIC1111's web UI (z' = z·w; z'' = z'·mean(z)/mean(z')).
public func emphasised(_ states: [Float], weights: [Double]) -> [Float] {
  if weights.allSatisfy({ $0 == 1 }) { return states }
  let width = max(states.count / max(weights.count, 1), 1)
  var products: [Double] = []
  products.reserveCapacity(states.count)
  var (before, after) = (0.0, 0.0)
  for (index, state) in states.enumerated() where index / width < weights.count {
    let product = Double(state) * weights[index / width]
    products.append(product)
    after += product
  }
  for state in states { before += Double(state) }
  let scale = before / after
  return products.map { Float($0 * scale) }
}
