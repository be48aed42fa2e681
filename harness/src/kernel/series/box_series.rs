// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mailbox as a series; also a single .patch file, which is a box of one message.

use std::path::Path;

use super::super::digest::KeyHasher;
use super::super::patch::Patch;
use super::error::{MailError, Place, SeriesError};
use super::mail::Mail;
use super::thread::{Thread, select};
use super::{Series, mbox};

/// Reads the bytes of a box.
pub fn read(path: &Path, bytes: &[u8]) -> Result<Series, SeriesError> {
    let place = Place::of(path);
    // gzip, xz, zstd: public-inbox gives out t.mbox.gz.
    if [&b"\x1f\x8b"[..], b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"].iter().any(|magic| bytes.starts_with(magic)) {
        return Err(SeriesError::Compressed { place });
    }
    let mut mails = Vec::new();
    for raw in mbox::split(bytes) {
        mails.push(Mail::read(&raw).map_err(|(message, source)| SeriesError::Mail {
            place: place.clone(),
            message: Box::new(message),
            source,
        })?);
    }
    let Thread { cover, patches, version, notes } = select(&place, mails)?;
    let mut series = Series::empty(path);
    series.version = version;
    series.notes = notes;
    if let Some(cover) = &cover {
        series.take_cover(cover);
    }
    let mut hasher = KeyHasher::new("series");
    for (number, mail) in patches {
        let name = file_name(number, &mail.tag.title);
        hasher.part("name", &name);
        hasher.part("bytes", &mail.text);
        let mut patch = Patch::parse(&name, &mail.text).map_err(|error| SeriesError::Mail {
            place: place.clone(),
            message: Box::new(mail.place.clone()),
            source: MailError::Patch(Box::new(error)),
        })?;
        if !mail.tag.title.is_empty() {
            patch.subject.clone_from(&mail.tag.title);
        }
        (patch.author, patch.message) = (mail.author.clone(), mail.message.clone());
        series.trailers(&mail);
        series.patches.push(patch);
    }
    series.hash = hasher.finish();
    series.note_symbols();
    Ok(series)
}

/// As git format-patch calls it: `0004-audit-log-the-release.patch`.
fn file_name(number: u32, title: &str) -> String {
    let mut slug = String::new();
    for c in title.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' || c == '_' { c } else { '-' }) {
        if c != '-' || !(slug.is_empty() || slug.ends_with('-')) {
            slug.push(c);
        }
        // git's FORMAT_PATCH_NAME_MAX is 64 with number and suffix.
        if slug.len() == 52 {
            break;
        }
    }
    let slug = slug.trim_end_matches(['-', '.']);
    format!("{number:04}-{}.patch", if slug.is_empty() { "untitled" } else { slug })
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn a_mail_is_named_as_git_would_name_its_file() {
        let title = "audit, netfilter: name the network namespace of a logged packet";
        assert_eq!(file_name(7, title), "0007-audit-netfilter-name-the-network-namespace-of-a-logg.patch");
        assert_eq!(file_name(1, "../../x"), "0001-..-..-x.patch");
        assert_eq!(file_name(1, ""), "0001-untitled.patch");
    }
}
