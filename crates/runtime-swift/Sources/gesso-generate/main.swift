// Command-line generator.

import Foundation
import GessoPipeline
import GessoRuntime
