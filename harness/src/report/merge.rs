// SPDX-License-Identifier: MIT OR Apache-2.0
//! Summaries of the parts of a matrix, made one.

use thiserror::Error;

use super::summary::{BaselineSummary, KernelSummary, RunSummary, SCHEMA};

/// Summaries that cannot be one.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MergeError {
    #[error("nothing to merge")]
    Nothing,
    #[error("{run}: schema {found}, expected {SCHEMA} (hint: it was written by another nstrail)")]
    Schema { run: String, found: u32 },
    #[error("{cell} is in two of them, the second time in {run} (hint: merge the parts of one partition)")]
    Twice { cell: String, run: String },
    #[error("{kernel} was built from other bytes in {run}: image {found}, before {expected}")]
    OtherImage { kernel: String, run: String, found: String, expected: String },
}

/// One summary of several. Kernels that stand in more than one get all of their scenarios; the whole is judged
/// anew.
///
/// # Errors
/// As [`MergeError`].
pub fn merge(parts: Vec<RunSummary>, id: &str) -> Result<RunSummary, MergeError> {
    let Some(first) = parts.first() else { return Err(MergeError::Nothing) };
    let reproducer = first.reproducer.clone();
    let mut seconds = 0.0;
    let mut kernels: Vec<KernelSummary> = Vec::new();
    let mut expired: Vec<String> = Vec::new();
    for part in parts {
        if part.schema != SCHEMA {
            return Err(MergeError::Schema { run: part.run_id, found: part.schema });
        }
        seconds += part.seconds;
        for entry in part.expired_splats {
            if !expired.contains(&entry) {
                expired.push(entry);
            }
        }
        for mut kernel in part.kernels {
            for scenario in &mut kernel.scenarios {
                // Paths are relative to the run's folder: the merged one lies beside it.
                if !scenario.artifacts.is_empty() {
                    scenario.artifacts = format!("../{}/{}", part.run_id, scenario.artifacts);
                }
            }
            match kernels.iter_mut().find(|known| known.title() == kernel.title()) {
                None => kernels.push(kernel),
                Some(known) => join(known, kernel, &part.run_id)?,
            }
        }
    }
    let outcome = RunSummary::judge(&kernels);
    let time = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    Ok(RunSummary::new(id, outcome, reproducer, kernels, time).with_expired_splats(expired))
}

fn join(known: &mut KernelSummary, other: KernelSummary, run: &str) -> Result<(), MergeError> {
    if let (Some(expected), Some(found)) = (&known.image_key, &other.image_key)
        && expected != found
    {
        return Err(MergeError::OtherImage {
            kernel: known.title(),
            run: run.to_owned(),
            found: found.clone(),
            expected: expected.clone(),
        });
    }
    for scenario in &other.scenarios {
        let same =
            |old: &&super::summary::ScenarioSummary| old.name == scenario.name && old.vcpus == scenario.vcpus;
        if known.scenarios.iter().any(|old| same(&old)) {
            let cell = format!("{}/{}/{}", known.title(), scenario.name, scenario.vcpus);
            return Err(MergeError::Twice { cell, run: run.to_owned() });
        }
    }
    if known.image_key.is_none() {
        known.image_key = other.image_key;
        known.source = other.source;
        known.source_sha256 = other.source_sha256;
    }
    known.compiled |= other.compiled;
    known.scenarios.extend(other.scenarios);
    known.patches.extend(other.patches);
    known.stages.extend(other.stages);
    known.failure = known.failure.take().or(other.failure);
    known.baseline = match (known.baseline.take(), other.baseline) {
        (Some(known), Some(other)) => Some(join_baselines(known, other)),
        (known, other) => known.or(other),
    };
    Ok(())
}

/// Every part has run the smoke of its baselines: the worse one counts.
fn join_baselines(mut known: BaselineSummary, other: BaselineSummary) -> BaselineSummary {
    for ran in other.scenarios {
        match known.scenarios.iter_mut().find(|old| old.name == ran.name && old.vcpus == ran.vcpus) {
            None => known.scenarios.push(ran),
            Some(old) => {
                if crate::outcome::Outcome::of_parts([old.outcome, ran.outcome]) != Some(old.outcome) {
                    *old = ran;
                }
            }
        }
    }
    known.compiled |= other.compiled;
    known.image_key = known.image_key.or(other.image_key);
    known.failure = known.failure.or(other.failure);
    known
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{outcome::Outcome, report::summary::ScenarioSummary};

    fn part(run: &str, version: &str, cells: &[(&str, Outcome)], image: &str) -> RunSummary {
        let scenarios = cells.iter().map(|(name, outcome)| ScenarioSummary {
            artifacts: format!("{version}/{name}"),
            ..ScenarioSummary::new(name, 1, 1, *outcome, "")
        });
        let kernel = KernelSummary {
            version: version.to_owned(),
            image_key: Some(image.to_owned()),
            scenarios: scenarios.collect(),
            ..KernelSummary::default()
        };
        let outcome = RunSummary::judge(std::slice::from_ref(&kernel));
        RunSummary::new(run, outcome, "nstrail matrix".to_owned(), vec![kernel], std::time::Duration::ZERO)
    }

    #[test]
    fn the_parts_of_a_kernel_come_together_and_the_worst_counts() {
        let parts = vec![
            part("a", "6.12", &[("smoke", Outcome::Passed)], "1"),
            part("b", "6.12", &[("nest", Outcome::Failed)], "1"),
            part("c", "7.3", &[("smoke", Outcome::Passed)], "2"),
        ];
        let merged = merge(parts, "m").unwrap();
        assert_eq!((merged.outcome, merged.exit_code), (Outcome::Failed, 1));
        let shape: Vec<(String, usize)> =
            merged.kernels.iter().map(|kernel| (kernel.title(), kernel.scenarios.len())).collect();
        assert_eq!(shape, [("6.12".to_owned(), 2), ("7.3".to_owned(), 1)]);
        assert_eq!(merged.kernels[0].scenarios[1].artifacts, "../b/6.12/nest");
    }

    #[test]
    fn an_expired_entry_of_every_part_is_told_once_and_fails_the_whole() {
        let expired = |run| {
            let cells = [(run, Outcome::Passed)];
            part(run, "6.12", &cells, "1").with_expired_splats(vec!["k.toml:1: expired".to_owned()])
        };
        let merged = merge(vec![expired("a"), expired("b")], "m").unwrap();
        assert_eq!((merged.outcome, merged.exit_code), (Outcome::Failed, 1));
        assert_eq!(merged.expired_splats.len(), 1);
    }

    #[test]
    fn what_is_no_partition_is_refused() {
        let smoke = [("smoke", Outcome::Passed)];
        let twice = merge(vec![part("a", "6.12", &smoke, "1"), part("b", "6.12", &smoke, "1")], "m");
        assert_eq!(
            twice.unwrap_err().to_string().split(" (").next(),
            Some("6.12/smoke/1 is in two of them, the second time in b")
        );
        let nest = [("nest", Outcome::Passed)];
        let other = merge(vec![part("a", "6.12", &smoke, "1"), part("b", "6.12", &nest, "2")], "m");
        assert!(matches!(other, Err(MergeError::OtherImage { .. })));
        let mut old = part("a", "6.12", &smoke, "1");
        old.schema = 0;
        assert!(matches!(merge(vec![old], "m"), Err(MergeError::Schema { .. })));
        assert_eq!(merge(Vec::new(), "m").unwrap_err(), MergeError::Nothing);
    }
}
