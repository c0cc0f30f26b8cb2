import Foundation

#if canImport(Darwin)
  import Darwin
#endif

/// Memory that this process owns.
enum Footprint {
  #if canImport(Darwin)
    /// This task; the C macro's variable is not safe to read in Swift 6.
    private static let task = task_self_trap()
  #endif

  /// Bytes now: the physical footprint on Apple's systems, which decides when an app is ended; anonymous memory on
  /// Linux. 0 where it cannot be told.
  static var bytes: UInt64 {
    #if canImport(Darwin)
      var info = task_vm_info_data_t()
      var count = mach_msg_type_number_t(MemoryLayout<task_vm_info_data_t>.size / MemoryLayout<natural_t>.size)
      let status = withUnsafeMutablePointer(to: &info) { pointer in
        pointer.withMemoryRebound(to: integer_t.self, capacity: Int(count)) {
          task_info(task, task_flavor_t(TASK_VM_INFO), $0, &count)
        }
      }
      return status == KERN_SUCCESS ? info.phys_footprint : 0
    #else
      guard let status = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
        let line = status.split(separator: "\n").first(where: { $0.hasPrefix("RssAnon:") }),
        let kilobytes = line.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap({ UInt64($0) })
      else { return 0 }
      return kilobytes * 1024
    #endif
  }

  /// Looks every 10 ms, from its making to `stop()`.
  final class Watch {
    private let most = Guarded(Footprint.bytes)
    private let timer: any DispatchSourceTimer

    init() {
      timer = DispatchSource.makeTimerSource(queue: DispatchQueue.global(qos: .utility))
      timer.schedule(deadline: .now() + .milliseconds(10), repeating: .milliseconds(10))
      timer.setEventHandler { [most] in most.change { $0 = max($0, Footprint.bytes) } }
      timer.resume()
    }

    /// Ends it; the most that was seen.
    func stop() -> UInt64 {
      timer.cancel()
      return most.change {
        $0 = max($0, Footprint.bytes)
        return $0
      }
    }

    deinit { timer.cancel() }
  }
}
