// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which scenario has killed which mutant how often, under which perturbation: in the cache, for the order of the next run and for how
//! sure a verdict is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kernel::{Store, read_json, write_json};
use crate::vm::Perturbation;

const FILE: &str = "kills.json";

/// How often something ran, and how often it killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    pub runs: u32,
    pub kills: u32,
}

impl Rate {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.kills += other.kills;
    }
}

/// See the module. Keys are mutant, scenario and perturbation.
#[derive(Debug, Default)]
pub(super) struct History {
    known: BTreeMap<String, Rate>,
    new: BTreeMap<String, Rate>,
}

fn key(mutant: &str, scenario: &str, perturbation: Perturbation) -> String {
    format!("{mutant} {scenario} {perturbation}")
}

impl History {
    /// That of the cache. A kernel version has one of its own.
    pub fn load(store: &Store, version: &str) -> Self {
        let mut all: BTreeMap<String, BTreeMap<String, Rate>> =
            read_json(&store.root().join(FILE)).unwrap_or_default();
        Self { known: all.remove(version).unwrap_or_default(), new: BTreeMap::new() }
    }

    /// A run, and whether it killed.
    pub fn note(&mut self, mutant: &str, scenario: &str, perturbation: Perturbation, killed: bool) {
        let rate = self.new.entry(key(mutant, scenario, perturbation)).or_default();
        rate.add(Rate { runs: 1, kills: u32::from(killed) });
    }

    /// What a scenario is ordered by: kills of this mutant, then of all.
    pub fn rank(&self, mutant: &str, scenario: &str) -> (u32, u32) {
        let kills = |of: &dyn Fn(&str, &str) -> bool| -> u32 {
            let entries = self.known.iter().chain(&self.new);
            let matching = entries.filter(|(key, _)| {
                let mut parts = key.split(' ');
                of(parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            });
            matching.map(|(_, rate)| rate.kills).sum()
        };
        (kills(&|of, name| of == mutant && name == scenario), kills(&|_, name| name == scenario))
    }

    /// Of one mutant in one scenario under one perturbation, as long as is remembered.
    pub fn rate(&self, mutant: &str, scenario: &str, perturbation: Perturbation) -> Rate {
        let key = key(mutant, scenario, perturbation);
        let mut rate = self.known.get(&key).copied().unwrap_or_default();
        rate.add(self.new.get(&key).copied().unwrap_or_default());
        rate
    }

    /// Puts it into the cache. It is a hint: what cannot be written is forgotten, and what another run wrote in between stays.
    pub fn save(self, store: &Store, version: &str) {
        let path = store.root().join(FILE);
        let mut all: BTreeMap<String, BTreeMap<String, Rate>> = read_json(&path).unwrap_or_default();
        let ours = all.entry(version.to_owned()).or_default();
        for (key, rate) in self.new {
            ours.entry(key).or_default().add(rate);
        }
        let _ = write_json(&path, &all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_remembered_for_each_kernel_version_and_those_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let plain = Perturbation::default();
        let (mut first, mut second) = (History::load(&store, "6.12"), History::load(&store, "6.12"));
        first.note("01-a", "smoke", plain, true);
        second.note("01-a", "smoke", plain, false);
        second.note("02-b", "smoke", plain, true);
        first.save(&store, "6.12");
        second.save(&store, "6.12");
        let third = History::load(&store, "6.12");
        assert_eq!(third.rate("01-a", "smoke", plain), Rate { runs: 2, kills: 1 });
        assert_eq!(third.rank("01-a", "smoke"), (1, 2));
        assert_eq!(third.rank("02-b", "nest"), (0, 0));
        assert_eq!(History::load(&store, "5.10").rank("01-a", "smoke"), (0, 0));
    }
}
