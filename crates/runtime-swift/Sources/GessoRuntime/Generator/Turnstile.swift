/// Lets one at a time through, in the order of their coming.
actor Turnstile {
  private var isTaken = false
  private var next = 0
  private var waiting: [(ticket: Int, continuation: CheckedContinuation<Void, any Error>)] = []

  /// Waits for its turn.
  ///
  /// - Throws: `CancellationError` when the task is cancelled before; it must not `leave` then.
  func enter() async throws {
    try Task.checkCancellation()
    if !isTaken {
      isTaken = true
      return
    }
    let ticket = next
    next += 1
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        if Task.isCancelled {
          continuation.resume(throwing: CancellationError())
        } else {
          waiting.append((ticket, continuation))
        }
      }
    } onCancel: {
      Task { await self.giveUp(ticket) }
    }
  }

  /// Gives the turn to the next.
  func leave() {
    if waiting.isEmpty {
      isTaken = false
    } else {
      waiting.removeFirst().continuation.resume()
    }
  }

  /// Whether somebody is inside.
  var isBusy: Bool { isTaken }

  private func giveUp(_ ticket: Int) {
    guard let index = waiting.firstIndex(where: { $0.ticket == ticket }) else { return }
    waiting.remove(at: index).continuation.resume(throwing: CancellationError())
  }
}
