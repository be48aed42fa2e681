// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs at the moment: a table that moves on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use nstrail::report::escape::one_line;

use super::progress::Progress;

/// Elsewhere than on a terminal a changing state gets a line at most so often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub enum Live {
    Terminal { table: MultiProgress, whole: ProgressBar, rows: BTreeMap<String, ProgressBar> },
    Plain { progress: Progress, shown: BTreeMap<String, Instant> },
}

impl Live {
    /// For so many things to do.
    pub fn new(quiet: bool, terminal: bool, count: u64) -> Self {
        if quiet || !terminal {
            return Self::Plain { progress: Progress::new(quiet, false), shown: BTreeMap::new() };
        }
        let table = MultiProgress::new();
        let whole = table.add(ProgressBar::new(count).with_style(style("{pos} of {len} cells, {elapsed}")));
        whole.enable_steady_tick(Duration::from_secs(1));
        Self::Terminal { table, whole, rows: BTreeMap::new() }
    }

    /// A line that stays.
    pub fn line(&mut self, text: &str) {
        match self {
            // A terminal that does not take it is no reason to stop.
            Self::Terminal { table, .. } => drop(table.println(format!("nstrail: {}", one_line(text)))),
            Self::Plain { progress, .. } => progress.line(text),
        }
    }

    /// A line that stays, also with `--quiet`.
    pub fn warning(&mut self, text: &str) {
        match self {
            Self::Terminal { .. } => self.line(&format!("warning: {text}")),
            Self::Plain { progress, .. } => progress.warning(text),
        }
    }

    /// Something starts.
    pub fn start(&mut self, what: &str, text: &str) {
        match self {
            Self::Terminal { table, rows, .. } => {
                let row = table
                    .add(ProgressBar::new_spinner().with_style(style("  {prefix:<32} {elapsed:>5}  {msg}")));
                row.set_prefix(what.to_owned());
                row.set_message(text.to_owned());
                row.enable_steady_tick(Duration::from_secs(1));
                rows.insert(what.to_owned(), row);
            }
            Self::Plain { progress, shown } => {
                progress.line(&format!("{what}: {text}"));
                shown.insert(what.to_owned(), Instant::now());
            }
        }
    }

    /// What it does now.
    pub fn state(&mut self, what: &str, text: impl FnOnce() -> String) {
        match self {
            Self::Terminal { rows, .. } => {
                if let Some(row) = rows.get(what) {
                    row.set_message(one_line(&text()));
                }
            }
            Self::Plain { progress, shown } => {
                if let Some(at) = shown.get_mut(what)
                    && at.elapsed() >= PLAIN_INTERVAL
                {
                    *at = Instant::now();
                    progress.line(&format!("{what}: {}", text()));
                }
            }
        }
    }

    /// It is over. `counts` if it was one of those that were to do.
    pub fn end(&mut self, what: &str, text: &str, counts: bool) {
        match self {
            Self::Terminal { whole, rows, .. } => {
                if let Some(row) = rows.remove(what) {
                    row.finish_and_clear();
                }
                if counts {
                    whole.inc(1);
                }
            }
            Self::Plain { shown, .. } => drop(shown.remove(what)),
        }
        self.line(&format!("{what}: {text}"));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Self::Terminal { table, whole, .. } = self {
            whole.finish_and_clear();
            // As above.
            let _ = table.clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
