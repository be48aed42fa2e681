// SPDX-License-Identifier: MIT OR Apache-2.0
//! A mailbox to a series.

use std::path::{Component, Path};

use nstrail::kernel::Series;

/// A box.
pub fn mbox(bytes: &[u8]) {
    let read = |bytes: &[u8]| Series::from_mailbox(Path::new("box.mbox"), bytes);
    let series = read(bytes);
    // What the transport does to line ends does not show.
    if !bytes.contains(&b'\r') {
        match (&series, &read(&with_crlf(bytes))) {
            (Ok(lf), Ok(crlf)) => assert_eq!(lf, crlf),
            (Err(lf), Err(crlf)) => assert_eq!(lf.to_string(), crlf.to_string()),
            (lf, crlf) => panic!("with LF: {lf:?}\nwith CRLF: {crlf:?}"),
        }
    }
    let series = match series {
        Ok(series) => series,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(!series.patches.is_empty());
    for note in &series.notes {
        assert!(!note.to_string().is_empty());
    }
    for patch in &series.patches {
        // It may become a file.
        let mut parts = Path::new(&patch.name).components();
        assert!(matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)), "{}", patch.name);
        assert!(!patch.files.is_empty());
        let stat = patch.stat();
        assert_eq!(stat.files.len(), patch.files.len());
    }
    assert_ne!(series.prefix(0).hash, series.hash);
}

fn with_crlf(bytes: &[u8]) -> Vec<u8> {
    let mut crlf = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\n") {
            Some(line) => crlf.extend_from_slice(&[line, b"\r\n"].concat()),
            None => crlf.extend_from_slice(line),
        }
    }
    crlf
}
