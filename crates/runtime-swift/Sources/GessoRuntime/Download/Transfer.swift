import Foundation

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// One request whose answer goes to a file as it arrives.
final class Transfer: NSObject, URLSessionDataDelegate, @unchecked Sendable {
  private let url: URL
  private let part: PartialFile
  private let limit: Int
  private let progress: @Sendable (ModelManager.DownloadProgress) -> Void
  /// Guards what follows: the session's queue and the task that waits use it.
  private let lock = NSLock()
  private var received: Int
  private var total: Int?
  private var failure: (any Error)?
  private var isWhole = false
  private var isAccepted = false
  private var continuation: CheckedContinuation<Void, any Error>?

  init(
    _ url: URL, _ part: PartialFile, limit: Int,
    _ progress: @escaping @Sendable (ModelManager.DownloadProgress) -> Void
  ) {
    self.url = url
    self.part = part
    self.limit = limit
    self.progress = progress
    received = part.size
  }

  /// Runs the request to its end; what arrived stays in the file also when it fails.
  func run() async throws {
    var request = URLRequest(url: url)
    // Bytes of a compressed answer are not those of the file.
    request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
    let start = received
    if start > 0, let tag = part.tag {
      request.setValue("bytes=\(start)-", forHTTPHeaderField: "Range")
      request.setValue(tag, forHTTPHeaderField: "If-Range")
    } else {
      try part.restart()
      received = 0
    }
    let configuration = URLSessionConfiguration.ephemeral
    configuration.requestCachePolicy = .reloadIgnoringLocalCacheData
    let queue = OperationQueue()
    queue.maxConcurrentOperationCount = 1
    let session = URLSession(configuration: configuration, delegate: self, delegateQueue: queue)
    let task = session.dataTask(with: request)
    defer { session.finishTasksAndInvalidate() }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        lock.withLock { self.continuation = continuation }
        task.resume()
      }
    } onCancel: {
      task.cancel()
    }
  }

  func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
    lock.lock()
    let now: ModelManager.DownloadProgress?
    do {
      guard failure == nil, !isWhole else {
        lock.unlock()
        return
      }
      try accept(dataTask.response)
      guard !isWhole else {
        lock.unlock()
        return
      }
      guard received + data.count <= limit else {
        throw GessoError.tooLarge(file: url.absoluteString, limit: limit, found: received + data.count)
      }
      try data.withUnsafeBytes { try part.append($0) }
      received += data.count
      now = .init(received: received, total: total)
    } catch {
      failure = error
      now = nil
    }
    lock.unlock()
    if let now { progress(now) } else { dataTask.cancel() }
  }

  func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
    lock.lock()
    let waiting = continuation
    continuation = nil
    // An answer without a body comes here first.
    if error == nil && failure == nil {
      do { try accept(task.response) } catch { failure = error }
    }
    let result: Result<Void, any Error>
    if let failure {
      if case GessoError.tooLarge = failure { part.discard() }
      result = .failure(failure)
    } else if isWhole {
      result = .success(())
    } else if let error {
      let isCancelled = (error as? URLError)?.code == .cancelled
      let reason = error.localizedDescription
      result = .failure(isCancelled ? CancellationError() : GessoError.download(url: url.absoluteString, reason: reason))
    } else if let total, received != total {
      let reason = "it ended after \(received) of \(total) bytes"
      result = .failure(GessoError.download(url: url.absoluteString, reason: reason))
    } else {
      result = .success(())
    }
    lock.unlock()
    waiting?.resume(with: result)
  }

  /// Looks at an answer, once; throws for one that is not the file.
  private func accept(_ response: URLResponse?) throws {
    guard !isAccepted else { return }
    isAccepted = true
    func refuse(_ reason: String) -> GessoError { .download(url: url.absoluteString, reason: reason) }
    guard let response = response as? HTTPURLResponse else { throw refuse("the answer is not HTTP") }
    switch response.statusCode {
    case 200:
      if received > 0 { try part.restart() }
      received = 0
      total = response.value(forHTTPHeaderField: "Content-Length").flatMap { Int($0) }
      part.tag = Self.tag(response)
    case 206:
      guard let range = ContentRange(response), range.first == received else {
        try part.restart()
        part.tag = nil
        throw refuse("the server sent another part than was asked for")
      }
      total = range.total
    case 416:
      if let range = ContentRange(response), range.total == received {
        isWhole = true
        return
      }
      part.tag = nil
      throw refuse("the file there is shorter than what is here; the next try starts anew")
    default: throw refuse("status \(response.statusCode)")
    }
    if let total, total > limit {
      throw GessoError.tooLarge(file: url.absoluteString, limit: limit, found: total)
    }
  }

  /// A name that stands for the very bytes: a strong entity tag.
  private static func tag(_ response: HTTPURLResponse) -> String? {
    guard let tag = response.value(forHTTPHeaderField: "ETag"), !tag.hasPrefix("W/") else { return nil }
    return tag
  }
}

/// `Content-Range: bytes first-last/total` or `bytes */total`.
private struct ContentRange {
  let first: Int?
  let total: Int?

  init?(_ response: HTTPURLResponse) {
    guard let text = response.value(forHTTPHeaderField: "Content-Range"), text.hasPrefix("bytes ") else { return nil }
    let halves = text.dropFirst(6).split(separator: "/")
    guard halves.count == 2 else { return nil }
    first = halves[0].split(separator: "-").first.flatMap { Int($0) }
    total = Int(halves[1])
  }
}
