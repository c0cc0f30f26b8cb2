import Foundation

#if os(Linux)
  import Glibc
#endif

/// A server of one file at a free port of this machine: `GET` with `Range` and `If-Range`, one request at a time.
final class FileServer: @unchecked Sendable {
  /// How it answers.
  struct Behaviour {
    var content = Data()
    var tag = "\"one\""
    var hasRanges = true
    var status = 200
    /// Ends the connection after so many bytes of a body.
    var cutAfter: Int?
    /// Says nothing of the length.
    var hidesLength = false
    /// Milliseconds between pieces of 4096 bytes.
    var delay: UInt32 = 0
  }

  private let lock = NSLock()
  private var state: Behaviour
  private var seen: [[String: String]] = []
  private let descriptor: Int32
  let url: URL

  init(_ behaviour: Behaviour) throws {
    state = behaviour
    #if os(Linux)
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let socket = descriptor
    let isBound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(socket, $0, length) == 0 && listen(socket, 8) == 0 && getsockname(socket, $0, &length) == 0
      }
    }
    guard isBound else { throw POSIXError(.EADDRNOTAVAIL) }
    url = URL(string: "http://127.0.0.1:\(UInt16(bigEndian: address.sin_port))/style.mlmodelcassets")!
    Thread.detachNewThread { [self] in
      while true {
        let connection = accept(descriptor, nil, nil)
        guard connection >= 0 else { return }
        answer(connection)
        close(connection)
      }
    }
  }

  /// Ends the server's thread.
  func stop() {
    shutdown(descriptor, Int32(2))
    close(descriptor)
  }

  var behaviour: Behaviour {
    get { lock.withLock { state } }
    set { lock.withLock { state = newValue } }
  }

  /// Headers of all requests, with small names.
  var requests: [[String: String]] { lock.withLock { seen } }

  private func answer(_ connection: Int32) {
    var text = ""
    var buffer = [UInt8](repeating: 0, count: 4096)
    while !text.contains("\r\n\r\n") {
      let count = recv(connection, &buffer, buffer.count, 0)
      guard count > 0 else { return }
      text += String(decoding: buffer[..<count], as: UTF8.self)
    }
    var headers: [String: String] = [:]
    for line in text.components(separatedBy: "\r\n").dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1).map { $0.trimmingCharacters(in: .whitespaces) }
      if parts.count == 2 { headers[parts[0].lowercased()] = parts[1] }
    }
    let now = lock.withLock {
      seen.append(headers)
      return state
    }
    var start = 0
    var status = now.status
    if now.hasRanges, status == 200, let range = headers["range"], headers["if-range"] == now.tag {
      start = Int(range.drop { $0 != "=" }.dropFirst().prefix { $0 != "-" }) ?? 0
      status = start < now.content.count ? 206 : 416
    }
    let body = status == 200 || status == 206 ? now.content.dropFirst(start) : Data()
    var head = "HTTP/1.1 \(status) Status\r\nETag: \(now.tag)\r\nConnection: close\r\n"
    if !now.hidesLength { head += "Content-Length: \(body.count)\r\n" }
    if status == 206 { head += "Content-Range: bytes \(start)-\(now.content.count - 1)/\(now.content.count)\r\n" }
    if status == 416 { head += "Content-Range: bytes */\(now.content.count)\r\n" }
    send(connection, Data((head + "\r\n").utf8))
    var rest = now.cutAfter.map { body.prefix($0) } ?? body
    while !rest.isEmpty {
      guard send(connection, rest.prefix(4096)) else { return }
      rest = rest.dropFirst(4096)
      if now.delay > 0 { usleep(1000 * now.delay) }
    }
  }

  @discardableResult
  private func send(_ connection: Int32, _ data: Data) -> Bool {
    data.withUnsafeBytes { bytes in
      var done = 0
      while done < bytes.count {
        #if os(Linux)
          let flags = Int32(MSG_NOSIGNAL)
        #else
          let flags: Int32 = 0
        #endif
        let count = systemSend(connection, bytes.baseAddress.map { $0 + done }, bytes.count - done, flags)
        guard count > 0 else { return false }
        done += count
      }
      return true
    }
  }
}

private func systemSend(_ connection: Int32, _ bytes: UnsafeRawPointer?, _ count: Int, _ flags: Int32) -> Int {
  send(connection, bytes, count, flags)
}
