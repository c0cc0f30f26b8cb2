// Compiles assets into a cache until it kills itself, for the tests of what a killed process leaves behind.
// usage: gesso-cache-probe ROOT (step N | after MICROSECONDS) ASSET...

import Foundation
import GessoRuntime

let arguments = Array(CommandLine.arguments.dropFirst())
guard arguments.count > 3, let number = UInt32(arguments[2]) else { exit(2) }

/// Ends this process as the system ends one that it needs no more.
@Sendable func end() { kill(getpid(), SIGKILL) }

/// Counts the steps of the manager.
final class Countdown: @unchecked Sendable {
  private let lock = NSLock()
  private var left: UInt32

  init(_ steps: UInt32) { left = steps }

  func step() {
    lock.lock()
    if left == 0 { end() }
    left -= 1
    lock.unlock()
  }
}

var options = ModelManager.Options(root: URL(fileURLWithPath: arguments[0]))
// Room for one entry or two, so that entries go as well.
options.capacity = 60_000
if arguments[1] == "step" {
  let countdown = Countdown(number)
  options.beforeStep = { _ in countdown.step() }
} else {
  Thread.detachNewThread {
    usleep(number)
    end()
  }
}
let manager = ModelManager(options: options)
while true {
  for asset in arguments.dropFirst(3) {
    let entry = try await manager.compileAndSaveLoRA(at: URL(fileURLWithPath: asset))
    if asset == arguments.last { try await manager.remove(entry) }
  }
}
