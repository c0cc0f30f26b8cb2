import Foundation
import GessoPipeline

/// What differs between the families of models.
enum Family {
  /// The tokenizer of a base.
  ///
  /// - Throws: `GenerationError.family` for a family that is not generated with here, `.base` for missing files.
  static func tokenizer(_ base: BaseDescription) throws -> Tokenizer {
    guard base.family == "sd1" else { throw GenerationError.family(name: base.family) }
    do {
      return try Tokenizer(folder: base.folder)
    } catch let error as CocoaError {
      throw GenerationError.base(
        folder: base.folder.path, reason: "its tokenizer cannot be read: \(error.localizedDescription)")
    }
  }
}
