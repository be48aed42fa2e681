// SPDX-License-Identifier: MIT OR Apache-2.0
//! Progress on stderr: one line that is overwritten on a terminal, plain lines elsewhere.

use std::{
    io::Write as _,
    time::{Duration, Instant},
};

use nstrail::report::escape::one_line;

/// On a terminal, at most so often.
const TERMINAL_INTERVAL: Duration = Duration::from_millis(100);
/// Elsewhere a changing count gets a line at most so often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// Where progress goes.
#[derive(Debug)]
pub struct Progress {
    quiet: bool,
    terminal: bool,
    shown: Option<Instant>,
    dirty: bool,
}

impl Progress {
    pub const fn new(quiet: bool, terminal: bool) -> Self {
        Self { quiet, terminal, shown: None, dirty: false }
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        self.clear();
        eprintln!("nstrail: {}", one_line(text));
        self.shown = Some(Instant::now());
    }

    /// A line that also `--quiet` does not take away: the result is not quite what was asked for.
    pub fn warning(&mut self, text: &str) {
        self.clear();
        eprintln!("nstrail: warning: {}", one_line(text));
        self.shown = Some(Instant::now());
    }

    /// A changing state, shown as often as is useful.
    pub fn state(&mut self, text: impl FnOnce() -> String) {
        let interval = if self.terminal { TERMINAL_INTERVAL } else { PLAIN_INTERVAL };
        if self.quiet || self.shown.is_some_and(|shown| shown.elapsed() < interval) {
            return;
        }
        self.shown = Some(Instant::now());
        let text = one_line(&text());
        if self.terminal {
            eprint!("\r\x1b[Knstrail: {text}");
            // Progress that cannot be shown is no reason to stop.
            let _ = std::io::stderr().flush();
            self.dirty = true;
        } else {
            eprintln!("nstrail: {text}");
        }
    }

    fn clear(&mut self) {
        if self.dirty {
            eprint!("\r\x1b[K");
            self.dirty = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
