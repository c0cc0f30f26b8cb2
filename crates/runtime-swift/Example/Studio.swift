import Foundation
import GessoPipeline
import GessoRuntime
import Observation

/// What the example app shows, and what it does: one base, styles that are downloaded when they are chosen first, and the
/// picture.
@MainActor
@Observable
final class Studio {
  /// A style that the app offers.
  struct Style: Identifiable, Hashable, Sendable {
    /// Its name for people, and its identity.
    var id: String
    /// Where its asset lies.
    var url: URL
    /// SHA-256 of the asset.
    var sha256: String?
  }

  /// What the app is at.
  enum Work: Equatable {
    case nothing
    case preparing(String)
    case downloading(Double?)
    case step(Int, of: Int)
  }

  private(set) var styles: [Style]
  private(set) var work = Work.nothing
  private(set) var picture: PlatformImage?
  private(set) var message: String?
  var prompt = "a lighthouse at dawn"
  var chosen: Style?
  var strength = 0.8

  private let base: URL
  private let manager: ModelManager
  private let generator: ImageGenerator
  private var running: Task<Void, Never>?
  private var isPrepared = false

  /// - Parameters:
  ///   - base: The folder that `gesso convert` wrote, in the app's bundle or downloaded by it.
  ///   - styles: What the app offers.
  init(base: URL, styles: [Style]) {
    self.base = base
    self.styles = styles
    manager = ModelManager()
    generator = ImageGenerator(options: ImageGenerator.Options(), manager: manager)
  }

  /// Whether a picture is being made.
  var isBusy: Bool { running != nil }

  /// Makes a picture of the prompt in the chosen style; a picture that is being made is given up.
  func make() {
    cancel()
    message = nil
    running = Task {
      let result: Result<PlatformImage, any Error>
      do {
        result = .success(try await made())
      } catch {
        result = .failure(error)
      }
      // A task that was given up has nothing to say any more.
      if Task.isCancelled { return }
      switch result {
      case .success(let image): picture = image
      case .failure(let error): message = error.localizedDescription
      }
      work = .nothing
      running = nil
    }
  }

  /// Gives the picture up.
  func cancel() {
    running?.cancel()
    running = nil
    work = .nothing
  }

  private func made() async throws -> PlatformImage {
    if !isPrepared {
      work = .preparing("base")
      try await generator.loadBaseModel(modelURL: base)
      _ = try await generator.prewarm(adaptable: true) { step in
        Task { @MainActor in self.work = .preparing(step.model) }
      }
      isPrepared = true
    }
    var request = GenerationRequest(prompt: prompt)
    request.onStep = { step in
      Task { @MainActor in self.work = .step(step.step, of: step.total) }
    }
    if let chosen { request.adapters = [AdapterUse(try await compiled(chosen), strength: strength)] }
    let image = try await generator.generate(request).image
    #if canImport(CoreGraphics)
      return try image.cgImage()
    #else
      return image
    #endif
  }

  /// The style in the cache; the first time it is downloaded and compiled.
  private func compiled(_ style: Style) async throws -> URL {
    work = .downloading(nil)
    let expected = ModelManager.Expectation(sha256: style.sha256)
    let file = try await manager.fetchAdapter(from: style.url, expecting: expected) { progress in
      let part = progress.total.map { Double(progress.received) / Double(max($0, 1)) }
      Task { @MainActor in self.work = .downloading(part) }
    }
    return try await manager.compileAndSaveLoRA(at: file)
  }
}
