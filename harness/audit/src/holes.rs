// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ids that were jumped over, as ranges: what a loss or a broken kernel makes large costs nothing.

use std::collections::BTreeMap;

/// The ids up to the highest that have no definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holes {
    highest: u64,
    /// First and last of each range.
    ranges: BTreeMap<u64, u64>,
}

impl Holes {
    /// The highest id that was taken.
    #[must_use]
    pub const fn highest(&self) -> u64 {
        self.highest
    }

    /// Takes the id of a definition. False if it was taken before.
    pub fn take(&mut self, id: u64) -> bool {
        if id > self.highest {
            if id > self.highest + 1 {
                self.ranges.insert(self.highest + 1, id - 1);
            }
            self.highest = id;
            return true;
        }
        let Some((&from, &to)) = self.ranges.range(..=id).next_back() else { return false };
        if to < id {
            return false;
        }
        self.ranges.remove(&from);
        if from < id {
            self.ranges.insert(from, id - 1);
        }
        if id < to {
            self.ranges.insert(id + 1, to);
        }
        true
    }

    /// Whether an id was jumped over.
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.ranges.range(..=id).next_back().is_some_and(|(_, to)| *to >= id)
    }

    /// First and last id of each range, the lowest first.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(from, to)| (*from, *to))
    }

    /// How many ids were jumped over.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.ranges().map(|(from, to)| to - from + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_say_what_a_plain_set_says(ids in proptest::collection::vec(1_u64..60, 0..60)) {
            let mut holes = Holes::default();
            let mut taken = BTreeSet::new();
            for id in ids {
                prop_assert_eq!(holes.take(id), taken.insert(id));
                let highest = taken.last().copied().unwrap_or(0);
                for id in 1..70 {
                    prop_assert_eq!(holes.contains(id), id < highest && !taken.contains(&id));
                }
                prop_assert_eq!(holes.count(), highest - taken.len() as u64);
            }
        }
    }
}
