//! What tests share: fixtures, other people's files beside the project, named tolerance classes, and golden tensors.
//!
//! A dev-dependency only. Its safetensors reader is the `safetensors` crate itself, so that a golden is never read by
//! the code that it judges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a broken fixture must stop the test

mod golden;
mod tolerance;

pub use golden::Golden;
pub use tolerance::{Tolerance, psnr_db, relative_rms, snr_db};

use std::path::PathBuf;

/// Root of the project.
pub fn project_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/testkit lies two levels down")
        .into()
}

/// Path of a committed fixture, for instance `goldens/models/sd1`.
pub fn fixture(relative: &str) -> PathBuf {
    let path = project_root().join("fixtures").join(relative);
    assert!(
        path.exists(),
        "fixture `{relative}` is missing from `fixtures/`"
    );
    path
}

/// Path of a file that is not ours and therefore lies beside the project in `../shared`.
///
/// Without that folder the answer is `None` and a line on stderr says that something was skipped; where `CI` is
/// `true`, or where the folder is there and only the file is missing, this panics.
pub fn shared(relative: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GESSO_SHARED")
        .map(PathBuf::from)
        .or_else(|| {
            // A worktree may lie deeper than the project itself: look up to three levels above.
            project_root()
                .ancestors()
                .skip(1)
                .take(3)
                .map(|a| a.join("shared"))
                .find(|p| p.join("formats").is_dir())
        });
    let in_ci = std::env::var("CI").is_ok_and(|v| v == "true");
    match root {
        Some(root) => {
            let path = root.join(relative);
            assert!(
                path.exists(),
                "`shared/{relative}` is missing although the folder is there"
            );
            Some(path)
        }
        None if in_ci => panic!("`../shared` is missing: with CI=true a skip is a failure"),
        None => {
            eprintln!("SKIPPED: `../shared/{relative}` is not on this machine");
            None
        }
    }
}
