import GessoPipeline
import XCTest

/// Schedulers against runs of diffusers with a known fake model, the files that the Rust twin reads too.
final class SchedulerTests: XCTestCase {
  /// Relative RMS of one step that starts where diffusers' step started: two float32 computations in different order.
  private let oneStep = 2e-6

  /// Where diffusers' own result is rounded more coarsely than this: at short steps its float32 weights of order 3 keep
  /// only five digits (each divides a difference by h three times), while ours are double.
  private let roundedThere = ["unipc-bh2-order3 n50"]

  /// The fake model of the goldens: sin(3x + 0.01t) in double precision, rounded.
  private func fake(_ sample: [Float], _ timestep: Double) -> [Float] {
    sample.map { Float(sin(3 * Double($0) + 0.01 * timestep)) }
  }

  /// Samples after each step. With `stored` samples every step starts from the stored one, else from our own.
  private func run(
    _ scheduler: any Scheduler, _ golden: Golden, _ n: String, stored: [Float]? = nil
  ) throws -> [[Float]] {
    var scheduler = scheduler
    let scale = scheduler.initNoiseSigma
    var sample = try golden.floats("latent").map { $0 * scale }
    let size = sample.count
    let noises = golden.has("n\(n).noise") ? try golden.floats("n\(n).noise") : nil
    var samples = [sample]
    for (index, timestep) in scheduler.timesteps.enumerated() {
      if let stored { sample = Array(stored[(index * size)..<((index + 1) * size)]) }
      let output = fake(scheduler.scaledModelInput(sample, at: index), timestep)
      let noise = noises.flatMap { all in
        (index + 1) * size <= all.count ? Array(all[(index * size)..<((index + 1) * size)]) : nil
      }
      XCTAssertEqual(noise != nil, scheduler.wantsNoise(at: index))
      sample = try scheduler.step(StepInput(index: index, modelOutput: output, sample: sample, noise: noise))
      samples.append(sample)
    }
    return samples
  }

  func testEveryStoredCaseFollowsDiffusers() throws {
    let index = try XCTUnwrap(try json("goldens/schedulers/index.json") as? [String: Any])
    let cases = try XCTUnwrap(index["cases"] as? [String: [String: Any]])
    var (count, failures): (Int, [String]) = (0, [])
    for (name, row) in cases.sorted(by: { $0.key < $1.key }) {
      guard let kind = SchedulerKind(className: try XCTUnwrap(row["class"] as? String)) else { continue }
      let data = try JSONSerialization.data(withJSONObject: try XCTUnwrap(row["config"]))
      let config = try SchedulerConfig(json: String(decoding: data, as: UTF8.self))
      let golden = try Golden("goldens/schedulers/\(name).safetensors")
      for (n, info) in try XCTUnwrap(row["runs"] as? [String: [String: Any]]) {
        let steps = try XCTUnwrap(Int(n))
        let scheduler = try kind.scheduler(config, steps: steps)
        let timesteps = try golden.values("n\(n).timesteps")
        let drift = zip(scheduler.timesteps, timesteps).map { abs($0 - $1) }.max() ?? .infinity
        let want = try golden.values("n\(n).samples")
        let size = try golden.shape("latent").reduce(1, *)
        let alone = try run(scheduler, golden, n)
        let led = try run(scheduler, golden, n, stored: want.map { Float($0) })
        var stepError = 0.0
        for (index, found) in led.enumerated() {
          stepError = max(stepError, relativeRMS(Array(want[(index * size)..<((index + 1) * size)]), found))
        }
        let last = relativeRMS(Array(want.suffix(size)), alone[alone.count - 1])
        let allowed = max(try XCTUnwrap((info["amplification"] as? NSNumber)?.doubleValue), 1) * 1e-6
        let sigmaError = scheduler.sigmas.isEmpty ? 0 : relativeRMS(try golden.values("n\(n).sigmas"), scheduler.sigmas)
        // LCM multiplies rounding by up to 2000, so it is judged step by step.
        let isWhole = last <= allowed || name.hasPrefix("lcm")
        let isRight =
          isWhole && stepError <= oneStep && sigmaError < 1e-7 && drift <= 2e-4
          && scheduler.timesteps.count == timesteps.count && alone.count * size == want.count
        count += 1
        if isRight == roundedThere.contains("\(name) n\(n)") {
          failures.append("\(name) n\(n): run \(last) of \(allowed), step \(stepError), sigmas \(sigmaError), timesteps \(drift)")
        }
      }
    }
    XCTAssertEqual(count, 192)
    XCTAssertTrue(failures.isEmpty, failures.joined(separator: "\n"))
  }

  func testStepsAreChecked() throws {
    let x: [Float] = [0.5, 0.5, 0.5, 0.5]
    for kind in SchedulerKind.allCases {
      var scheduler = try kind.scheduler(.stableDiffusion(), steps: 4)
      func message(_ index: Int, _ output: [Float], _ noise: [Float]?) -> String {
        do {
          _ = try scheduler.step(StepInput(index: index, modelOutput: output, sample: x, noise: noise))
          return "no error"
        } catch { return String(describing: error) }
      }
      XCTAssertTrue(message(1, x, x).hasPrefix("scheduler step 1 out of order, expected 0 of"))
      XCTAssertEqual(message(0, [0.5, 0.5, 0.5], nil), "model output: 3 elements, expected 4")
      XCTAssertEqual(message(0, x, [0, 0]), "noise: 2 elements, expected 4")
      if scheduler.wantsNoise(at: 0) { XCTAssertTrue(message(0, x, nil).hasSuffix("needs noise at step 0")) }
      for index in scheduler.timesteps.indices { XCTAssertEqual(message(index, x, x), "no error") }
      XCTAssertTrue(message(scheduler.timesteps.count, x, x).hasPrefix("scheduler step"))
    }
  }

