// SPDX-License-Identifier: MIT OR Apache-2.0
//! However a series comes, it leaves the same files: our own series, encoded in every way that mail has.

mod folder;
mod git;
mod hostile;
mod mailbox;
mod odd;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::digest::Hash;
use super::super::patch::{new_lines, old_lines};
use super::{Series, SeriesError, box_series};

/// The series that this project is about.
fn ours() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../patches/auditnsid/6.12")
}

/// Its mails as git wrote them, the cover letter first: header and body.
fn mails() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(ours()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "patch"));
    files.sort();
    let split = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        let (_, text) = text.split_once('\n').unwrap();
        let (header, body) = text.split_once("\n\n").unwrap();
        (format!("{header}\n"), body.to_owned())
    };
    files.iter().map(split).collect()
}

const FROM_LINE: &str = "From mboxrd@z Thu Jan  1 00:00:00 1970\n";

/// A box of messages, with the quoting of mboxrd.
fn mbox(messages: impl IntoIterator<Item = (String, String)>) -> String {
    let mut text = String::new();
    for (header, body) in messages {
        text.push_str(FROM_LINE);
        text.push_str(&header);
        text.push('\n');
        for line in body.split_inclusive('\n') {
            if line.trim_start_matches('>').starts_with("From ") {
                text.push('>');
            }
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

fn read(bytes: impl AsRef<[u8]>) -> Result<Series, SeriesError> {
    box_series::read(Path::new("x.mbox"), bytes.as_ref())
}

fn read_error(bytes: impl AsRef<[u8]>) -> String {
    read(bytes).unwrap_err().to_string()
}

/// What a series leaves of a tree that it applies to: the digest of all files.
fn digest(series: &Series) -> Hash {
    let tree = tree_for(&Series::read(&ours()).unwrap());
    series.apply(tree.path(), &mut |_| ()).unwrap_or_else(|error| panic!("{error}")).0.hash()
}

/// A tree that a series applies to: its own lines, where they must stand, among others. It is got by undoing the
/// patches from the last to the first on files of which nothing is known yet.
fn tree_for(series: &Series) -> tempfile::TempDir {
    let mut files: BTreeMap<&Path, Vec<Option<Vec<u8>>>> = BTreeMap::new();
    for change in series.patches.iter().rev().flat_map(|patch| patch.files.iter().rev()) {
        let lines = files.entry(change.path()).or_default();
        for hunk in change.hunks.iter().rev() {
            let (old, new) = (old_lines(&hunk.lines), new_lines(&hunk.lines).count());
            let at = hunk.new_start.saturating_sub(1);
            if lines.len() < at + new {
                lines.resize(at + new, None);
            }
            lines.splice(at..at + new, old.map(|line| Some(line.to_vec())));
        }
        if change.old.is_none() {
            files.remove(change.path());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for (path, lines) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let filler = |i: usize| format!("filler {i}\n").into_bytes();
        let lines = lines.into_iter().enumerate().map(|(i, line)| line.unwrap_or_else(|| filler(i)));
        std::fs::write(path, lines.collect::<Vec<_>>().concat()).unwrap();
    }
    dir
}

fn quoted_printable(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let content = line.trim_end_matches('\n');
        let mut width = 0;
        for (i, byte) in content.bytes().enumerate() {
            let last = i + 1 == content.len();
            let plain = matches!(byte, b'!'..=b'~') && byte != b'=' || byte == b' ' && !last;
            let piece = if plain { char::from(byte).to_string() } else { format!("={byte:02X}") };
            if width + piece.len() > 72 {
                out.push_str("=\n");
                width = 0;
            }
            width += piece.len();
            out.push_str(&piece);
        }
        out.push_str(&line[content.len()..]);
    }
    out
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for (i, chunk) in bytes.chunks(3).enumerate() {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = word >> (18 - 6 * digit) & 63;
            let char = if digit > chunk.len() { '=' } else { char::from(DIGITS[value as usize]) };
            out.push(char);
        }
        if i % 18 == 17 {
            out.push('\n');
        }
    }
    out.push('\n');
    out
}

fn mime(header: &str, content_type: &str, encoding: &str) -> String {
    format!(
        "{header}MIME-Version: 1.0\nContent-Type: {content_type}\nContent-Transfer-Encoding: {encoding}\n"
    )
}
