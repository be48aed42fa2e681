// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long things took the last time, so that the longest can go first.

use std::collections::BTreeMap;

use crate::kernel::{Store, read_json, write_json};

const FILE: &str = "times.json";

/// Seconds by what took them.
#[derive(Debug, Default)]
pub struct Times {
    known: BTreeMap<String, f64>,
    new: BTreeMap<String, f64>,
}

impl Times {
    /// Those of the cache.
    pub fn load(store: &Store) -> Self {
        Self { known: read_json(&store.root().join(FILE)).unwrap_or_default(), new: BTreeMap::new() }
    }

    /// What to expect; `guess` if it was never seen.
    pub fn expected(&self, what: &str, guess: f64) -> f64 {
        self.known.get(what).copied().unwrap_or(guess)
    }

    /// It took so long this time.
    pub fn note(&mut self, what: &str, seconds: f64) {
        self.new.insert(what.to_owned(), seconds);
    }

    /// Puts them into the cache. They are a hint: what cannot be written is forgotten, and of two at once the
    /// later one stays.
    pub fn save(self, store: &Store) {
        let path = store.root().join(FILE);
        let mut all: BTreeMap<String, f64> = read_json(&path).unwrap_or_default();
        all.extend(self.new);
        let _ = write_json(&path, &all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_remembered_and_those_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut first = Times::load(&store);
        let mut second = Times::load(&store);
        assert_eq!((first.expected("a", 7.0), first.expected("b", 8.0)), (7.0, 8.0));
        first.note("a", 1.0);
        second.note("b", 2.0);
        first.save(&store);
        second.save(&store);
        let third = Times::load(&store);
        assert_eq!((third.expected("a", 7.0), third.expected("b", 7.0)), (1.0, 2.0));
    }
}
