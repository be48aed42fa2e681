// SPDX-License-Identifier: MIT OR Apache-2.0
//! Records: one line of the log, borrowed, with its header taken apart.
//!
//! Two sources, one parser. A netlink payload is `audit(SEC.MS:SERIAL): BODY` and brings its type in the
//! netlink header; auditd's raw format puts `type=NAME msg=` in front of the same bytes. The body stays
//! bytes: a path or a comm may hold anything.

use std::fmt;

use thiserror::Error;

use crate::{
    field::{Fields, Value},
    kind::Kind,
};

/// Time and serial of an event: what its records share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// Seconds of CLOCK_REALTIME_COARSE.
    pub seconds: u64,
    /// Milliseconds, 0 to 999.
    pub millis: u16,
    /// From one atomic u32 (audit_serial in kernel/audit.c).
    pub serial: u32,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}:{}", self.seconds, self.millis, self.serial)
    }
}

/// Bytes that are no record.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum RecordError {
    #[error("record does not begin with \"audit(\"")]
    Audit,
    #[error("record has no time and serial \"SECONDS.MMM:SERIAL): \" behind \"audit(\"")]
    Stamp,
    #[error("line does not begin with \"type=\" (hint: only auditd's raw format is read, log_format = RAW)")]
    Type,
    #[error("line has a type that is neither a known name nor UNKNOWN[n]")]
    TypeName,
    #[error("line has no \" msg=\" behind its type")]
    Msg,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: Kind,
    pub stamp: Stamp,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Record<'a> {
    /// Parses a netlink payload.
    ///
    /// # Errors
    /// [`RecordError::Audit`], [`RecordError::Stamp`].
    pub fn parse(kind: Kind, bytes: &'a [u8]) -> Result<Self, RecordError> {
        let rest = bytes.strip_prefix(b"audit(").ok_or(RecordError::Audit)?;
        let (stamp, body) = stamp(rest).ok_or(RecordError::Stamp)?;
        Ok(Self { kind, stamp, body })
    }

    /// Parses a line of an audit.log in raw format, without its newline.
    ///
    /// # Errors
    /// Any [`RecordError`].
    pub fn parse_line(line: &'a [u8]) -> Result<Self, RecordError> {
        let (kind, bytes) = split_line(line)?;
        Self::parse(kind, bytes)
    }

    /// The fields, in order.
    #[must_use]
    pub const fn fields(&self) -> Fields<'a> {
        Fields::new(self.body)
    }

    /// The first field of that name.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<Value<'a>> {
        self.fields().find(|field| field.key == key.as_bytes()).map(|field| field.value)
    }
}

/// Takes `type=NAME msg=` off a raw line: the type, and the bytes as netlink had them.
///
/// # Errors
/// [`RecordError::Type`], [`RecordError::TypeName`], [`RecordError::Msg`].
pub fn split_line(line: &[u8]) -> Result<(Kind, &[u8]), RecordError> {
    let rest = line.strip_prefix(b"type=").ok_or(RecordError::Type)?;
    let end = memchr::memchr(b' ', rest).ok_or(RecordError::Msg)?;
    let kind = Kind::from_name(&rest[..end]).ok_or(RecordError::TypeName)?;
    let bytes = rest[end..].strip_prefix(b" msg=").ok_or(RecordError::Msg)?;
    Ok((kind, bytes))
}

/// Appends the line that auditd would write in raw format, newline included.
///
/// A newline inside the bytes would make two lines of one record; the kernel hex-encodes untrusted
/// strings and AUDIT_USER text cannot be trusted to, so it is written as a space, as auditd does.
pub fn raw_line(kind: u16, bytes: &[u8], line: &mut Vec<u8>) {
    line.extend_from_slice(b"type=");
    match Kind(kind).name() {
        Some(name) => line.extend_from_slice(name.as_bytes()),
        None => line.extend_from_slice(Kind(kind).to_string().as_bytes()),
    }
    line.extend_from_slice(b" msg=");
    let from = line.len();
    line.extend_from_slice(bytes);
    for byte in &mut line[from..] {
        if *byte == b'\n' {
            *byte = b' ';
        }
    }
    line.push(b'\n');
}

