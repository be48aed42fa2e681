// SPDX-License-Identifier: MIT OR Apache-2.0
//! Series made of others: on top of one another, without a patch, with one more.

use super::super::digest::KeyHasher;
use super::super::patch::Patch;
use super::Series;

impl Series {
    /// This series on top of `below`, as one. The whole is called as the lower one and has its symbol, if it has one:
    /// what the upper one adds is built with it.
    #[must_use]
    pub fn on(&self, below: &Series) -> Series {
        let mut hasher = KeyHasher::new("on");
        hasher.part("below", below.hash.as_str());
        hasher.part("above", self.hash.as_str());
        let patches = below.patches.iter().chain(&self.patches).cloned().collect();
        let named = if below.config.is_some() { below } else { self };
        Series { patches, hash: hasher.finish(), base_commit: None, ..named.clone() }
    }

    /// The series without its patch at `index`, from 0.
    #[must_use]
    pub fn without(&self, index: usize) -> Series {
        let mut hasher = KeyHasher::new("without");
        hasher.part("series", self.hash.as_str());
        hasher.part("index", index.to_string());
        let mut patches = self.patches.clone();
        if index < patches.len() {
            patches.remove(index);
        }
        Series { patches, hash: hasher.finish(), ..self.clone() }
    }

    /// The series and one more patch on top.
    #[must_use]
    pub fn and(&self, patch: Patch) -> Series {
        let mut hasher = KeyHasher::new("and");
        hasher.part("series", self.hash.as_str());
        hasher.part("name", &patch.name);
        hasher.part("patch", &patch.text);
        let mut patches = self.patches.clone();
        patches.push(patch);
        Series { patches, hash: hasher.finish(), ..self.clone() }
    }

    /// A series of patches that nobody wrote as one. It has no symbol.
    #[must_use]
    pub fn of(name: &str, patches: Vec<Patch>) -> Series {
        let mut hasher = KeyHasher::new("of");
        for patch in &patches {
            hasher.part("name", &patch.name);
            hasher.part("patch", &patch.text);
        }
        Series {
            name: name.to_owned(),
            patches,
            hash: hasher.finish(),
            ..Series::empty(std::path::Path::new(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(names: &[&str]) -> Series {
        let patch = |name: &&str| {
            let text = format!("--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-a\n+b\n");
            Patch::parse(name, text.as_bytes()).unwrap()
        };
        Series::of("x", names.iter().map(patch).collect())
    }

    fn names(series: &Series) -> Vec<&str> {
        series.patches.iter().map(|patch| patch.name.as_str()).collect()
    }

    #[test]
    fn a_series_on_another_has_all_patches_in_order_and_the_symbol_of_the_lower_one() {
        let (above, below) = (series(&["c", "d"]), series(&["a", "b"]));
        let below = Series { config: Some("A".to_owned()), name: "below".to_owned(), ..below };
        let whole = above.on(&below);
        assert_eq!(names(&whole), ["a", "b", "c", "d"]);
        assert_eq!((whole.name.as_str(), whole.config.as_deref()), ("below", Some("A")));
        let whole = below.on(&above);
        assert_eq!(whole.config.as_deref(), Some("A"));
        assert_ne!(whole.hash, above.on(&below).hash);
    }

    #[test]
    fn one_patch_less_and_one_more() {
        let whole = series(&["a", "b", "c"]);
        assert_eq!(names(&whole.without(1)), ["a", "c"]);
        assert_eq!(names(&whole.without(3)), ["a", "b", "c"]);
        assert_ne!(whole.without(1).hash, whole.without(2).hash);
        let more = whole.and(series(&["d"]).patches.remove(0));
        assert_eq!(names(&more), ["a", "b", "c", "d"]);
        assert_ne!(more.hash, whole.hash);
    }
}
