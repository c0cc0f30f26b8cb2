//! Kills, signals and full disks: an output is there as a whole or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{gesso, names, said, shapes, succeeds};

fn convert(out: &Path) -> Command {
    let mut command = gesso();
    command
        .arg("convert")
        .arg(shapes())
        .arg("-o")
        .arg(out)
        .args(["--bits", "4"]);
    command
}

/// A fixed sequence of fractions, spread over [0, 1).
fn moments(count: usize) -> impl Iterator<Item = f64> {
    (1..=count).map(|i| (i as f64 * 0.618_033_988_75).fract())
}

#[test]
fn ten_kills_leave_whole_outputs_only() {
    let scratch = tempfile::tempdir().unwrap();
    let start = Instant::now();
    succeeds(&mut convert(&scratch.path().join("whole")));
    let duration = start.elapsed();
    let whole = names(&scratch.path().join("whole"));
    let out = scratch.path().join("out");
    for moment in moments(10) {
        let mut child = convert(&out)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(duration.mul_f64(moment));
        let _ = child.kill();
        child.wait().unwrap();
        if out.exists() {
            assert_eq!(names(&out), whole, "a half-written folder at {moment}");
            std::fs::remove_dir_all(&out).unwrap();
        }
    }
    // The next run takes what the dead ones left.
    succeeds(&mut convert(&out));
    assert_eq!(names(&out), whole);
    assert_eq!(names(scratch.path()), ["out", "whole"]);
}

#[cfg(unix)]
#[test]
fn signals_leave_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    for signal in ["-INT", "-TERM"] {
        let mut child = convert(&out)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while names(scratch.path()).is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(
            Command::new("kill")
                .args([signal, &child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
        let code = child.wait().unwrap().code();
        assert!(
            code == Some(130) || (code == Some(0) && out.exists()),
            "exit code {code:?}"
        );
        assert!(!out.exists() || names(&out).contains(&"gesso.json".to_string()));
        let _ = std::fs::remove_dir_all(&out);
        assert_eq!(
            names(scratch.path()),
            Vec::<String>::new(),
            "after {signal}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_nothing() {
    // A limit on file sizes makes writing fail in the middle, as a full disk does; where a small file system can be
    // mounted, the check of free space refuses before anything is written.
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let run = "trap '' XFSZ; ulimit -f 300; exec \"$@\"";
    let output = Command::new("bash")
        .args(["-c", run, "bash", env!("CARGO_BIN_EXE_gesso"), "convert"])
        .arg(shapes())
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("error: ") && said(&output).contains("cannot write"),
        "{}",
        said(&output)
    );
    assert_eq!(names(scratch.path()), Vec::<String>::new());
}

#[cfg(target_os = "linux")]
#[test]
fn too_little_room_is_refused_before_writing() {
    let scratch = tempfile::tempdir().unwrap();
    let small = scratch.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let run = "mount -t tmpfs -o size=2m none \"$1\" || exit 77; shift; \"$@\"; code=$?; ls -A small; exit $code";
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "bash", "-c", run, "bash"])
        .arg(&small)
        .args([env!("CARGO_BIN_EXE_gesso"), "convert"])
        .arg(shapes())
        .arg("-o")
        .arg(small.join("out"))
        .current_dir(scratch.path())
        .output();
    match output {
        Ok(output) if output.status.code() == Some(2) => {
            let text = said(&output);
            assert!(text.contains("free") || text.contains("space"), "{text}");
            assert!(!text.contains("gesso-tmp"), "{text}");
        }
        // The size limit above covers the case where no file system can be mounted.
        other => eprintln!("SKIPPED: no small file system can be mounted here ({other:?})"),
    }
}
