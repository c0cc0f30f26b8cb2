import SwiftUI

/// The example app. Put the folder that `gesso convert` wrote into the app's bundle as `Base`, and the addresses of your
/// styles below.
@main
struct StudioApp: App {
  @State private var studio = Studio(
    base: (Bundle.main.resourceURL ?? Bundle.main.bundleURL).appendingPathComponent("Base", isDirectory: true),
    styles: ["sketch", "watercolor"].compactMap { name in
      Bundle.main.url(forResource: name, withExtension: "mlmodelcassets").map { Studio.Style(id: name, url: $0) }
    })

  var body: some Scene {
    WindowGroup { StudioView(studio: studio) }
  }
}
