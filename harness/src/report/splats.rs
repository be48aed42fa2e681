// SPDX-License-Identifier: MIT OR Apache-2.0
//! Splats of a whole run: each fingerprint once, with where it was seen.

use super::summary::{ConsoleSummary, KernelSummary, SplatSummary};

/// In the order in which they were first seen.
#[must_use]
pub fn collect(kernels: &[KernelSummary]) -> Vec<SplatSummary> {
    let mut all = Vec::new();
    for kernel in kernels {
        let title = kernel.title();
        for patch in &kernel.patches {
            for build in &patch.builds {
                let symbol = if build.symbol.is_empty() { "" } else { " " };
                let place = format!("{title} patch {}{symbol}{}", patch.number, build.symbol);
                build.console.iter().for_each(|splat| add(&mut all, splat, &place));
            }
        }
        for scenario in &kernel.scenarios {
            let place = format!("{title} {}/{}", scenario.name, scenario.vcpus);
            scenario.console.iter().for_each(|splat| add(&mut all, splat, &place));
        }
        for scenario in kernel.baseline.iter().flat_map(|baseline| &baseline.scenarios) {
            let place = format!("{title} without the series {}/{}", scenario.name, scenario.vcpus);
            scenario.console.iter().for_each(|splat| add(&mut all, splat, &place));
        }
    }
    all
}

fn add(all: &mut Vec<SplatSummary>, splat: &ConsoleSummary, place: &str) {
    // A summary that was written before there were fingerprints.
    if splat.fingerprint.is_empty() {
        return;
    }
    let known = all.iter_mut().find(|known| known.fingerprint == splat.fingerprint);
    match known {
        Some(known) => {
            known.times += u64::from(splat.times);
            if known.seen.last().is_none_or(|last| last != place) {
                known.seen.push(place.to_owned());
            }
            if known.not_decoded.is_some() && !splat.decoded.is_empty() {
                known.lines.clone_from(&splat.decoded);
                known.not_decoded = None;
            }
            // Entries may be of some kernels only: it is known if it is everywhere.
            if splat.counts() {
                known.known.clone_from(&splat.known);
            }
        }
        None => all.push(SplatSummary {
            fingerprint: splat.fingerprint.clone(),
            kind: splat.kind.clone(),
            frames: splat.frames.clone(),
            times: splat.times.into(),
            seen: vec![place.to_owned()],
            lines: if splat.decoded.is_empty() { splat.lines.clone() } else { splat.decoded.clone() },
            not_decoded: splat.not_decoded.clone(),
            known: splat.known.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        outcome::Outcome,
        report::summary::{BaselineScenario, BaselineSummary, KnownSummary, ScenarioSummary},
    };

    fn splat(fingerprint: &str, times: u32) -> ConsoleSummary {
        let lines = vec![format!("of {fingerprint}")];
        ConsoleSummary { fingerprint: fingerprint.to_owned(), times, lines, ..ConsoleSummary::default() }
    }

    fn kernel(version: &str, splats: Vec<ConsoleSummary>) -> KernelSummary {
        let scenario =
            ScenarioSummary { console: splats, ..ScenarioSummary::new("smoke", 1, 2, Outcome::Crashed, "") };
        KernelSummary { version: version.to_owned(), scenarios: vec![scenario], ..KernelSummary::default() }
    }

    #[test]
    fn a_splat_of_several_kernels_is_one_with_all_its_places() {
        let mut second = kernel("7.3", vec![splat("b", 1), splat("a", 3)]);
        second.baseline = Some(BaselineSummary {
            scenarios: vec![BaselineScenario {
                name: "smoke".to_owned(),
                vcpus: 1,
                outcome: Outcome::Crashed,
                reason: None,
                workload_seconds: 0.0,
                console: vec![splat("a", 1)],
            }],
            ..BaselineSummary::default()
        });
        let all = collect(&[kernel("6.12", vec![splat("a", 2)]), second]);
        let shape: Vec<_> =
            all.iter().map(|splat| (splat.fingerprint.as_str(), splat.times, splat.seen.len())).collect();
        assert_eq!(shape, [("a", 6, 3), ("b", 1, 1)]);
        assert_eq!(all[0].seen, ["6.12 smoke/2", "7.3 smoke/2", "7.3 without the series smoke/1"]);
        assert_eq!(all[0].lines, ["of a"]);
    }

    #[test]
    fn the_first_trace_that_is_decoded_is_shown() {
        let failed = ConsoleSummary { not_decoded: Some("no tree".to_owned()), ..splat("a", 1) };
        let decoded = ConsoleSummary { decoded: vec!["f+0x1/0x2 (a.c:1)".to_owned()], ..splat("a", 1) };
        let one = collect(&[kernel("6.12", vec![failed.clone()])]);
        assert_eq!((one[0].lines[0].as_str(), one[0].not_decoded.as_deref()), ("of a", Some("no tree")));
        let both = collect(&[kernel("6.12", vec![failed]), kernel("7.3", vec![decoded])]);
        assert_eq!((both[0].lines[0].as_str(), both[0].not_decoded.as_deref()), ("f+0x1/0x2 (a.c:1)", None));
    }

    #[test]
    fn a_splat_that_is_known_on_one_kernel_only_is_not_known() {
        let known = KnownSummary {
            reason: "r".to_owned(),
            link: "l".to_owned(),
            expires: "2027-01-01".to_owned(),
            expired: false,
        };
        let known = ConsoleSummary { known: Some(known), ..splat("a", 1) };
        assert!(!known.counts());
        assert!(collect(&[kernel("6.12", vec![known.clone()])])[0].known.is_some());
        let all = collect(&[kernel("6.12", vec![known]), kernel("7.3", vec![splat("a", 1)])]);
        assert_eq!(all[0].known, None);
    }
}
