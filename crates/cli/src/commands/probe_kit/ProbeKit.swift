// Runs the packages of a probe kit and writes report.json. No dependencies beyond Apple's frameworks.
//
//   swiftc -O -parse-as-library ProbeKit.swift -o probe-kit && ./probe-kit .
//
// In an app: define PROBE_KIT_IN_APP and call `ProbeKit.run(kit:report:)`.

@preconcurrency import CoreML
import Foundation

// MARK: kit.json

struct Kit: Decodable {
    struct Array: Decodable {
        let name: String
        let shape: [Int]
        let file: String
    }
    struct Case: Decodable {
        let name: String
        let function: String?
        let inputs: [Array]
        let states: [Array]
        let outputs: [Array]
    }
    struct Model: Decodable {
        let package: String
        let compiled: String
    }
    struct Probe: Decodable {
        let id: String
        let ios: Int
        let models: [Model]
        let cases: [Case]
    }
    let schema: Int
    let probes: [Probe]
}

// MARK: report.json

struct Report: Encodable {
    struct System: Encodable {
        let device: String
        let os: String
    }
    struct Loss: Encodable {
        let caseName: String
        let output: String
        let db: Double
    }
    struct Planned: Encodable {
        let op: String
        let output: String
        let preferred: String?
        let supported: [String]
        let cost: Double?
    }
    struct Run: Encodable {
        let probe: String
        let form: String
        let units: String
        var loaded = false
        var error: String?
        var outputs: [Loss] = []
        var firstLoadMs: Double?
        var stepMs: Double?
        var plan: [Planned] = []
    }
    struct Twin: Encodable {
        let probe: String
        let file: String
        let equal: Bool
    }
    let schema = 1
    let system: System
    var results: [Run] = []
    var files: [Twin] = []
}

enum ProbeError: Error, CustomStringConvertible {
    case newerSystem(String)
    case noOutput(String)
    case wrongSize(String, expected: Int, found: Int)

    var description: String {
        switch self {
        case .newerSystem(let what): return "\(what) needs a newer system"
        case .noOutput(let name): return "there is no output \(name)"
        case .wrongSize(let name, let expected, let found):
            return "\(name) has \(found) elements, expected \(expected)"
        }
    }
}

// MARK: Running

enum ProbeKit {
    static let units: [(String, MLComputeUnits)] = [
        ("cpu", .cpuOnly), ("gpu", .cpuAndGPU), ("ane", .cpuAndNeuralEngine), ("all", .all),
    ]
    /// Predictions that are timed for `stepMs`.
    static let steps = 20

