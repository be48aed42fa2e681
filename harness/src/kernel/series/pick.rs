// SPDX-License-Identifier: MIT OR Apache-2.0
//! Some patches of a series, by number: `1,3-5,7-`, as `b4 am -P` takes them.

use super::super::digest::KeyHasher;
use super::Series;
use super::note::SeriesNote;

/// Numbers from 1. An open range ends with the series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picks {
    ranges: Vec<(u32, Option<u32>)>,
}

/// Why no patches are picked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickError {
    /// Not understood.
    #[error("`{0}` is no list of patches (hint: for example 1,3-5 or 7-)")]
    Malformed(String),
    /// Not in the series.
    #[error("patch {range} is not in the series, which has {}", has(*patches))]
    OutOfRange {
        /// As it was written.
        range: String,
        /// How many there are.
        patches: usize,
    },
}

fn has(patches: usize) -> String {
    if patches == 1 { "only patch 1".to_owned() } else { format!("1-{patches}") }
}

impl Picks {
    /// Reads `1,3-5,7-`.
    ///
    /// # Errors
    /// [`PickError::Malformed`].
    pub fn parse(text: &str) -> Result<Picks, PickError> {
        let malformed = || PickError::Malformed(text.to_owned());
        let number = |text: &str| match text.parse::<u32>() {
            Ok(number) if number > 0 && !text.starts_with('+') => Ok(number),
            _ => Err(malformed()),
        };
        let range = |part: &str| match part.split_once('-') {
            None => number(part).map(|number| (number, Some(number))),
            Some((first, "")) => number(first).map(|first| (first, None)),
            Some((first, last)) => match (number(first)?, number(last)?) {
                (first, last) if first <= last => Ok((first, Some(last))),
                _ => Err(malformed()),
            },
        };
        let ranges = text.split(',').map(|part| range(part.trim())).collect::<Result<_, _>>()?;
        Ok(Picks { ranges })
    }
}

impl Series {
    /// The series with those patches alone, in its own order.
    ///
    /// # Errors
    /// [`PickError::OutOfRange`], which names the range.
    pub fn pick(mut self, picks: &Picks) -> Result<Series, PickError> {
        let patches = self.patches.len();
        let last = u32::try_from(patches).unwrap_or(u32::MAX);
        for &(first, end) in &picks.ranges {
            if end.unwrap_or(first) > last {
                let range = match end {
                    Some(end) if end == first => first.to_string(),
                    Some(end) => format!("{first}-{end}"),
                    None => format!("{first}-"),
                };
                return Err(PickError::OutOfRange { range, patches });
            }
        }
        let picked = |number: u32| {
            picks.ranges.iter().any(|(first, end)| (*first..=end.unwrap_or(last)).contains(&number))
        };
        let numbers: Vec<u32> = (1..=last).filter(|number| picked(*number)).collect();
        if numbers.len() == patches {
            return Ok(self);
        }
        let mut hasher = KeyHasher::new("picked");
        hasher.part("series", self.hash.as_str());
        numbers.iter().for_each(|number| hasher.part("number", number.to_string()));
        self.hash = hasher.finish();
        self.patches = (1..).zip(self.patches).filter(|(n, _)| picked(*n)).map(|(_, patch)| patch).collect();
        self.notes.push(SeriesNote::Picked { numbers, of: patches });
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_are_understood_and_nonsense_is_not() {
        let ranges = |text: &str| Picks::parse(text).map(|picks| picks.ranges);
        assert_eq!(ranges("1,3-5, 7-").unwrap(), [(1, Some(1)), (3, Some(5)), (7, None)]);
        for text in ["", "0", "a", "5-3", "1,,2", "-3", "1-2-3", "+1", "99999999999"] {
            assert_eq!(ranges(text), Err(PickError::Malformed(text.to_owned())));
        }
    }
}
