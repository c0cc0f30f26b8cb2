import Foundation

/// Where work on files runs that tasks wait for: it would block their threads.
private let queue = DispatchQueue(label: "GessoRuntime.files", qos: .userInitiated, attributes: .concurrent)

/// Runs work on files away from the task's thread, also in a task that is cancelled.
func offload<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    queue.async { continuation.resume(with: Result(catching: body)) }
  }
}
