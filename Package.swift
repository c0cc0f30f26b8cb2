// swift-tools-version: 6.0
// The Swift runtime of Gesso. On Apple systems it runs on Apple's Core ML and links nothing else. On Linux the module
// `CoreML` is this package's own, over the reference engine: build it with `cargo xtask swift build`.

import PackageDescription

let sources = "crates/runtime-swift/Sources/"
let tests = "crates/runtime-swift/Tests/"

var targets: [Target] = [
  .target(name: "GessoPipeline", path: sources + "GessoPipeline"),
  .executableTarget(
    name: "gesso-generate", dependencies: ["GessoRuntime", "GessoPipeline"], path: sources + "gesso-generate"),
  .testTarget(name: "GessoPipelineTests", dependencies: ["GessoPipeline"], path: tests + "GessoPipelineTests"),
  .testTarget(
    name: "GessoRuntimeTests", dependencies: ["GessoRuntime", "GessoPipeline"],
    path: tests + "GessoRuntimeTests"),
  .executableTarget(name: "gesso-cache-probe", dependencies: ["GessoRuntime"], path: tests + "gesso-cache-probe"),
]

var runtimeDependencies: [Target.Dependency] = ["GessoPipeline"]

#if os(Linux)
  // Apple builds its module in Swift 5 mode and marks few of its types Sendable; so does this one.
  targets += [
    .systemLibrary(name: "CGesso", path: sources + "CGesso"),
    .target(
      name: "CoreML", dependencies: ["CGesso"], path: sources + "CoreML", swiftSettings: [.swiftLanguageMode(.v5)]),
    .testTarget(name: "CoreMLTests", dependencies: ["CoreML"], path: tests + "CoreMLTests"),
  ]
  runtimeDependencies.append("CoreML")
#endif

targets.append(.target(name: "GessoRuntime", dependencies: runtimeDependencies, path: sources + "GessoRuntime"))

let package = Package(
  name: "gesso",
  platforms: [.iOS(.v17), .macOS(.v14)],
  products: [
    .library(name: "GessoRuntime", targets: ["GessoRuntime"]),
    .library(name: "GessoPipeline", targets: ["GessoPipeline"]),
    .executable(name: "gesso-generate", targets: ["gesso-generate"]),
  ],
  targets: targets,
  swiftLanguageModes: [.v6]
)