/// `SEC.MMM:SERIAL): ` and what follows.
fn stamp(bytes: &[u8]) -> Option<(Stamp, &[u8])> {
    let (seconds, rest) = number(bytes)?;
    let rest = rest.strip_prefix(b".")?;
    let (millis, after) = number(rest)?;
    if rest.len() - after.len() != 3 {
        return None;
    }
    let rest = after.strip_prefix(b":")?;
    let (serial, rest) = number(rest)?;
    let rest = rest.strip_prefix(b"):")?;
    // The body may be empty (EOE), and then the space behind the colon is the last byte, or cut off.
    let body = rest.strip_prefix(b" ").unwrap_or(rest);
    if body.len() == rest.len() && !rest.is_empty() {
        return None;
    }
    Some((Stamp { seconds, millis: u16::try_from(millis).ok()?, serial: u32::try_from(serial).ok()? }, body))
}

/// Leading decimal digits, at least one, and the rest.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    Some((decimal(&bytes[..end])?, &bytes[end..]))
}

/// A decimal number that fits into u64, and nothing else.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NETLINK: &[u8] = b"audit(1795511255.040:5): arch=c000003e syscall=435";

    #[test]
    fn a_payload_and_its_raw_line_are_the_same_record() {
        let record = Record::parse(Kind::SYSCALL, NETLINK).unwrap();
        assert_eq!(record.stamp, Stamp { seconds: 1_795_511_255, millis: 40, serial: 5 });
        assert_eq!(record.stamp.to_string(), "1795511255.040:5");
        assert_eq!(record.body, b"arch=c000003e syscall=435");
        let mut line = Vec::new();
        raw_line(1300, NETLINK, &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(line.starts_with(b"type=SYSCALL msg=audit(1795511255.040:5): arch"));
        assert_eq!(Record::parse_line(&line), Ok(record));
    }

    #[test]
    fn an_empty_body_is_a_record() {
        for bytes in [&b"audit(1.000:1): "[..], b"audit(1.000:1):"] {
            assert_eq!(Record::parse(Kind::EOE, bytes).unwrap().body, b"");
        }
    }

    #[test]
    fn a_header_that_is_none_is_refused() {
        for bytes in [
            &b"audit(1.00:1): x"[..],
            b"audit(1.0000:1): x",
            b"audit(1.000): x",
            b"audit(.000:1): x",
            b"audit(1.000:4294967296): x",
            b"audit(99999999999999999999.000:1): x",
            b"audit(1.000:1):x",
        ] {
            assert_eq!(Record::parse(Kind::SYSCALL, bytes), Err(RecordError::Stamp));
        }
        assert_eq!(Record::parse(Kind::SYSCALL, b"audi"), Err(RecordError::Audit));
        assert_eq!(Record::parse_line(b"type=NONSENSE msg=audit(1.000:1): x"), Err(RecordError::TypeName));
        assert_eq!(Record::parse_line(b"type=SYSCALL audit(1.000:1): x"), Err(RecordError::Msg));
        assert_eq!(Record::parse_line(b"node=a type=SYSCALL msg=audit(1.000:1): x"), Err(RecordError::Type));
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::parse(Kind::SYSCALL, &bytes);
            let _ = Record::parse_line(&bytes);
            let line = [b"type=SYSCALL msg=audit(1.000:1): ".as_slice(), &bytes].concat();
            for field in Record::parse_line(&line).unwrap().fields() {
                let _ = (field.value.decoded(), field.value.decimal(), field.value.hexadecimal());
            }
        }

        #[test]
        fn every_record_survives_its_raw_line(
            kind in any::<u16>(), seconds in any::<u64>(), millis in 0_u16..1000, serial in any::<u32>(),
            body in proptest::collection::vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..99),
        ) {
            let stamp = Stamp { seconds, millis, serial };
            let bytes = [format!("audit({stamp}): ").as_bytes(), &body].concat();
            let mut line = Vec::new();
            raw_line(kind, &bytes, &mut line);
            line.pop();
            prop_assert_eq!(Record::parse_line(&line), Ok(Record { kind: Kind(kind), stamp, body: &body }));
        }
    }
}
