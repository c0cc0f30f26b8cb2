import CGesso
import Foundation

/// The parts of a model. The engine runs programs alone, and so only `program` is ever made here.
public enum MLModelStructure: Sendable {
  case neuralNetwork(MLModelStructure.NeuralNetwork)
  case program(MLModelStructure.Program)
  case pipeline(MLModelStructure.Pipeline)
  case unsupported

  /// Layers of a neural network.
  public struct NeuralNetwork: Sendable {
    public struct Layer: Sendable {
      public let name: String
      public let type: String
      public let inputNames: [String]
      public let outputNames: [String]
    }

    public let layers: [MLModelStructure.NeuralNetwork.Layer]
  }

  /// Models that run one after the other.
  public struct Pipeline: Sendable {
    public let subModelNames: [String]
    public let subModels: [MLModelStructure]
  }

  /// Functions of an ML Program.
  public struct Program: Sendable {
    /// Type of a variable; nothing of it is public.
    public struct ValueType: Sendable {}
    /// A value that stands in the program; nothing of it is public.
    public struct Value: Sendable {}

    public struct NamedValueType: Sendable {
      public let name: String
      public let type: MLModelStructure.Program.ValueType
    }

    /// What an argument is bound to.
    public enum Binding: Sendable {
      case value(MLModelStructure.Program.Value)
      /// A variable that was defined before.
      case name(String)
    }

    /// One binding, or several where a parameter takes a list.
    public struct Argument: Sendable {
      public let bindings: [MLModelStructure.Program.Binding]
    }

    public struct Function: Sendable {
      public let inputs: [MLModelStructure.Program.NamedValueType]
      public let block: MLModelStructure.Program.Block
    }

    public struct Block: Sendable {
      public let inputs: [MLModelStructure.Program.NamedValueType]
      public let outputNames: [String]
      /// In order of execution, constants too.
      public let operations: [MLModelStructure.Program.Operation]
    }

    public struct Operation: Sendable {
      /// For instance `conv`.
      public let operatorName: String
      public let inputs: [String: MLModelStructure.Program.Argument]
      public let outputs: [MLModelStructure.Program.NamedValueType]
      /// Of conditions and loops.
      public let blocks: [MLModelStructure.Program.Block]
    }

    public let functions: [String: MLModelStructure.Program.Function]
  }

  /// Reads the structure of a compiled model.
  public static func load(contentsOf url: URL) async throws -> MLModelStructure {
    try await onQueue { try read(at: MLModel.compiledPath(of: url)) }
  }

  public static func load(asset: MLModelAsset) async throws -> MLModelStructure {
    try await onQueue { try read(asset) }
  }

  static func read(_ asset: MLModelAsset) throws -> MLModelStructure {
    let engine = try asset.engine()
    return try withExtendedLifetime(engine) { try read(at: engine.path) }
  }

  static func read(at path: String) throws -> MLModelStructure {
    var text: UnsafeMutablePointer<CChar>?
    defer { _ = gesso_string_free(&text) }
    try check(gesso_structure(path, &text))
    guard let text else { throw MLModelError(.generic, "the model at `\(path)` has no structure") }
    let listed = try JSONDecoder().decode(ListedProgram.self, from: Data(bytes: text, count: strlen(text)))
    return .program(Program(functions: listed.functions.mapValues(\.function)))
  }
}

/// What `gesso_structure` gives.
private struct ListedProgram: Decodable {
  struct Function: Decodable {
    let inputs: [String]
    let block: Block

    var function: MLModelStructure.Program.Function {
      MLModelStructure.Program.Function(inputs: named(inputs), block: block.block)
    }
  }

  struct Block: Decodable {
    let inputs: [String]
    let outputs: [String]
    let operations: [Operation]

    var block: MLModelStructure.Program.Block {
      MLModelStructure.Program.Block(
        inputs: named(inputs), outputNames: outputs, operations: operations.map(\.operation))
    }
  }

  struct Operation: Decodable {
    let `operator`: String
    let inputs: [String: [String?]]
    let outputs: [String]
    let blocks: [Block]

    var operation: MLModelStructure.Program.Operation {
      MLModelStructure.Program.Operation(
        operatorName: `operator`, inputs: inputs.mapValues(argument), outputs: named(outputs),
        blocks: blocks.map(\.block))
    }

    private func argument(_ variables: [String?]) -> MLModelStructure.Program.Argument {
      MLModelStructure.Program.Argument(
        bindings: variables.map { $0.map { .name($0) } ?? .value(MLModelStructure.Program.Value()) })
    }
  }

  let functions: [String: Function]
}

private func named(_ names: [String]) -> [MLModelStructure.Program.NamedValueType] {
  names.map { .init(name: $0, type: MLModelStructure.Program.ValueType()) }
}