    /// Runs every probe of the folder `kit` and writes `report`.
    static func run(kit: URL, report: URL) async throws {
        let data = try Data(contentsOf: kit.appendingPathComponent("kit.json"))
        let list = try JSONDecoder().decode(Kit.self, from: data)
        var answer = Report(system: system())
        for probe in list.probes where supported(probe) {
            print(probe.id)
            var compiled: [URL] = []
            var failure: String?
            do {
                for model in probe.models {
                    let package = kit.appendingPathComponent(model.package)
                    compiled.append(try await MLModel.compileModel(at: package))
                }
            } catch {
                failure = "compile: \(error)"
            }
            let ours = probe.models.map { kit.appendingPathComponent($0.compiled) }
            for (form, models) in [("package", compiled), ("compiled", ours)] {
                for (name, choice) in units {
                    var run = Report.Run(probe: probe.id, form: form, units: name)
                    if form == "package", let failure {
                        run.error = failure
                    } else {
                        await judge(probe, models, choice, kit, &run)
                    }
                    answer.results.append(run)
                }
            }
            if failure == nil {
                for (index, theirs) in compiled.enumerated() {
                    answer.files += compare(probe.id, ours[index], theirs)
                }
            }
            for folder in compiled { try? FileManager.default.removeItem(at: folder) }
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        try encoder.encode(answer).write(to: report)
    }

    static func supported(_ probe: Kit.Probe) -> Bool {
        if #available(macOS 15, iOS 18, *) { return probe.ios <= 18 }
        if #available(macOS 14, iOS 17, *) { return probe.ios <= 17 }
        return probe.ios <= 16
    }

    static func judge(
        _ probe: Kit.Probe, _ models: [URL], _ choice: MLComputeUnits, _ kit: URL,
        _ run: inout Report.Run
    ) async {
        do {
            for item in probe.cases {
                try await judge(item, models, choice, kit, &run)
            }
        } catch {
            run.error = "\(error)"
        }
    }

    static func judge(
        _ item: Kit.Case, _ models: [URL], _ choice: MLComputeUnits, _ kit: URL,
        _ run: inout Report.Run
    ) async throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = choice
        if let function = item.function {
            guard #available(macOS 15, iOS 18, *) else {
                throw ProbeError.newerSystem("a function by name")
            }
            configuration.functionName = function
        }
        var known: [String: MLMultiArray] = [:]
        for input in item.inputs {
            known[input.name] = try array(input, kit)
        }
        let start = clock()
        var loaded: [MLModel] = []
        for url in models {
            loaded.append(try await MLModel.load(contentsOf: url, configuration: configuration))
        }
        run.firstLoadMs = run.firstLoadMs ?? milliseconds(since: start)
        run.loaded = true
        if run.plan.isEmpty {
            for url in models {
                run.plan += await plan(url, configuration, item.function ?? "main")
            }
        }
        var outputs: [String: MLMultiArray] = [:]
        for model in loaded {
            outputs = try predict(model, known, item.states, kit)
            known.merge(outputs) { _, new in new }
        }
        for expected in item.outputs {
            guard let found = outputs[expected.name] else {
                throw ProbeError.noOutput(expected.name)
            }
            let db = loss(try floats(expected, kit), values(found))
            run.outputs.append(
                Report.Loss(caseName: item.name, output: expected.name, db: db))
        }
        if run.stepMs == nil {
            let start = clock()
            for _ in 0..<steps {
                for model in loaded {
                    _ = try predict(model, known, item.states, kit)
                }
            }
            run.stepMs = milliseconds(since: start) / Double(steps)
        }
    }

    static func predict(
        _ model: MLModel, _ known: [String: MLMultiArray], _ states: [Kit.Array], _ kit: URL
    ) throws -> [String: MLMultiArray] {
        var features: [String: Any] = [:]
        for name in model.modelDescription.inputDescriptionsByName.keys {
            if let value = known[name] {
                features[name] = MLFeatureValue(multiArray: value)
            }
        }
        let provider = try MLDictionaryFeatureProvider(dictionary: features)
        let answer: any MLFeatureProvider
        if states.isEmpty {
            answer = try model.prediction(from: provider)
        } else {
            guard #available(macOS 15, iOS 18, *) else {
                throw ProbeError.newerSystem("a state")
            }
            let memory = model.makeState()
            for state in states {
                let numbers = try floats(state, kit)
                memory.withMultiArray(for: state.name) { fill($0, numbers) }
            }
            answer = try model.prediction(from: provider, using: memory)
        }
        var outputs: [String: MLMultiArray] = [:]
        for name in answer.featureNames {
            outputs[name] = answer.featureValue(for: name)?.multiArrayValue
        }
        return outputs
    }

    // MARK: The compute plan

    static func plan(
        _ url: URL, _ configuration: MLModelConfiguration, _ function: String
    ) async -> [Report.Planned] {
        guard #available(macOS 14.4, iOS 17.4, *),
            let plan = try? await MLComputePlan.load(
                contentsOf: url, configuration: configuration),
            case .program(let program) = plan.modelStructure,
            let body = program.functions[function]?.block
        else { return [] }
        return body.operations.filter { $0.operatorName != "const" }.map { operation in
            let usage = plan.deviceUsage(for: operation)
            return Report.Planned(
                op: operation.operatorName,
                output: operation.outputs.first?.name ?? "",
                preferred: usage.map { word($0.preferred) },
                supported: usage.map { $0.supported.map { word($0) } } ?? [],
                cost: plan.estimatedCost(of: operation)?.weight)
        }
    }

    @available(macOS 14, iOS 17, *)
    static func word(_ device: MLComputeDevice) -> String {
        switch device {
        case .cpu: return "cpu"
        case .gpu: return "gpu"
        case .neuralEngine: return "ane"
        @unknown default: return "other"
        }
    }

    // MARK: Files of compiled models

    /// Our files against Apple's; of the text everything from line 4 on, since the head names the compiler.
    static func compare(_ probe: String, _ ours: URL, _ theirs: URL) -> [Report.Twin] {
        ["model.mil", "coremldata.bin"].map { file in
            let pair = [ours, theirs].map { folder -> Data? in
                guard let data = try? Data(contentsOf: folder.appendingPathComponent(file))
                else { return nil }
                return file == "model.mil" ? tail(data) : data
            }
            return Report.Twin(
                probe: probe, file: file, equal: pair[0] != nil && pair[0] == pair[1])
        }
    }

    static func tail(_ data: Data) -> Data {
        let lines = data.split(separator: 10, maxSplits: 3, omittingEmptySubsequences: false)
        return lines.count == 4 ? Data(lines[3]) : data
    }

    // MARK: Numbers

    static func floats(_ array: Kit.Array, _ kit: URL) throws -> [Float] {
        let data = try Data(contentsOf: kit.appendingPathComponent(array.file))
        let count = array.shape.reduce(1, *)
        guard data.count == 4 * count else {
            throw ProbeError.wrongSize(array.file, expected: count, found: data.count / 4)
        }
        let bytes = [UInt8](data)
        return (0..<count).map { index in
            let bits = (0..<4).reduce(UInt32(0)) { sum, byte in
                sum | UInt32(bytes[4 * index + byte]) << UInt32(8 * byte)
            }
            return Float(bitPattern: bits)
        }
    }

    static func array(_ given: Kit.Array, _ kit: URL) throws -> MLMultiArray {
        let shape = given.shape.map { NSNumber(value: $0) }
        let array = try MLMultiArray(shape: shape, dataType: .float16)
        fill(array, try floats(given, kit))
        return array
    }

    /// Goes by index, so strides do not matter; the arrays are tiny.
    static func fill(_ array: MLMultiArray, _ numbers: [Float]) {
        for (number, index) in zip(numbers, indices(array)) {
            array[index] = NSNumber(value: number)
        }
    }

    static func values(_ array: MLMultiArray) -> [Float] {
        indices(array).map { array[$0].floatValue }
    }

    static func indices(_ array: MLMultiArray) -> [[NSNumber]] {
        var all: [[NSNumber]] = [[]]
        for size in array.shape {
            all = all.flatMap { start in
                (0..<size.intValue).map { start + [NSNumber(value: $0)] }
            }
        }
        return all
    }

    /// 20·log10(max|expected| / RMSE), at most 999; -999 for another size and for what is no number.
    static func loss(_ expected: [Float], _ found: [Float]) -> Double {
        guard expected.count == found.count, !expected.isEmpty else { return -999 }
        var noise = 0.0
        var peak = 0.0
        for (a, b) in zip(expected, found) {
            noise += (Double(a) - Double(b)) * (Double(a) - Double(b))
            peak = max(peak, abs(Double(a)))
        }
        guard noise.isFinite else { return -999 }
        if noise == 0 { return 999 }
        guard peak > 0 else { return -999 }
        return min(999, 20 * log10(peak / (noise / Double(expected.count)).squareRoot()))
    }

    // MARK: The machine

    static func clock() -> Double { ProcessInfo.processInfo.systemUptime }

    static func milliseconds(since start: Double) -> Double { 1000 * (clock() - start) }

    static func system() -> Report.System {
        var info = utsname()
        uname(&info)
        var device = withUnsafeBytes(of: &info.machine) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
        #if os(macOS)
            var size = 0
            sysctlbyname("hw.model", nil, &size, nil, 0)
            var model = [UInt8](repeating: 0, count: size)
            if sysctlbyname("hw.model", &model, &size, nil, 0) == 0 {
                device = String(decoding: model.prefix { $0 != 0 }, as: UTF8.self)
            }
        #endif
        return Report.System(
            device: device, os: ProcessInfo.processInfo.operatingSystemVersionString)
    }
}

#if os(macOS) && !PROBE_KIT_IN_APP
    @main
    struct Command {
        static func main() async throws {
            let folder = URL(
                fileURLWithPath: CommandLine.arguments.count > 1 ? CommandLine.arguments[1] : ".")
            let report = folder.appendingPathComponent("report.json")
            try await ProbeKit.run(kit: folder, report: report)
            print("wrote \(report.path)")
        }
    }
#endif