  func testUnsupportedOptionsAreRefusedByName() throws {
    func refused(_ kind: SchedulerKind, _ json: String) throws -> String {
      let config = try SchedulerConfig(json: json)
      do {
        _ = try kind.scheduler(config, steps: 4)
        return "\(kind) took \(json)"
      } catch { return String(describing: error) }
    }
    for kind in SchedulerKind.allCases {
      for option in [
        "thresholding", "use_beta_sigmas", "use_exponential_sigmas", "use_flow_sigmas", "use_lu_lambdas",
      ] {
        let message = try refused(kind, "{\"skip_prk_steps\": true, \"\(option)\": true}")
        XCTAssertTrue(message.hasSuffix("does not support `\(option)` = `true`"), message)
      }
      XCTAssertThrowsError(try kind.scheduler(.stableDiffusion(), steps: 0))
      XCTAssertThrowsError(try kind.scheduler(.stableDiffusion(), steps: 1001))
    }
    for (kind, json, want): (SchedulerKind, String, String) in [
      (.dpmPP2M, #"{"algorithm_type": "sde-dpmsolver++"}"#, "`algorithm_type` = `sde-dpmsolver++`"),
      (.dpmPP2M, #"{"solver_order": 3}"#, "`solver_order` = `3`"), (.pndm, "{}", "`skip_prk_steps` = `false`"),
      (.pndm, #"{"skip_prk_steps": true, "steps_offset": 600}"#, "`steps_offset` = `600`"),
      (.ddim, #"{"steps_offset": -1}"#, "`steps_offset` = `-1`"),
      (.euler, #"{"timestep_type": "continuous"}"#, "`timestep_type` = `continuous`"),
      (.eulerAncestral, #"{"prediction_type": "sample"}"#, "`prediction_type` = `sample`"),
      (.uniPC, #"{"solver_type": "bh1"}"#, "`solver_type` = `bh1 with final sigma 0`"),
      (.lcm, #"{"original_inference_steps": 0}"#, "`original_inference_steps` = `0`"),
      (.euler, #"{"trained_betas": [0.1]}"#, "`betas` = `fewer than two, or outside [0, 1)`"),
    ] {
      let message = try refused(kind, json)
      XCTAssertTrue(message.hasSuffix(want), message)
    }
  }

  func testConfigsAreReadAsPythonWritesThem() throws {
    let config = try SchedulerConfig(
      json: #"{"_class_name": "a \"NaN\" b", "lambda_min_clipped": -Infinity, "sigma_max": NaN}"#)
    XCTAssertEqual(config.className, "a \"NaN\" b")
    XCTAssertNil(config.lambdaMinClipped)
    for text in ["", "[]", #"{"beta_schedule": "steep"}"#, #"{"beta_start": "x"}"#, #"{"a": "\"#, #"{"steps_offset": null}"#] {
      XCTAssertThrowsError(try SchedulerConfig(json: text), text) { error in
        guard case PipelineError.schedulerConfig = error else { return XCTFail("\(error)") }
      }
    }
  }

  /// The shapes goldens ran DPM-Solver++ 2M on the model's own PNDM config.
  func testOneConfigServesAnotherScheduler() throws {
    let text = try String(
      contentsOf: fixtures.appendingPathComponent("shapes/base/scheduler/scheduler_config.json"), encoding: .utf8)
    let config = try SchedulerConfig(json: text)
    XCTAssertEqual(config.className, "PNDMScheduler")
    let scheduler = try SchedulerKind.dpmPP2M.scheduler(config, steps: 20)
    let golden = try Golden("shapes/golden/end_to_end.safetensors")
    XCTAssertEqual(scheduler.timesteps, try golden.values("timesteps"))
    XCTAssertLessThan(relativeRMS(try golden.values("sigmas"), scheduler.sigmas), 1e-7)
  }

  /// Image to image: a model that knows the noise leads from any later start back to the picture.
  func testARunThatBeginsLaterEndsAtThePicture() throws {
    let clean: [Float] = [0.3, -0.7, 1.2, 0]
    let noise: [Float] = [1, -0.5, 0.25, -1.5]
    for kind in SchedulerKind.allCases where kind != .eulerAncestral && kind != .lcm {
      for skipped in [0, 3, 7, 9] {
        var scheduler = try kind.scheduler(.stableDiffusion(), steps: 10, skipping: skipped)
        var sample = scheduler.noised(clean, with: noise, at: 0)
        XCTAssertEqual(sample.count, 4)
        let whole = try kind.scheduler(.stableDiffusion(), steps: 10)
        XCTAssertEqual(scheduler.timesteps.last, whole.timesteps.last)
        for index in scheduler.timesteps.indices {
          sample = try scheduler.step(StepInput(index: index, modelOutput: noise, sample: sample))
        }
        // PNDM and DDIM end at the first timestep's ᾱ, not at 1.
        for (found, want) in zip(sample, clean) { XCTAssertEqual(found, want, accuracy: 0.05, "\(kind) \(skipped)") }
      }
    }
    XCTAssertThrowsError(try SchedulerKind.euler.scheduler(.stableDiffusion(), steps: 4, skipping: 4))
  }
}
