import Foundation

/// Work that several callers wait for.
struct SharedJob {
  let task: Task<URL, any Error>
  /// Callers that still want it.
  var waiting = 0
}

extension ModelManager {
  /// Runs `work`, or waits for the one of this key that runs already. It is stopped when no caller wants it any more; a caller
  /// that is cancelled while others wait throws at the end.
  func shared(_ key: String, _ work: @escaping @Sendable () async throws -> URL) async throws -> URL {
    // One that is being stopped is not what this caller wants.
    while let job = jobs[key], job.task.isCancelled { _ = await job.task.result }
    let task: Task<URL, any Error>
    if let job = jobs[key] {
      task = job.task
    } else {
      task = Task {
        defer { self.jobs[key] = nil }
        return try await work()
      }
      jobs[key] = SharedJob(task: task)
    }
    jobs[key]?.waiting += 1
    let url = try await withTaskCancellationHandler {
      try await task.value
    } onCancel: {
      Task { await self.leave(key, task) }
    }
    try Task.checkCancellation()
    return url
  }

  private func leave(_ key: String, _ task: Task<URL, any Error>) {
    guard let job = jobs[key], job.task == task else { return }
    jobs[key]?.waiting -= 1
    if job.waiting <= 1 { task.cancel() }
  }
}
