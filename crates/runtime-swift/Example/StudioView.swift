import SwiftUI

/// One screen: the picture, the prompt, a style with its strength, and a button.
struct StudioView: View {
  @Bindable var studio: Studio

  var body: some View {
    VStack(spacing: 16) {
      picture
        .frame(maxWidth: 512, maxHeight: 512)
        .aspectRatio(1, contentMode: .fit)
      TextField("What should it show?", text: $studio.prompt, axis: .vertical)
        .textFieldStyle(.roundedBorder)
      Picker("Style", selection: $studio.chosen) {
        Text("None").tag(Studio.Style?.none)
        ForEach(studio.styles) { style in Text(style.id).tag(Studio.Style?.some(style)) }
      }
      .pickerStyle(.segmented)
      if studio.chosen != nil {
        Slider(value: $studio.strength, in: 0...1) { Text("Strength") }
      }
      status
      Button(studio.isBusy ? "Stop" : "Make a picture") {
        if studio.isBusy { studio.cancel() } else { studio.make() }
      }
      .buttonStyle(.borderedProminent)
    }
    .padding()
  }

  @ViewBuilder private var picture: some View {
    if let image = studio.picture {
      Image(decorative: image, scale: 1).resizable()
    } else {
      RoundedRectangle(cornerRadius: 12).fill(.quaternary)
    }
  }

  @ViewBuilder private var status: some View {
    switch studio.work {
    case .nothing: Text(studio.message ?? " ").foregroundStyle(.secondary)
    case .preparing(let model): ProgressView("Preparing \(model)…")
    case .downloading(let part): ProgressView("Fetching the style…", value: part)
    case .step(let step, let total): ProgressView("Step \(step) of \(total)", value: Double(step), total: Double(total))
    }
  }
}
