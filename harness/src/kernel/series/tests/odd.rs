// SPDX-License-Identifier: MIT OR Apache-2.0
//! Single patches, charsets, damage; and arbitrary bytes, which are an error at worst.

use proptest::prelude::*;

use super::super::mail::Mail;
use super::super::mbox::split;
use super::super::tag::Tag;
use super::super::{Picks, quilt};
use super::*;

const DIFF: &str = "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n";

#[test]
fn one_patch_file_is_a_series_of_one() {
    for text in [DIFF.to_owned(), format!("Subject: [PATCH] x: y\n\nwhy\n---\n{DIFF}")] {
        let series = read(&text).unwrap();
        assert_eq!(series.patches.len(), 1);
        assert_eq!(series.name, "x");
    }
    let series =
        read(format!("From: A B <a@b>\nSubject: [PATCH] x: y\n\nFrom: C D <c@d>\n\nwhy\n---\n{DIFF}"))
            .unwrap();
    let patch = &series.patches[0];
    assert_eq!((patch.author.as_str(), patch.message.as_str()), ("C D <c@d>", "why"));
    assert_eq!((patch.name.as_str(), patch.subject.as_str()), ("0001-x-y.patch", "x: y"));
}

#[test]
fn encoded_headers_are_decoded_and_folded_ones_unfolded() {
    let text = format!(
        "From: =?iso-8859-1?Q?J=F6rg?= =?utf-8?b?w4Q=?= <j@x>\nSubject: [PATCH] =?utf-8?q?gr=C3=BC=C3=9F?=\n \
         =?utf-8?q?e?= you\n\n{DIFF}"
    );
    let series = read(text).unwrap();
    assert_eq!(series.patches[0].subject, "grüße you");
    assert_eq!(series.patches[0].author, "JörgÄ <j@x>");
}

#[test]
fn another_charset_is_recoded_and_that_is_said() {
    let mail = |charset: &str, byte: &[u8]| {
        let header = format!("Subject: [PATCH] x\nContent-Type: text/plain; charset={charset}\n");
        [
            header.as_bytes(),
            b"Content-Transfer-Encoding: 8bit\n\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+",
            byte,
            b"\n",
        ]
        .concat()
    };
    let added =
        |series: &Series| new_lines(&series.patches[0].files[0].hunks[0].lines).next().unwrap().to_vec();
    let series = read(mail("iso-8859-1", b"\xe4")).unwrap();
    assert_eq!(added(&series), "ä\n".as_bytes());
    assert_eq!(
        series.notes[0].to_string(),
        "message 1 (line 1, \"x\") was recoded from iso-8859-1 to UTF-8".replace("\"x\"", "\"[PATCH] x\"")
    );
    // A file of the kernel need not be UTF-8, whatever the mail says.
    let series = read(mail("utf-8", b"\xe4")).unwrap();
    assert_eq!((added(&series), series.notes.len()), (b"\xe4\n".to_vec(), 0));
}

#[test]
fn what_cannot_be_read_says_where_and_what_to_do() {
    let header = "Subject: [PATCH 1/1] x\nMessage-ID: <1@x>\n";
    let place = "x.mbox: message 1 (line 1, \"[PATCH 1/1] x\", <1@x>): ";
    for (text, expected) in [
        (format!("{header}Content-Transfer-Encoding: base64\n\n%%%\n"), "its base64 body is damaged (hint: "),
        (
            format!("{header}Content-Transfer-Encoding: quoted-printable\n\n=ZZ\n"),
            "its quoted-printable body is damaged",
        ),
        (
            format!("{header}\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\nrest\n"),
            "0001-x.patch:8: a line that belongs to no hunk",
        ),
        (
            format!("{header}\n--- a/f\n+++ b/../f\n@@ -1 +1 @@\n"),
            "0001-x.patch:5: the path `../f` leaves the source tree",
        ),
        (format!("{}\n{DIFF}", header.replace("1/1", "7/1")), "number 7 of 1 cannot be"),
    ] {
        let error = read_error(text);
        let place =
            if expected.starts_with("number 7") { place.replace("1/1", "7/1") } else { place.to_owned() };
        assert!(error.starts_with(&(place + expected)), "{error}");
    }
    assert!(read_error("").starts_with("x.mbox: no patch in it, of 0 messages (hint: "));
    assert!(read_error("some text\n").contains("of 1 messages"));
    assert!(read_error(b"\x1f\x8b\x08rest").contains("x.mbox is compressed (hint: zcat"));
}

#[test]
fn base_and_prerequisites_are_recorded() {
    let series = read(format!(
        "Subject: [PATCH] x\n\n{DIFF}-- \n2.47\n\nbase-commit: 0123456789ABCDEF0123456789abcdef01234567\n\
         prerequisite-patch-id: aa\nprerequisite-patch-id: bb\n"
    ))
    .unwrap();
    assert_eq!(series.base_commit.as_deref(), Some("0123456789abcdef0123456789abcdef01234567"));
    assert_eq!(series.notes[0].to_string(), "the series names 2 prerequisite patches, which are not applied");
}

/// A small box with everything in it.
fn valid() -> Vec<u8> {
    let header =
        |n: u32| format!("From: =?utf-8?q?=C3=A4?= <a@b>\nSubject: =?utf-8?q?[PATCH_v2_{n}/3]?= x\n y\n");
    mbox([
        (header(0), "cover\n\nbase-commit: 0123456789abcdef\n".to_owned()),
        (mime(&header(1), "text/plain; charset=iso-8859-1", "quoted-printable"), quoted_printable(DIFF)),
        (mime(&header(2), "text/plain; charset=utf-8; format=flowed", "base64"), base64(DIFF.as_bytes())),
        (
            mime(&header(3), "multipart/mixed; boundary=b", "8bit"),
            format!("--b\nContent-Type: text/plain\n\nwords\n---\n--b\nContent-Type: text/x-diff\n\n{DIFF}\n--b--\n"),
        ),
        ("Subject: Re: x\n".to_owned(), ">From me\n".to_owned()),
    ])
    .into_bytes()
}

#[test]
fn the_box_that_is_mutated_below_is_valid() {
    assert_eq!(read(valid()).unwrap().patches.len(), 3);
}

proptest! {
    #[test]
    fn the_box_reader_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(&bytes);
        let _ = split(&bytes).iter().map(Mail::read).collect::<Vec<_>>();
    }

    #[test]
    fn a_mutated_box_is_an_error_at_worst(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..12),
    ) {
        let mut bytes = valid();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.drain(at..(at + usize::from(byte)).min(bytes.len()))),
                _ => bytes.extend_from_within(at..(at + usize::from(byte)).min(bytes.len())),
            }
            if bytes.is_empty() {
                bytes.push(byte);
            }
        }
        if let Ok(series) = read(&bytes) {
            prop_assert!(!series.patches.is_empty());
        }
    }

    #[test]
    fn subjects_lists_and_quilt_files_never_panic(text in "(\\PC|[\\[\\]/:vP0-9, \n-]){0,60}") {
        let _ = (Tag::parse(&text), Picks::parse(&text).is_ok(), quilt::parse(Path::new("series"), &text).is_ok());
    }
}
