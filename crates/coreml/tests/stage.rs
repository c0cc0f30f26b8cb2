//! Output that appears whole or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use gesso_coreml::Error;
use gesso_coreml::stage::{self, Overwrite, Staging};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// `abort_all` reaches every output of the process, so the tests of this file take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn only(name: &str) -> BTreeSet<String> {
    BTreeSet::from([name.to_owned()])
}

#[test]
fn a_folder_appears_when_it_is_complete() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out.mlpackage");
    let staging = Staging::new(&target, Overwrite::Refuse).unwrap();
    fs::write(staging.path().join("a"), "1").unwrap();
    assert_eq!(staging.path().parent(), target.parent());
    assert_eq!(
        staging.path().file_name().unwrap().to_str().unwrap(),
        format!(".out.mlpackage.gesso-tmp-{}", std::process::id())
    );
    assert_eq!(staging.target(), target);
    assert!(!target.exists());
    staging.commit().unwrap();
    assert_eq!(fs::read(target.join("a")).unwrap(), b"1");
    assert_eq!(names(dir.path()), only("out.mlpackage"));
}

#[test]
fn a_single_file_works_as_well() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out.json");
    for (content, overwrite) in [("1", Overwrite::Refuse), ("2", Overwrite::Force)] {
        let staging = Staging::file(&target, overwrite).unwrap();
        fs::write(staging.path(), content).unwrap();
        staging.commit().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), content);
        assert_eq!(names(dir.path()), only("out.json"));
    }
    // Nothing was written.
    let staging = Staging::file(&target, Overwrite::Force).unwrap();
    assert!(matches!(
        staging.commit(),
        Err(Error::Io {
            action: "rename",
            ..
        })
    ));
    assert_eq!(fs::read_to_string(&target).unwrap(), "2");
}

#[test]
fn an_old_output_is_refused_or_replaced() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("old"), "").unwrap();
    assert!(matches!(
        Staging::new(&target, Overwrite::Refuse),
        Err(Error::TargetExists { path }) if path == target
    ));
    assert_eq!(names(dir.path()), only("out"));

    let staging = Staging::new(&target, Overwrite::Force).unwrap();
    fs::write(staging.path().join("new"), "").unwrap();
    assert_eq!(names(&target), only("old"));
    staging.commit().unwrap();
    assert_eq!(names(&target), only("new"));
    assert_eq!(names(dir.path()), only("out"));
}

#[test]
fn an_output_that_appears_meanwhile_is_kept() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let staging = Staging::new(&target, Overwrite::Refuse).unwrap();
    fs::write(&target, "somebody else").unwrap();
    assert!(matches!(staging.commit(), Err(Error::TargetExists { .. })));
    assert_eq!(fs::read_to_string(&target).unwrap(), "somebody else");
    assert_eq!(names(dir.path()), only("out"));
}

#[test]
fn a_failure_leaves_nothing() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::new(&dir.path().join("out"), Overwrite::Refuse).unwrap();
    fs::create_dir_all(staging.path().join("a/b")).unwrap();
    fs::write(staging.path().join("a/b/c"), "1").unwrap();
    drop(staging);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn one_writer_for_each_output() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let first = Staging::new(&target, Overwrite::Force).unwrap();
    fs::write(first.path().join("a"), "1").unwrap();
    let error = Staging::new(&target, Overwrite::Force).unwrap_err();
    assert!(
        matches!(&error, Error::TargetBusy { pid: Some(pid), .. } if *pid == std::process::id())
    );
    assert!(
        error
            .to_string()
            .contains(&format!("(pid {})", std::process::id())),
        "{error}"
    );
    // The refused one disturbed nothing, and other outputs are free.
    let other = Staging::new(&dir.path().join("other"), Overwrite::Refuse).unwrap();
    drop(other);
    assert!(first.path().join("a").exists());
    first.commit().unwrap();
    drop(Staging::new(&target, Overwrite::Force).unwrap());
    assert_eq!(names(dir.path()), only("out"));
}

#[test]
fn the_lock_of_another_process_counts() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let lock = dir.path().join(".out.gesso-lock");
    fs::write(&lock, "4711\n").unwrap();
    let mut child = Command::new("flock")
        .arg(&lock)
        .args(["sh", "-c", "echo locked; exec sleep 60"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    let refused = Staging::new(&target, Overwrite::Refuse);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(
        refused,
        Err(Error::TargetBusy {
            pid: Some(4711),
            ..
        })
    ));
}

/// The id of a process that has ended.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let dead = dead_pid();
    let stale = dir.path().join(format!(".out.gesso-tmp-{dead}"));
    fs::create_dir(&stale).unwrap();
    fs::write(stale.join("a"), "1").unwrap();
    fs::write(dir.path().join(format!(".out.gesso-tmp-{dead}-old")), "").unwrap();
    fs::write(dir.path().join(".out.gesso-lock"), format!("{dead}\n")).unwrap();
    // Not ours to remove: a living process, another output, names that only look alike.
    let kept = [
        ".out.gesso-tmp-1".to_owned(),
        format!(".other.gesso-tmp-{dead}"),
        ".out.gesso-tmp-x".to_owned(),
        format!("out.gesso-tmp-{dead}"),
    ];
    for name in &kept {
        fs::write(dir.path().join(name), "").unwrap();
    }
    drop(Staging::new(&dir.path().join("out"), Overwrite::Refuse).unwrap());
    assert_eq!(names(dir.path()), BTreeSet::from(kept));
}

#[test]
fn abort_removes_every_output_from_another_thread() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let a = Staging::new(&dir.path().join("a"), Overwrite::Refuse).unwrap();
    let b = Staging::file(&dir.path().join("b"), Overwrite::Refuse).unwrap();
    fs::write(a.path().join("x"), "1").unwrap();
    fs::write(b.path(), "1").unwrap();
    assert_eq!(std::thread::spawn(stage::abort_all).join().unwrap(), 2);
    assert!(names(dir.path()).is_empty());
    assert!(matches!(a.commit(), Err(Error::Aborted { .. })));
    drop(b);
    assert!(names(dir.path()).is_empty());
    assert_eq!(stage::abort_all(), 0);
}

#[test]
fn paths_that_name_nothing() {
    let _turn = turn();
    for path in ["", "/", "..", "a/.."] {
        assert!(
            matches!(
                Staging::new(Path::new(path), Overwrite::Refuse),
                Err(Error::TargetName { .. })
            ),
            "{path}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Staging::new(&dir.path().join("none/out"), Overwrite::Refuse),
        Err(Error::Io {
            action: "create",
            ..
        })
    ));
}

#[test]
fn space() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("not/there/yet");
    let free = stage::free_space(&missing).unwrap();
    assert!(free > 0);
    stage::require_space(&missing, 1).unwrap();
    assert!(matches!(
        stage::require_space(&missing, u64::MAX),
        Err(Error::NoSpace {
            needed: u64::MAX,
            ..
        })
    ));

    stage::require_space_in(&missing, 10, |_| Ok(10)).unwrap();
    let error = stage::require_space_in(Path::new("out"), 11, |_| Ok(10)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not enough space for `out`: 11 bytes needed, 10 bytes free"
    );
}
