import Foundation

/// The folder `fixtures/` of the project, found from this source file.
let fixtures = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .appendingPathComponent("../../../../fixtures").standardizedFileURL
