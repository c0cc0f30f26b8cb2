// The pure parts of image generation: tokenizer, prompt parser, schedulers, random numbers, PNG. Foundation only; twins
// of the Rust crate `gesso-pipeline`, tested by the same golden files.

import Foundation
