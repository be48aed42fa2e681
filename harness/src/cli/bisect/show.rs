// SPDX-License-Identifier: MIT OR Apache-2.0
//! The progress of a bisection on stderr.

use std::collections::BTreeSet;

use nstrail::{
    kernel::BuildEvent,
    report::bisect::{CandidateSummary, Purpose, StepSummary, Verdict},
    run::{
        bisect::{
            BisectEvent,
            engine::{Ahead, Ran, Until},
        },
        execute::RunEvent,
    },
};

use crate::cli::{build, progress::Progress, run};

/// See the module.
#[derive(Debug)]
pub struct Shown {
    pub progress: Progress,
    candidates: Vec<CandidateSummary>,
    /// What was warned of: each candidate has the same patches as the one before.
    warned: BTreeSet<String>,
    step: String,
    runs: (u32, u32),
    of: String,
}

impl Shown {
    pub const fn new(progress: Progress) -> Self {
        Self {
            progress,
            candidates: Vec::new(),
            warned: BTreeSet::new(),
            step: String::new(),
            runs: (0, 0),
            of: String::new(),
        }
    }

    /// What the numbers of candidates stand for.
    pub fn candidates(&mut self, candidates: Vec<CandidateSummary>) {
        self.candidates = candidates;
    }

    pub fn event(&mut self, event: BisectEvent<'_>) {
        match event {
            BisectEvent::Run(RunEvent::Kernel(event)) => self.build(&event),
            // There are many, and each gets a word below.
            BisectEvent::Run(
                RunEvent::Scenario { .. } | RunEvent::Ended { .. } | RunEvent::Records { .. },
            ) => {}
            BisectEvent::Run(event) => run::show(&mut self.progress, event),
            BisectEvent::Resumed { runs } => self.progress.line(&format!("{runs} runs are done already")),
            BisectEvent::Begin(ahead) => self.begin(ahead),
            BisectEvent::Ran { attempt, ran } => self.ran(attempt, ran),
            BisectEvent::Ended(step) => self.ended(step),
        }
    }

    /// As for other commands, but each offset and each remark about the series once.
    pub fn build(&mut self, event: &BuildEvent) {
        let news = match event {
            BuildEvent::Applied(patch) if patch.offsets.is_empty() => return,
            BuildEvent::Applied(patch) => self.warned.insert(format!("{}: {:?}", patch.name, patch.offsets)),
            BuildEvent::Base(check) => self.warned.insert(check.to_string()),
            BuildEvent::Unconfined(_) | BuildEvent::Confined(_) => {
                self.warned.insert(build::words(event).unwrap_or_default())
            }
            _ => true,
        };
        if news {
            build::show(&mut self.progress, event);
        }
    }

    fn begin(&mut self, ahead: &Ahead) {
        let candidate = self.candidates.get(ahead.candidate);
        let id = candidate.map_or("", |candidate| candidate.id.as_str());
        let title = candidate.map_or("", |candidate| candidate.title.as_str());
        let what = match ahead.purpose {
            Purpose::BadEnd => format!("bad end {id}"),
            Purpose::GoodEnd => format!("good end {id}"),
            // All that `git bisect run` asks for.
            Purpose::Search if ahead.suspects == 1 => format!("{id} {title}"),
            Purpose::Search => format!("{id} {title}, one of {} suspects", ahead.suspects),
            Purpose::Verification => format!("without {id} {title}"),
        };
        let until = match ahead.until {
            Until::Clean(1) => "one clean run is good".to_owned(),
            Until::Clean(runs) => format!("{runs} clean runs are good"),
            Until::Failures { failures, runs } => {
                format!("until {failures} failures tell its rate, at most {runs} runs")
            }
        };
        self.step = format!("step {}", ahead.number);
        self.of = match ahead.until {
            Until::Clean(runs) => format!(" of {runs}"),
            Until::Failures { .. } => String::new(),
        };
        self.runs = (0, 0);
        self.progress.line(&format!("{}: {what}: {until}", self.step));
    }

    fn ran(&mut self, attempt: u32, ran: &Ran) {
        let step = &self.step;
        match ran {
            Ran::Clean => self.runs.0 += 1,
            Ran::Failed(reason) => {
                // The first in full: that it fails again is no news.
                if self.runs.1 == 0 {
                    self.progress.line(&format!("{step}: run {attempt}: {reason}"));
                }
                self.runs.0 += 1;
                self.runs.1 += 1;
            }
            Ran::Unclear(reason) => {
                self.progress.line(&format!("{step}: run {attempt} proves nothing: {reason}"));
            }
            Ran::Skipped(_) => {}
        }
        let (runs, failures) = self.runs;
        let of = &self.of;
        self.progress.state(|| format!("{step}: {runs}{of} runs, {failures} failures"));
    }

    fn ended(&mut self, step: &StepSummary) {
        let reason = match (step.verdict, &step.reason) {
            (Verdict::Skipped, Some(reason)) => format!(": {}", reason.lines().next().unwrap_or_default()),
            _ => String::new(),
        };
        let text = format!(
            "{}: {} after {} runs, {} failures, {:.1} s{reason}",
            self.step,
            step.verdict.word(),
            step.runs,
            step.failures,
            step.seconds
        );
        self.progress.line(&text);
    }
}
