// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our series by mail: every encoding gives the same files.

use super::*;

/// Reads a box and checks that it is our series, whole.
fn same(text: impl AsRef<[u8]>) -> Series {
    let series = read(text).unwrap_or_else(|error| panic!("{error}"));
    let folder = Series::read(&ours()).unwrap();
    assert_eq!(digest(&series), digest(&folder));
    let words = |series: &Series| -> Vec<(String, String)> {
        series.patches.iter().map(|patch| (patch.subject.clone(), patch.author.clone())).collect()
    };
    assert_eq!(words(&series), words(&folder));
    assert_eq!(series.title, folder.title);
    series
}

#[test]
fn a_plain_box_is_the_folder() {
    let series = same(mbox(mails()));
    let folder = Series::read(&ours()).unwrap();
    let names =
        |series: &Series| -> Vec<String> { series.patches.iter().map(|patch| patch.name.clone()).collect() };
    assert_eq!(names(&series), names(&folder));
    let messages =
        |series: &Series| -> Vec<String> { series.patches.iter().map(|p| p.message.clone()).collect() };
    assert_eq!(messages(&series), messages(&folder));
    assert!(series.patches[0].message.starts_with("The audit log cannot say which container"));
}

#[test]
fn quoted_printable_and_base64_bodies_are_decoded() {
    let qp = |(header, body): (String, String)| {
        (mime(&header, "text/plain; charset=\"UTF-8\"", "quoted-printable"), quoted_printable(&body))
    };
    same(mbox(mails().into_iter().map(qp)));
    let plain_base64 = |(header, body): (String, String)| {
        (mime(&header, "text/plain; charset=utf-8", "base64"), base64(body.as_bytes()))
    };
    same(mbox(mails().into_iter().map(plain_base64)));
    // As MIME wants it, with CRLF inside.
    let crlf_base64 = |(header, body): (String, String)| {
        (mime(&header, "text/plain; charset=utf-8", "BASE64"), base64(body.replace('\n', "\r\n").as_bytes()))
    };
    same(mbox(mails().into_iter().map(crlf_base64)));
}

#[test]
fn order_in_the_box_does_not_matter() {
    let mut shuffled = mails();
    shuffled.reverse();
    shuffled.swap(1, 6);
    same(mbox(shuffled.clone()));
    shuffled.rotate_left(4);
    same(mbox(shuffled));
}

#[test]
fn line_ends_of_the_transport_do_not_matter() {
    same(mbox(mails()).replace('\n', "\r\n"));
    let qp = |(header, body): (String, String)| {
        (mime(&header, "text/plain", "quoted-printable"), quoted_printable(&body))
    };
    same(mbox(mails().into_iter().map(qp)).replace('\n', "\r\n"));
}

#[test]
fn replies_and_other_mail_between_the_patches_are_reported_and_not_used() {
    let mut box_ = mails();
    let reply = |subject: &str, body: &str| {
        (
            format!("From: R <r@localhost>\nSubject: {subject}\nMessage-ID: <{}@x>\n", subject.len()),
            body.to_owned(),
        )
    };
    box_.insert(3, reply("Re: [PATCH 2/9] audit: number", "> diff --git a/x b/x\n\nLooks good.\n"));
    box_.insert(0, reply("Announcement", "nothing here\n"));
    let spare = "Rather:\n\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n";
    box_.push(reply("Re: [PATCH 4/9] audit: log the release", spare));
    let series = same(mbox(box_));
    let notes: Vec<String> = series.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes[0], "message 1 (line 1, \"Announcement\", <12@x>) has no diff, not used");
    assert!(
        notes[1].starts_with("message 5 (line ") && notes[1].ends_with("is a reply, not used"),
        "{}",
        notes[1]
    );
    assert!(notes[2].ends_with("<38@x>) is a reply with a diff in it, not used"), "{}", notes[2]);
}

#[test]
fn lines_that_begin_with_from_are_unquoted_in_both_kinds_of_box() {
    let with_from =
        |(header, body): (String, String)| (header, format!("From here on, ids are counted.\n{body}"));
    let series = same(mbox(mails().into_iter().map(with_from)));
    assert!(series.patches[0].message.starts_with("From here on, ids are counted.\n"));
}

#[test]
fn what_b4_writes_is_read() {
    // b4 am -o -: no cover letter in it, subjects made anew, trailers collected, Latin names encoded.
    let b4 = |(header, body): (String, String)| {
        let subject = header.split_once("Subject: [PATCH ").unwrap().1.replace('\n', "");
        let body = body.replacen("\n---\n", "\nReviewed-by: =?x <r@localhost>\n---\n", 1);
        let author = "=?utf-8?q?nstrail?= developers <nstrail@localhost>";
        let header = format!(
            "From: {author}\nDate: Tue, 24 Nov 2026 09:01:00 +0000\nSubject: [PATCH RFC\n v3 {subject}\n\
             Message-Id: <20261124-{}@localhost>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=\"utf-8\"\n\
             Content-Transfer-Encoding: 8bit\n",
            body.len()
        );
        (header, body)
    };
    let text = mbox(mails().into_iter().map(b4)).replace(FROM_LINE, "From git@z Thu Jan  1 00:00:00 1970\n");
    let series = same(text);
    assert_eq!(series.version, 3);
    assert!(
        series.patches[8].message.ends_with("Reviewed-by: =?x <r@localhost>"),
        "{}",
        series.patches[8].message
    );
}

