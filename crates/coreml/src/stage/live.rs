//! Every output of this process that is on its way, so that a signal handler can remove them all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tries to remove a folder into which another thread still writes.
const ATTEMPTS: usize = 20;

static LIVE: Mutex<Live> = Mutex::new(Live {
    next: 0,
    entries: BTreeMap::new(),
});

struct Live {
    next: u64,
    entries: BTreeMap<u64, Entry>,
}

struct Entry {
    temp: PathBuf,
    lock: PathBuf,
}

/// The entry of one output; dropped, it removes the temporary.
#[derive(Debug)]
pub(super) struct Ticket(u64);

/// Removes the temporaries and lock files of all outputs that are on their way, and returns how many there were.
///
/// For signal handlers that run on a thread of their own: it waits while an output is being renamed, and afterwards
/// [`super::Staging::commit`] gives [`crate::Error::Aborted`]. The process should end next, since other threads may
/// still try to write.
pub fn abort_all() -> usize {
    let entries = std::mem::take(&mut live().entries);
    for entry in entries.values() {
        remove_stubbornly(&entry.temp);
        // Nothing can be done about a lock file that stays; the next process takes it over.
        let _ = fs::remove_file(&entry.lock);
    }
    entries.len()
}

/// Adds an output.
pub(super) fn register(temp: &Path, lock: &Path) -> Ticket {
    let mut live = live();
    let id = live.next;
    live.next += 1;
    live.entries.insert(
        id,
        Entry {
            temp: temp.to_path_buf(),
            lock: lock.to_path_buf(),
        },
    );
    Ticket(id)
}

impl Ticket {
    /// Runs `work` while [`abort_all`] waits; `None` without running it when the output was aborted.
    pub(super) fn while_live<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let live = live();
        live.entries.contains_key(&self.0).then(work)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let entry = live().entries.get(&self.0).map(|entry| entry.temp.clone());
        // The entry stays until the temporary is gone, so that an abort in between removes the rest.
        if let Some(temp) = entry {
            remove_stubbornly(&temp);
            live().entries.remove(&self.0);
        }
    }
}

fn live() -> MutexGuard<'static, Live> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove_stubbornly(path: &Path) {
    for _ in 0..ATTEMPTS {
        if super::remove(path).is_ok() {
            return;
        }
    }
}
