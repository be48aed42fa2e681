// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mailbox: its messages as they came, without what the box did to them.
//!
//! `From ` lines are told from text as git mailsplit does: by the time and year at their end. `>From ` loses one
//! `>` (mboxrd; in a mboxo box that is right for all but lines that began with `>From ` before, and no line of a
//! diff does). Line ends are the transport's if every line has the same: a message in CRLF becomes LF, one in which
//! only some lines end so keeps them, since they are the patch's.

/// A message as it lies in the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// In the box, from 1.
    pub number: usize,
    /// Its first line in the box, from 1.
    pub line: usize,
    /// Header and body, without the `From ` line.
    pub bytes: Vec<u8>,
}

/// Splits a box, or takes a single message as one.
pub fn split(bytes: &[u8]) -> Vec<Raw> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
    let mut found: Vec<Raw> = Vec::new();
    let mut in_box = false;
    for (i, line) in lines {
        if is_from_line(line) {
            in_box = true;
            // The `From ` line counts as the first of its message.
            found.push(Raw { number: 0, line: i + 1, bytes: Vec::new() });
            continue;
        }
        let blank = line.iter().all(u8::is_ascii_whitespace);
        match found.last_mut() {
            None if blank => {}
            None => found.push(Raw { number: 0, line: i + 1, bytes: line.to_vec() }),
            Some(raw) => {
                let quoted = in_box && line.first() == Some(&b'>') && unquoted(line);
                raw.bytes.extend_from_slice(if quoted { &line[1..] } else { line });
            }
        }
    }
    found.retain(|raw| !raw.bytes.iter().all(u8::is_ascii_whitespace));
    for (i, raw) in found.iter_mut().enumerate() {
        raw.number = i + 1;
        to_lf(&mut raw.bytes);
    }
    found
}

/// `>From `, `>>From `, ...
fn unquoted(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|byte| **byte == b'>').count();
    line[quotes..].starts_with(b"From ")
}

/// `From NAME Thu Jan  1 00:00:00 1970`, as git's builtin/mailsplit.c:is_from_line has it.
pub(super) fn is_from_line(line: &[u8]) -> bool {
    // How the transport ends lines must not matter: git's 20 count one byte for that.
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if !line.starts_with(b"From ") || line.len() < 19 {
        return false;
    }
    let Some(colon) = line.iter().rposition(|byte| *byte == b':') else { return false };
    let digit = |at: usize| line.get(at).is_some_and(u8::is_ascii_digit);
    if colon < 5 || ![colon - 2, colon - 1, colon + 1, colon + 2].into_iter().all(digit) {
        return false;
    }
    let year = String::from_utf8_lossy(&line[colon + 3..]);
    year.split_whitespace().next().and_then(|year| year.parse::<u32>().ok()).is_some_and(|year| year > 90)
}

/// Makes LF of CRLF if every line ends so.
pub(super) fn to_lf(bytes: &mut Vec<u8>) {
    let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').peekable();
    let crlf = ends.peek().is_some() && ends.all(|(at, _)| at > 0 && bytes[at - 1] == b'\r');
    if crlf {
        let mut lf = Vec::with_capacity(bytes.len());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\r\n") {
                Some(line) => lf.extend_from_slice(&[line, b"\n"].concat()),
                None => lf.extend_from_slice(line),
            }
        }
        *bytes = lf;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> Vec<(usize, String)> {
        split(bytes).into_iter().map(|raw| (raw.line, String::from_utf8(raw.bytes).unwrap())).collect()
    }

    #[test]
    fn messages_are_split_at_from_lines_and_unquoted() {
        let bytes =
            b"\nFrom git@z Thu Jan  1 00:00:00 1970\nSubject: a\n\n>From here\n>>From there\nFrom now on\n\
From mboxrd@z Thu Jan  1 00:00:00 1970\nSubject: b\n\nx\n";
        let first = "Subject: a\n\nFrom here\n>From there\nFrom now on\n";
        assert_eq!(texts(bytes), [(2, first.to_owned()), (8, "Subject: b\n\nx\n".to_owned())]);
        // Outside of a box nothing is quoted.
        assert_eq!(texts(b"Subject: a\n\n>From x\n"), [(1, "Subject: a\n\n>From x\n".to_owned())]);
        assert!(split(b"\n \n").is_empty() && split(b"").is_empty());
    }

    #[test]
    fn a_from_line_is_one_with_any_line_end() {
        for (line, is) in
            [("From 00:00:00 1970", false), ("From x 00:00:00 197", true), ("From x0:00:00 1970", false)]
        {
            for end in ["\n", "\r\n", ""] {
                assert_eq!(is_from_line(format!("{line}{end}").as_bytes()), is, "{line}{end:?}");
            }
        }
    }

    #[test]
    fn line_ends_of_the_transport_go_and_those_of_the_patch_stay() {
        let crlf = b"From x Thu Jan  1 00:00:00 1970\r\nSubject: a\r\n\r\n+x\r\r\nend";
        assert_eq!(split(crlf)[0].bytes, b"Subject: a\n\n+x\r\nend");
        assert_eq!(split(b"Subject: a\n\n+x\r\n")[0].bytes, b"Subject: a\n\n+x\r\n");
    }
}