#[test]
fn the_newest_of_two_versions_is_taken_and_that_is_said() {
    let older = mails().into_iter().map(|(header, body)| (header, body.replace("\n+", "\n+ ")));
    let newer = mails().into_iter().map(|(header, body)| (header.replace("[PATCH ", "[PATCH v2 "), body));
    let series = same(mbox(newer.chain(older)));
    assert!(
        series.notes.iter().any(|note| note.to_string() == "v2 is the newest version there, v1 is not used")
    );
}

#[test]
fn missing_patches_are_named() {
    let mut some = mails();
    some.remove(4);
    some.remove(7);
    let error = read_error(mbox(some));
    assert_eq!(
        error,
        "x.mbox: missing of 9 patches: 4, 8 (hint: complete it, for example with b4 am -o - MESSAGE-ID)"
    );
}

#[test]
fn the_same_patch_twice_is_reported_and_another_one_is_an_error() {
    let mut twice = mails();
    twice.push(twice[4].clone());
    let series = same(mbox(twice.clone()));
    assert!(
        series
            .notes
            .iter()
            .any(|note| note.to_string().ends_with("is patch 4 once more, with the same diff"))
    );
    twice.last_mut().unwrap().1 = twice[5].1.clone();
    let error = read_error(mbox(twice));
    assert!(error.starts_with("x.mbox: two different patches are 4/9: message 5 (line "), "{error}");
    assert!(error.contains(") and message 11 (line ") && error.contains("(hint: "), "{error}");
}

#[test]
fn two_series_in_one_box_are_ambiguous_and_both_are_named() {
    let other = |n: u32, of: u32, v: &str| {
        let body = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n".to_owned();
        (format!("From: O <o@localhost>\nSubject: [PATCH{v} {n}/{of}] other\n"), body)
    };
    for strange in [vec![other(1, 2, ""), other(2, 2, "")], vec![other(1, 1, " v2")]] {
        let error = read_error(mbox(mails().into_iter().chain(strange)));
        assert!(error.starts_with("x.mbox holds more than one series:\n"), "{error}");
        assert!(
            error.contains("\n    v1 of 9 patches, at message 1 (line 1, ") && error.contains("(hint: "),
            "{error}"
        );
    }
}

#[test]
fn attachments_and_signed_mails_are_taken_apart() {
    let attached = |(header, body): (String, String)| {
        let at = body.find("\ndiff --git").map_or(body.len(), |at| at + 1);
        let (words, diff) = body.split_at(at);
        let body = format!(
            "This is a multi-part message in MIME format.\n--=_b\nContent-Type: text/plain; charset=UTF-8\n\n{words}\n\
             --=_b\nContent-Type: text/x-patch; name=\"x.patch\"\nContent-Transfer-Encoding: base64\n\
             Content-Disposition: attachment; filename=\"x.patch\"\n\n{}\n--=_b\n\
             Content-Type: application/pgp-signature; name=\"signature.asc\"\n\n-----BEGIN PGP SIGNATURE-----\n\n--=_b--\n",
            base64(diff.as_bytes())
        );
        (mime(&header, "multipart/mixed; boundary=\"=_b\"", "8bit"), body)
    };
    same(mbox(mails().into_iter().map(attached)));
}

#[test]
fn flowed_text_is_put_together_again() {
    // As a mail program with format=flowed writes it: lines that begin with a space get another one.
    let flowed = |(header, body): (String, String)| {
        let stuff = |line: &str| match line.starts_with([' ', '>']) || line.starts_with("From ") {
            true => format!(" {line}"),
            false => line.to_owned(),
        };
        let body: String = body.split_inclusive('\n').map(stuff).collect();
        (mime(&header, "text/plain; charset=UTF-8; format=flowed", "7bit"), body)
    };
    // An empty line of context is a soft break there: what is damaged is refused, never applied.
    let text = mbox(mails().into_iter().map(flowed));
    let error = read_error(&text);
    assert!(error.starts_with("x.mbox: message 2 (line ") && error.contains("belongs to no hunk"), "{error}");
    let bare = |(header, body): (String, String)| -> (String, String) {
        (header, body.lines().map(|l| if l == " " { "\n".into() } else { format!("{l}\n") }).collect())
    };
    same(mbox(mails().into_iter().map(bare).map(flowed)));
}
