// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the mails of a box to the patches of one series, in order.
//!
//! Nothing is left out without a note, and nothing is guessed: patches that are missing, two series in
//! one box, two patches with one number are errors that name the messages.

use std::collections::{BTreeMap, BTreeSet};

use super::super::patch::Patch;
use super::error::{Place, SeriesError};
use super::mail::Mail;
use super::note::SeriesNote;
use super::tag::missing;

/// The series of a box.
#[derive(Debug)]
pub struct Thread {
    /// Its cover letter.
    pub cover: Option<Mail>,
    /// In their order; the number is of the subject, or else counted.
    pub patches: Vec<(u32, Mail)>,
    /// Of the series.
    pub version: u32,
    /// What was left out, and why.
    pub notes: Vec<SeriesNote>,
}

/// One version of a series: its cover letter and patches.
#[derive(Default)]
struct Posted {
    cover: Option<Mail>,
    patches: Vec<Mail>,
}

impl Posted {
    fn mails(&self) -> impl Iterator<Item = &Mail> {
        self.cover.iter().chain(&self.patches)
    }

    fn words(&self, version: u32, total: Option<u32>) -> String {
        let first = self.mails().next().map(|mail| mail.place.to_string()).unwrap_or_default();
        match total {
            Some(total) => format!("v{version} of {total} patches, at {first}"),
            None => format!("v{version}, {} patches without a number, at {first}", self.patches.len()),
        }
    }

    /// Whether both have a title in common, or this one answers to the other.
    fn follows(&self, older: &Posted) -> bool {
        let titles: BTreeSet<&str> = older.mails().map(|mail| mail.tag.title.as_str()).collect();
        let ids: BTreeSet<&str> = older.mails().map(|mail| mail.place.id.as_str()).collect();
        self.mails().any(|mail| {
            titles.contains(mail.tag.title.as_str())
                || mail.references.iter().any(|id| !id.is_empty() && ids.contains(id.as_str()))
        })
    }
}

/// Picks the newest version of the one series that is there.
///
/// # Errors
/// As [`SeriesError`].
pub fn select(place: &Place, mails: Vec<Mail>) -> Result<Thread, SeriesError> {
    let messages = mails.len();
    let mut notes = Vec::new();
    let mut posted: BTreeMap<(u32, Option<u32>), Posted> = BTreeMap::new();
    for mail in mails {
        let key = (mail.tag.version, mail.tag.counter.map(|(_, total)| total));
        let has_diff = mail.has_diff();
        if mail.tag.reply {
            notes.push(SeriesNote::Reply { message: mail.place, has_diff });
        } else if mail.tag.counter.is_some_and(|(number, _)| number == 0) {
            // A cover letter that was sent twice says the same.
            posted.entry(key).or_default().cover.get_or_insert(mail);
        } else if has_diff {
            posted.entry(key).or_default().patches.push(mail);
        } else {
            notes.push(SeriesNote::NoDiff { message: mail.place });
        }
    }
    if posted.values().all(|posted| posted.patches.is_empty()) {
        return Err(SeriesError::NoPatchMails { place: place.clone(), messages });
    }
    // Cover letters alone are no version, unless they are all that there is of the newest: that one is missing.
    let newest = posted.keys().map(|(version, _)| *version).max().unwrap_or(1);
    let ambiguous = |posted: &BTreeMap<(u32, Option<u32>), Posted>| SeriesError::Ambiguous {
        place: place.clone(),
        found: posted.iter().map(|((version, total), posted)| posted.words(*version, *total)).collect(),
    };
    let keys: Vec<(u32, Option<u32>)> =
        posted.keys().filter(|(version, _)| *version == newest).copied().collect();
    let [key] = keys[..] else { return Err(ambiguous(&posted)) };
    let mut older: Vec<u32> = posted.keys().map(|(version, _)| *version).collect();
    older.dedup();
    older.retain(|version| *version != newest);
    if let Some(taken) = posted.get(&key)
        && !posted.iter().filter(|(other, _)| **other != key).all(|(_, older)| taken.follows(older))
    {
        return Err(ambiguous(&posted));
    }
    let taken = posted.remove(&key).unwrap_or_default();
    if !older.is_empty() {
        notes.push(SeriesNote::Version { taken: newest, older });
    }
    let patches = match key.1 {
        Some(total) => numbered(place, newest, total, taken.patches, &mut notes)?,
        None => (1..).zip(taken.patches).collect(),
    };
    Ok(Thread { cover: taken.cover, patches, version: newest, notes })
}

/// In the order of the numbers, each there once.
fn numbered(
    place: &Place,
    version: u32,
    total: u32,
    mails: Vec<Mail>,
    notes: &mut Vec<SeriesNote>,
) -> Result<Vec<(u32, Mail)>, SeriesError> {
    let mut found: BTreeMap<u32, Mail> = BTreeMap::new();
    for mail in mails {
        let number = mail.tag.counter.map_or(0, |(number, _)| number);
        if number > total {
            let (place, message) = (place.clone(), Box::new(mail.place));
            return Err(SeriesError::Counter { place, message, number, total });
        }
        match found.get(&number) {
            None => {
                found.insert(number, mail);
            }
            Some(first) if same_diff(first, &mail) => {
                notes.push(SeriesNote::Twice { message: mail.place, number });
            }
            Some(first) => {
                return Err(SeriesError::Duplicate {
                    place: place.clone(),
                    number,
                    total,
                    first: Box::new(first.place.clone()),
                    second: Box::new(mail.place),
                });
            }
        }
    }
    let there: Vec<u32> = found.keys().copied().collect();
    if let Some(missing) = missing(&there, total) {
        return Err(SeriesError::Missing { place: place.clone(), missing, total, version });
    }
    Ok(found.into_iter().collect())
}

/// Whether both change the same; words may differ.
fn same_diff(a: &Mail, b: &Mail) -> bool {
    match (Patch::parse("", &a.text), Patch::parse("", &b.text)) {
        (Ok(a), Ok(b)) => a.files == b.files,
        _ => false,
    }
}
