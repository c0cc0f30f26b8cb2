//! Progress on stderr, only where stderr is a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// One line that is overwritten in place.
#[derive(Debug)]
pub(crate) struct Line {
    label: String,
    total: u64,
    done: u64,
    started: Instant,
    drawn: Option<Instant>,
    visible: bool,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self {
            label: String::new(),
            total: 0,
            done: 0,
            started: Instant::now(),
            drawn: None,
            visible: std::io::stderr().is_terminal(),
        }
    }

    /// Starts a new stretch of work of `total` units.
    pub(crate) fn begin(&mut self, label: &str, total: u64) {
        self.clear();
        self.label = label.to_string();
        self.total = total;
        self.done = 0;
        self.started = Instant::now();
        self.drawn = None;
        self.draw();
    }

    /// `n` more units are done.
    pub(crate) fn advance(&mut self, n: u64) {
        self.done += n;
        if self
            .drawn
            .is_none_or(|at| at.elapsed() > Duration::from_millis(80))
        {
            self.draw();
        }
    }

    fn draw(&mut self) {
        if !self.visible {
            return;
        }
        self.drawn = Some(Instant::now());
        let share = if self.total == 0 {
            0.0
        } else {
            (self.done as f64 / self.total as f64).min(1.0)
        };
        let filled = (share * 24.0) as usize;
        let bar: String = (0..24)
            .map(|i| if i < filled { '█' } else { '░' })
            .collect();
        let elapsed = self.started.elapsed().as_secs_f64();
        eprint!(
            "\r\x1b[2K{} {bar} {:3.0} % {elapsed:.1} s",
            self.label,
            share * 100.0
        );
        let _ = std::io::stderr().flush();
    }

    /// Removes the line.
    pub(crate) fn clear(&mut self) {
        if self.visible && self.drawn.is_some() {
            eprint!("\r\x1b[2K");
            let _ = std::io::stderr().flush();
        }
    }
}

impl gesso_convert::Progress for Line {
    fn begin(&mut self, label: &str, total_bytes: u64) {
        Line::begin(self, label, total_bytes);
    }

    fn advance(&mut self, bytes: u64) {
        Line::advance(self, bytes);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.clear();
    }
}
