// SPDX-License-Identifier: MIT OR Apache-2.0
//! A bisection as text: its steps, the culprit, whether it was taken out, and how sure all of it is.

use std::fmt::Write as _;

use super::{
    bisect::{
        BisectSummary, CandidateSummary, End, Mode, Purpose, RateSummary, StepSummary, Verdict, Verification,
        Verified,
    },
    escape::one_line,
};

/// Letters of a reason in the table; the whole is in bisect.json.
const REASON: usize = 90;

/// The whole result, plain text.
#[must_use]
pub fn render(summary: &BisectSummary) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, here and below.
    let (version, sentence) = (one_line(&summary.nstrail), one_line(&summary.sentence));
    let _ = writeln!(out, "nstrail {version}: {sentence} ({:.1} s)\n", summary.seconds);
    let _ = writeln!(out, "{}", subject(summary));
    table(&mut out, summary);
    let _ = writeln!(out);
    end(&mut out, summary);
    if let Some(verification) = &summary.verification {
        let _ = writeln!(out, "{}", verified(verification, summary.mode));
    }
    certainty(&mut out, summary);
    let _ = writeln!(out, "\nreproduce: {}", one_line(&summary.reproducer));
    out
}

fn subject(summary: &BisectSummary) -> String {
    let noun = summary.mode.noun();
    let count = summary.candidates.len().saturating_sub(1);
    let with = summary.with.as_ref().map_or_else(String::new, |with| {
        let place = if summary.mode == Mode::Series { "on" } else { "each with" };
        format!(", {place} {} ({} patches)", one_line(&with.name), with.patches)
    });
    let plural = match (count, noun) {
        (1, noun) => noun.to_owned(),
        (_, "patch") => "patches".to_owned(),
        (_, noun) => format!("{noun}s"),
    };
    let expect = if summary.expect.is_empty() {
        String::new()
    } else {
        format!(", only {} is bad", one_line(&summary.expect.join(" or ")))
    };
    let scenarios = one_line(&summary.scenarios.join(", "));
    format!(
        "linux {}, {count} {plural} after the good end{with}; {scenarios}, seed {}{expect}",
        one_line(&summary.kernel),
        summary.seed
    )
}

/// `17`, or of a verification `all but 17`.
fn candidate(summary: &BisectSummary, step: &StepSummary) -> String {
    let id = one_line(&of(summary, step.candidate).id);
    match step.purpose {
        Purpose::Verification => format!("without {id}"),
        _ => id,
    }
}

fn of(summary: &BisectSummary, at: usize) -> CandidateSummary {
    let unknown = || CandidateSummary { id: at.to_string(), title: String::new() };
    summary.candidates.get(at).cloned().unwrap_or_else(unknown)
}

const fn purpose(step: &StepSummary) -> &'static str {
    match step.purpose {
        Purpose::BadEnd => "bad end",
        Purpose::GoodEnd => "good end",
        Purpose::Search => "search",
        Purpose::Verification => "verification",
    }
}

