import Foundation

/// What goes wrong with adapters and their cache. Every case names the thing, what was expected and what was found; its
/// description ends with what to do.
public enum GessoError: Error, Equatable, Sendable {
  /// The file is not an archive of the adapter form: cut off, something else, or with bytes that belong to no member.
  case notAnAsset(file: String, reason: String)
  /// A member of an asset is missing, unknown, damaged, compressed or badly named.
  case member(file: String, member: String, reason: String)
  /// `manifest.json` is not one that this reader accepts.
  case manifest(file: String, reason: String)
  /// The asset needs a newer reader.
  case tooNew(file: String, needed: Int, own: Int)
  /// Something is larger than the limit, in bytes.
  case tooLarge(file: String, limit: Int, found: Int)
  /// The policy demands a signature and the asset has none.
  case unsigned(file: String)
  /// The policy's verifier refuses the signature.
  case badSignature(file: String)
  /// The file is an asset, but not of the kind that is needed here.
  case wrongKind(file: String, expected: String, found: String)

  /// The adapter was made for slots of another layout.
  case layout(adapter: String, component: String, expected: String, found: String)
  /// The adapter's factors, or the delta's bytes, belong to another base.
  case otherBase(adapter: String, base: String, expected: String, found: String)
  /// The base has no slots.
  case noSlots(base: String, component: String)
  /// Adapters together need a higher rank than the slots have.
  case stack(adapters: [String], module: String, rank: Int, slots: Int, needed: Int)
  /// A tensor of an adapter or of a base has another shape than its table of rows says.
  case factors(adapter: String, tensor: String, expected: [Int], found: [Int])
  /// A strength is not finite, or so large that fp16 cannot hold the product.
  case strength(adapter: String, component: String, value: Float)

  /// Core ML could not compile, load or run a model.
  case model(file: String, reason: String)
  /// There is no room on the disk.
  case diskFull(path: String)
  /// The place cannot be written.
  case readOnly(path: String)
  /// Any other failure of the file system.
  case io(path: String, reason: String)
  /// A cache entry is not as it was made.
  case damagedEntry(path: String, reason: String)
  /// The folder is no entry of this cache.
  case notAnEntry(path: String)
  /// A weight file did not come out with the hash that the delta names.
  case deltaResult(file: String, delta: String, expected: String, found: String)

  /// The server does not give the file.
  case download(url: String, reason: String)
  /// What was downloaded has another hash than expected.
  case hash(file: String, expected: String, found: String)
}

extension GessoError: LocalizedError, CustomStringConvertible {
  /// The message and, where there is one, the hint.
  public var errorDescription: String? { hint.map { "\(message)\n\nhint: \($0)" } ?? message }

  /// As ``errorDescription``.
  public var description: String { errorDescription ?? message }

  /// What happened, without the hint.
  public var message: String {
    switch self {
    case .notAnAsset(let file, let reason): "`\(file)` is not an adapter asset: \(reason)"
    case .member(let file, let member, let reason): "member `\(member)` of `\(file)`: \(reason)"
    case .manifest(let file, let reason): "`manifest.json` of `\(file)`: \(reason)"
    case .tooNew(let file, let needed, let own): "`\(file)` needs a reader of version \(needed), this one has \(own)"
    case .tooLarge(let file, let limit, let found): "`\(file)` has \(found) bytes, the limit is \(limit)"
    case .unsigned(let file): "`\(file)` has no signature, and the policy demands one"
    case .badSignature(let file): "the signature of `\(file)` is refused"
    case .wrongKind(let file, let expected, let found): "`\(file)` is \(found), expected \(expected)"
    case .layout(let adapter, let component, let expected, let found):
      "adapter `\(adapter)` was made for another layout of the \(component): the base has \(expected), the adapter \(found)"
    case .otherBase(let adapter, let base, let expected, let found):
      "`\(adapter)` was made for another base than `\(base)`: it needs \(expected), found \(found)"
    case .noSlots(let base, let component): "`\(base)` has no adapter slots for the \(component)"
    case .stack(let adapters, let module, let rank, let slots, _):
      "the adapters \(adapters.joined(separator: ", ")) together need slots of rank \(rank) (module `\(module)`), but the "
        + "base has rank \(slots)"
    case .factors(let adapter, let tensor, let expected, let found):
      "`\(adapter)`: `\(tensor)` has the shape \(found), expected \(expected)"
    case .strength(let adapter, let component, let value):
      "strength \(value) of adapter `\(adapter)` for the \(component) is not finite or takes its factors beyond fp16"
    case .model(let file, let reason): "the model `\(file)` cannot be used: \(reason)"
    case .diskFull(let path): "there is no room on the disk for `\(path)`"
    case .readOnly(let path): "`\(path)` cannot be written: the place is read-only"
    case .io(let path, let reason): "`\(path)`: \(reason)"
    case .damagedEntry(let path, let reason): "cache entry `\(path)` is damaged: \(reason)"
    case .notAnEntry(let path): "`\(path)` is no entry of this cache"
    case .deltaResult(let file, let delta, let expected, let found):
      "`\(file)` with the delta `\(delta)` has the SHA-256 \(found), expected \(expected)"
    case .download(let url, let reason): "`\(url)` cannot be downloaded: \(reason)"
    case .hash(let file, let expected, let found): "`\(file)` has the SHA-256 \(found), expected \(expected)"
    }
  }

  /// What to do.
  public var hint: String? {
    switch self {
    case .notAnAsset, .member, .hash: "download the file again, or make it again with `gesso adapter`"
    case .manifest: "make the asset again with `gesso adapter`"
    case .tooNew: "update the app"
    case .tooLarge: "raise the limit in the manager's options if the file is trusted"
    case .unsigned, .badSignature: "ask the asset's maker for a signed one, or change the policy"
    case .layout, .otherBase: "make the asset for this base with `gesso adapter --base`"
    case .noSlots: "convert the base with `gesso convert --adapter-rank 32` and load its adaptable models"
    case .stack(_, _, _, _, let needed): "convert the base with `--adapter-rank \(needed)`"
    case .strength: "use a strength nearer to 1"
    case .diskFull: "free some room, or call `prune(to:)` with a smaller size"
    case .readOnly: "give the manager a root folder that the app may write"
    case .damagedEntry: "call `compileAndSaveLoRA(at:)` with the asset again; the entry is then rebuilt"
    case .notAnEntry: "pass the folder that `compileAndSaveLoRA(at:)` returned"
    case .deltaResult: "download the delta and install the base again"
    case .wrongKind, .factors, .model, .io, .download: nil
    }
  }
}
