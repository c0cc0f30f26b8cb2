import Foundation

/// Adapters in memory by where they lie, the last used ones. A file that changed is another one.
struct AdapterShelf {
  private struct Place: Hashable {
    let path: String
    let size: Int
    let changed: Date
  }

  private var kept: [(place: Place, adapter: Adapter)] = []

  private static func place(_ url: URL) -> Place? {
    guard let found = try? FileManager.default.attributesOfItem(atPath: url.path),
      let changed = found[.modificationDate] as? Date
    else { return nil }
    return Place(path: url.path, size: (found[.size] as? NSNumber)?.intValue ?? 0, changed: changed)
  }

  /// The adapter of this file or folder, if it is here.
  subscript(url: URL) -> Adapter? {
    mutating get {
      guard let place = Self.place(url), let index = kept.firstIndex(where: { $0.place == place }) else { return nil }
      let found = kept.remove(at: index)
      kept.append(found)
      return found.adapter
    }
  }

  /// Keeps an adapter; those that were not used for longest go when there are more than `most`.
  mutating func keep(_ adapter: Adapter, _ url: URL, most: Int) {
    guard let place = Self.place(url) else { return }
    kept.append((place, adapter))
    if kept.count > max(most, 0) { kept.removeFirst(kept.count - max(most, 0)) }
  }
}
