// Models, adapters and image generation on Core ML.

@preconcurrency import CoreML
import Foundation
import GessoPipeline