fn table(out: &mut String, summary: &BisectSummary) {
    let noun = summary.mode.noun();
    let names: Vec<String> = summary.steps.iter().map(|step| candidate(summary, step)).collect();
    let width = names.iter().map(String::len).chain([noun.len()]).max().unwrap_or(0);
    let _ = writeln!(
        out,
        "  {:<4} {:<12} {noun:<width$} {:<7} {:>4} {:>8} {:>8}  reason",
        "step", "purpose", "verdict", "runs", "failures", "seconds"
    );
    for (step, name) in summary.steps.iter().zip(names) {
        let reason = short(step.reason.as_deref().unwrap_or_default());
        let again = match step.unclear {
            0 => String::new(),
            count => format!(" [{count} more that proved nothing]"),
        };
        let line = format!(
            "  {:<4} {:<12} {name:<width$} {:<7} {:>4} {:>8} {:>8.1}  {reason}{again}",
            step.number,
            purpose(step),
            step.verdict.word(),
            step.runs,
            step.failures,
            step.seconds,
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

fn short(reason: &str) -> String {
    let line = one_line(reason.lines().next().unwrap_or_default());
    match line.char_indices().nth(REASON) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}

fn named(summary: &BisectSummary, at: usize) -> String {
    let CandidateSummary { id, title } = of(summary, at);
    format!("{} {}", one_line(&id), one_line(&title)).trim_end().to_owned()
}

fn end(out: &mut String, summary: &BisectSummary) {
    let noun = summary.mode.noun();
    match &summary.end {
        End::Culprit { candidate } => {
            let _ = writeln!(out, "first bad {noun}: {}", named(summary, *candidate));
            let bad =
                |step: &&StepSummary| step.candidate == *candidate && step.purpose != Purpose::Verification;
            if let Some(reason) = summary.steps.iter().find(bad).and_then(|step| step.reason.as_ref()) {
                for line in reason.lines() {
                    let _ = writeln!(out, "  {}", one_line(line));
                }
            }
            if let Some(before) = candidate.checked_sub(1) {
                let _ = writeln!(out, "last good {noun}: {}", named(summary, before));
            }
        }
        End::OneOf { first, last } => {
            let _ = writeln!(out, "the first bad {noun} is one of");
            for at in *first..=*last {
                let skipped = |step: &&StepSummary| step.candidate == at && step.verdict == Verdict::Skipped;
                let reason = summary.steps.iter().find(skipped).and_then(|step| step.reason.as_deref());
                let reason =
                    reason.map_or_else(String::new, |reason| format!(" (skipped: {})", short(reason)));
                let _ = writeln!(out, "  {}{reason}", named(summary, at));
            }
        }
        End::GoodEndIsBad | End::BadEndIsGood | End::EndSkipped { .. } => {
            let _ = writeln!(out, "{}", one_line(&summary.sentence));
        }
    }
}

fn verified(verification: &Verification, mode: Mode) -> String {
    let how = one_line(&verification.how);
    match verification.state {
        Verified::Yes => format!("verified: {how} is good"),
        Verified::No => format!("not verified: {how} is bad as well"),
        Verified::NotTested => format!("not verified: {how}"),
        Verified::Impossible => format!("not verified, as no {} can be: {how}", mode.noun()),
    }
}

fn certainty(out: &mut String, summary: &BisectSummary) {
    if !matches!(summary.end, End::Culprit { .. } | End::OneOf { .. }) {
        // Nothing was found that one could be sure of.
        return;
    }
    let certainty = &summary.certainty;
    // What is rounded may not look better than it is.
    let reached = (certainty.reached * 10_000.0).floor() / 10_000.0;
    let asked = certainty.asked;
    let _ = match &certainty.rate {
        // Without a rate there is no search.
        RateSummary::Unknown => Ok(()),
        RateSummary::Given { value } if *value >= crate::run::repeat::Rate::ALWAYS => writeln!(
            out,
            "confidence: it is certain if the fault shows in every run of a bad kernel, which is taken for granted (--rate 1)"
        ),
        RateSummary::Given { value } => writeln!(
            out,
            "confidence: at least {reached} ({asked} was asked for), if a bad kernel fails in {value} of its runs or more (--rate)"
        ),
        RateSummary::Measured { failures, runs, value, confidence } => writeln!(
            out,
            "confidence: at least {reached} ({asked} was asked for): the bad end failed in {failures} of {runs} runs, so a bad \
             kernel is taken to fail in {:.4} of them or more (right with a confidence of {confidence})",
            value.value()
        ),
    };
}

/// The steps in the form of `git bisect log`, for `git bisect replay`. `ids` are the candidates' full ids.
#[must_use]
pub fn git_log(summary: &BisectSummary, ids: &[&str]) -> String {
    let mut out = "git bisect start --first-parent\n".to_owned();
    for step in summary.steps.iter().filter(|step| step.purpose != Purpose::Verification) {
        let Some(id) = ids.get(step.candidate) else { continue };
        let title = one_line(&of(summary, step.candidate).title);
        let word = match step.verdict {
            Verdict::Good => "good",
            Verdict::Bad => "bad",
            Verdict::Skipped => "skip",
        };
        let _ = writeln!(out, "# {word}: [{id}] {title}\ngit bisect {word} {id}");
    }
    if let End::Culprit { candidate } = summary.end
        && let Some(id) = ids.get(candidate)
    {
        let _ = writeln!(out, "# first bad commit: [{id}] {}", one_line(&of(summary, candidate).title));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::bisect::{Certainty, SCHEMA, conclusion};

    fn summary(end: End, verification: Option<Verification>) -> BisectSummary {
        let step = |number, purpose, candidate, verdict, reason: Option<&str>| StepSummary {
            number,
            purpose,
            candidate,
            verdict,
            runs: 1,
            failures: u32::from(verdict == Verdict::Bad),
            unclear: 0,
            needed: Some(1),
            risk: 0.0,
            seconds: 1.25,
            reason: reason.map(str::to_owned),
        };
        let certainty = Certainty {
            asked: "0.99".parse().unwrap(),
            reached: 1.0,
            rate: RateSummary::Given { value: "1".parse().unwrap() },
            max_runs: 9,
        };
        let mode = Mode::Series;
        let (exit_code, sentence) = conclusion(mode, &end, verification.as_ref(), &certainty);
        BisectSummary {
            schema: SCHEMA,
            nstrail: "0.1.0".to_owned(),
            run_id: "x".to_owned(),
            exit_code,
            sentence,
            reproducer: "nstrail bisect".to_owned(),
            mode,
            kernel: "6.12".to_owned(),
            with: None,
            scenarios: vec!["smoke".to_owned()],
            seed: 1,
            expect: Vec::new(),
            candidates: (0..4)
                .map(|number| CandidateSummary {
                    id: number.to_string(),
                    title: format!("add {number}\x1b[2J"),
                })
                .collect(),
            steps: vec![
                step(1, Purpose::BadEnd, 3, Verdict::Bad, Some("smoke: failed\nmore")),
                step(2, Purpose::GoodEnd, 0, Verdict::Good, None),
                step(3, Purpose::Search, 1, Verdict::Skipped, Some("does not build: kernel/a.c:1")),
                step(4, Purpose::Search, 2, Verdict::Bad, Some("smoke: failed")),
            ],
            end,
            verification,
            certainty,
            seconds: 9.0,
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_step() {
        let verification =
            Verification { state: Verified::Yes, how: "the series without this patch".to_owned() };
        let summary = summary(End::Culprit { candidate: 2 }, Some(verification));
        assert_eq!(summary.exit_code, 0);
        assert_eq!(
            render(&summary),
            "\
nstrail 0.1.0: the first bad patch is found, and without it the fault is gone (9.0 s)

linux 6.12, 3 patches after the good end; smoke, seed 1
  step purpose      patch verdict runs failures  seconds  reason
  1    bad end      3     bad        1        1      1.2  smoke: failed
  2    good end     0     good       1        0      1.2
  3    search       1     skipped    1        0      1.2  does not build: kernel/a.c:1
  4    search       2     bad        1        1      1.2  smoke: failed

first bad patch: 2 add 2\\x1b[2J
  smoke: failed
last good patch: 1 add 1\\x1b[2J
verified: the series without this patch is good
confidence: it is certain if the fault shows in every run of a bad kernel, which is taken for granted (--rate 1)

reproduce: nstrail bisect
"
        );
    }

    #[test]
    fn every_end_but_a_culprit_that_is_out_is_inconclusive() {
        let ends = [
            (End::OneOf { first: 1, last: 2 }, "one of 2 is the first bad patch"),
            (End::GoodEndIsBad, "the good end is bad"),
            (End::BadEndIsGood, "the bad end is not bad"),
            (End::EndSkipped { purpose: Purpose::BadEnd }, "the bad end cannot be tested"),
        ];
        for (end, words) in ends {
            let summary = summary(end, None);
            assert!(summary.exit_code == 10 && render(&summary).contains(words), "{}", render(&summary));
        }
        for (state, code) in
            [(Verified::No, 10), (Verified::NotTested, 10), (Verified::Impossible, 0), (Verified::Yes, 0)]
        {
            let verification = Verification { state, how: "how".to_owned() };
            let summary = summary(End::Culprit { candidate: 2 }, Some(verification));
            assert_eq!(summary.exit_code, code, "{state:?}");
        }
        let listed = render(&summary(End::OneOf { first: 1, last: 2 }, None));
        assert!(
            listed.contains("  1 add 1\\x1b[2J (skipped: does not build: kernel/a.c:1)\n  2 add 2"),
            "{listed}"
        );
    }

    #[test]
    fn git_can_replay_the_steps() {
        let summary = summary(End::Culprit { candidate: 2 }, None);
        let log = git_log(&summary, &["a0", "a1", "a2", "a3"]);
        assert!(
            log.starts_with(
                "git bisect start --first-parent\n# bad: [a3] add 3\\x1b[2J\ngit bisect bad a3\n"
            ),
            "{log}"
        );
        assert!(
            log.contains("\ngit bisect skip a1\n")
                && log.ends_with("# first bad commit: [a2] add 2\\x1b[2J\n"),
            "{log}"
        );
    }

    #[test]
    fn a_document_is_read_again_and_one_of_another_schema_is_not() {
        let summary = summary(End::GoodEndIsBad, None);
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(render(&BisectSummary::parse(&json).unwrap()), render(&summary));
        let other = BisectSummary { schema: 0, ..summary };
        let error = BisectSummary::parse(&serde_json::to_string(&other).unwrap()).unwrap_err().to_string();
        assert!(error.contains("schema 0"), "{error}");
    }
}
