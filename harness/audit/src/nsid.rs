// SPDX-License-Identifier: MIT OR Apache-2.0
//! The three records of the auditnsid contract, typed and strict (CONTRACT.md, "Records").
//!
//! Strict means: exactly the listed fields, in the listed order, one space apart; ids as `0x` and lower-case hex
//! without leading zeros; flags by name in the contract's order; the `ns=` list in its order. A record is
//! permanent API once it is merged, so a deviation that a lenient parser would swallow is an error here
//! that names the field, what was expected and what was found.

use std::fmt;

use nstrail_wire::namespace::{NamespaceEntry, NamespaceIds, NamespaceSet, NamespaceType};
use thiserror::Error;

use crate::record::decimal;

/// How a record deviates from the contract.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[error("field {field}: expected {expected}, found {found:?}")]
pub struct FormatError {
    /// The field that should stand here.
    pub field: &'static str,
    /// What the contract wants.
    pub expected: String,
    /// What stands here instead (at most 80 bytes of it).
    pub found: String,
}

/// What a `AUDIT_NSID_OP` record tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    Init,
    Clone,
    Unshare,
    Setns,
    Exec,
    Release,
}

impl Op {
    pub const ALL: [Self; 6] =
        [Self::Init, Self::Clone, Self::Unshare, Self::Setns, Self::Exec, Self::Release];

    /// As `op=` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Clone => "clone",
            Self::Unshare => "unshare",
            Self::Setns => "setns",
            Self::Exec => "exec",
            Self::Release => "release",
        }
    }

    /// Whether the record defines a set that a task has moved to.
    #[must_use]
    pub const fn is_move(self) -> bool {
        matches!(self, Self::Clone | Self::Unshare | Self::Setns | Self::Exec)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An `AUDIT_NSID_OP` record (1340). Fields that its op does not have are 0 or empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NsidOp {
    pub op: Op,
    /// Thread group id of the caller, in the initial pid namespace.
    pub pid: u32,
    /// Thread id of the caller.
    pub tid: u32,
    /// The task that holds [`NsidOp::id`]: the child of a clone, otherwise the caller.
    pub opid: u32,
    /// `CLONE_NEW*` bits; 0 for `none`.
    pub flags: u64,
    /// `old-auditnsid=`.
    pub old: u64,
    /// `auditnsid=`.
    pub id: u64,
    /// `ns=`; 0 stands for `?`.
    pub set: NamespaceSet,
    /// `nsid=`: 64-bit namespace ids, from 7.2 on; 0 stands for `?`.
    pub ns_ids: Option<NamespaceIds>,
}

impl NsidOp {
    /// Parses the body of a 1340 record.
    ///
    /// # Errors
    /// The first deviation from the contract.
    pub fn parse(body: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor { rest: body, first: true };
        let name = cursor.field("op", "op=")?;
        let op = Op::ALL
            .into_iter()
            .find(|op| op.name().as_bytes() == name)
            .ok_or_else(|| error("op", "init, clone, unshare, setns, exec or release", name))?;
        let mut record = Self {
            op,
            pid: 0,
            tid: 0,
            opid: 0,
            flags: 0,
            old: 0,
            id: 0,
            set: NamespaceSet::default(),
            ns_ids: None,
        };
        if op != Op::Init {
            record.pid = pid("pid", cursor.field("pid", "pid=")?)?;
            record.tid = pid("tid", cursor.field("tid", "tid=")?)?;
        }
        if op.is_move() {
            record.opid = pid("opid", cursor.field("opid", "opid=")?)?;
            record.flags = flags(cursor.field("flags", "flags=")?)?;
            record.old = id("old-auditnsid", cursor.field("old-auditnsid", "old-auditnsid=")?)?;
        }
        record.id = id("auditnsid", cursor.field("auditnsid", "auditnsid=")?)?;
        if op != Op::Release {
            record.set = set(cursor.field("ns", "ns=")?)?;
            if cursor.rest.starts_with(b" nsid=") {
                record.ns_ids = Some(ns_ids(cursor.field("nsid", "nsid=")?)?);
            }
        }
        let res = cursor.field("res", "res=")?;
        if res != b"1" {
            return Err(error("res", "1", res));
        }
        cursor.end()?;
        Ok(record)
    }
}

impl fmt::Display for NsidOp {
    /// The body, as the contract has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op={}", self.op)?;
        if self.op != Op::Init {
            write!(f, " pid={} tid={}", self.pid, self.tid)?;
        }
        if self.op.is_move() {
            write!(f, " opid={} flags={} old-auditnsid={:#x}", self.opid, FlagNames(self.flags), self.old)?;
        }
        write!(f, " auditnsid={:#x}", self.id)?;
        if self.op != Op::Release {
            write!(f, " ns={}", self.set)?;
            if let Some(ids) = &self.ns_ids {
                write!(f, " nsid={ids}")?;
            }
        }
        f.write_str(" res=1")
    }
}

/// `CLONE_NEW*` bits by name, as `flags=` has them; `none` for none.
#[derive(Clone, Copy, Debug)]
pub struct FlagNames(pub u64);

impl fmt::Display for FlagNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bar = "";
        for kind in NamespaceType::ALL {
            if self.0 & kind.flag() != 0 {
                write!(f, "{bar}{}", kind.flag_name())?;
                bar = "|";
            }
        }
        if bar.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

/// The body of an `AUDIT_NSID` record (1341): the auditnsid.
///
/// # Errors
/// The first deviation from the contract.
pub fn parse_nsid(body: &[u8]) -> Result<u64, FormatError> {
    let mut cursor = Cursor { rest: body, first: true };
    let number = id("auditnsid", cursor.field("auditnsid", "auditnsid=")?)?;
    cursor.end()?;
    Ok(number)
}

/// An `AUDIT_NETNS` record (1342): the inode number of the packet's network namespace, `None` for `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Netns(pub Option<u32>);

impl Netns {
    /// Parses the body.
    ///
    /// # Errors
    /// The first deviation from the contract.
    pub fn parse(body: &[u8]) -> Result<Self, FormatError> {
        let mut cursor = Cursor { rest: body, first: true };
        let value = cursor.field("netns", "netns=")?;
        let number =
            value.strip_prefix(b"net:").ok_or_else(|| error("netns", "net: and an inode number", value))?;
        let number = match number {
            b"?" => None,
            digits => Some(inum("netns", digits)?),
        };
        cursor.end()?;
        Ok(Self(number))
    }
}

/// What is left of a body, field by field.
struct Cursor<'a> {
    rest: &'a [u8],
    first: bool,
}

impl<'a> Cursor<'a> {
    /// The value of the field that must come next; `prefix` is its name with the `=`.
    fn field(&mut self, name: &'static str, prefix: &str) -> Result<&'a [u8], FormatError> {
        let mut rest = self.rest;
        if !self.first {
            rest = rest.strip_prefix(b" ").ok_or_else(|| error(name, &format!("\" {prefix}\""), rest))?;
        }
        let value = rest
            .strip_prefix(prefix.as_bytes())
            .ok_or_else(|| error(name, &format!("\"{prefix}\""), word(rest)))?;
        let end = memchr::memchr(b' ', value).unwrap_or(value.len());
        self.rest = &value[end..];
        self.first = false;
        Ok(&value[..end])
    }

    fn end(&self) -> Result<(), FormatError> {
        if self.rest.is_empty() { Ok(()) } else { Err(error("res", "the end of the record", self.rest)) }
    }
}

fn word(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().skip(1).position(|byte| *byte == b' ').map_or(bytes.len(), |end| end + 1);
    &bytes[..end]
}

#[cold]
fn error(field: &'static str, expected: &str, found: &[u8]) -> FormatError {
    let found = &found[..found.len().min(80)];
    FormatError { field, expected: expected.to_owned(), found: String::from_utf8_lossy(found).into_owned() }
}

/// A task's number: decimal, no leading zero, no 0.
fn pid(field: &'static str, digits: &[u8]) -> Result<u32, FormatError> {
    inum(field, digits)
}

fn canonical_decimal(digits: &[u8]) -> Option<u64> {
    if digits.first() == Some(&b'0') { None } else { decimal(digits) }
}

fn inum(field: &'static str, digits: &[u8]) -> Result<u32, FormatError> {
    canonical_decimal(digits)
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| error(field, "a decimal number from 1 on, without leading zeros", digits))
}

/// `0x` and lower-case hex without leading zeros. 0 is no id.
fn id(field: &'static str, value: &[u8]) -> Result<u64, FormatError> {
    let wrong = || error(field, "0x and lower-case hex without leading zeros, from 0x1 on", value);
    let digits = value.strip_prefix(b"0x").ok_or_else(wrong)?;
    if digits.is_empty() || digits.len() > 16 || digits[0] == b'0' {
        return Err(wrong());
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return Err(wrong()),
        };
        Ok(number << 4 | u64::from(nibble))
    })
}

/// Names in the contract's order, each once, or `none`.
fn flags(value: &[u8]) -> Result<u64, FormatError> {
    if value == b"none" {
        return Ok(0);
    }
    let mut flags = 0;
    let mut order = NamespaceType::ALL.into_iter();
    for name in value.split(|byte| *byte == b'|') {
        let found = order.find(|kind| kind.flag_name().as_bytes() == name);
        flags |= found
            .ok_or_else(|| {
                error(
                    "flags",
                    "none, or names of CLONE_NEWTIME|NEWNS|NEWCGROUP|NEWUTS|NEWIPC|NEWUSER|NEWPID|NEWNET in this order",
                    value,
                )
            })?
            .flag();
    }
    Ok(flags)
}

/// Walks a list in the contract's order; `None` for `?`.
fn list(
    field: &'static str,
    value: &[u8],
    mut take: impl FnMut(usize, Option<&[u8]>) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let mut rest = value;
    for (index, entry) in NamespaceEntry::ALL.into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(b",").ok_or_else(|| error(field, &format!(",{entry}:"), rest))?;
        }
        let item = rest
            .strip_prefix(entry.name().as_bytes())
            .and_then(|item| item.strip_prefix(b":"))
            .ok_or_else(|| error(field, &format!("{entry}:"), rest))?;
        let end = memchr::memchr(b',', item).unwrap_or(item.len());
        let number = &item[..end];
        take(index, if number == b"?" { None } else { Some(number) })?;
        rest = &item[end..];
    }
    if rest.is_empty() { Ok(()) } else { Err(error(field, "the end of the list", rest)) }
}

fn set(value: &[u8]) -> Result<NamespaceSet, FormatError> {
    let mut set = NamespaceSet::default();
    list("ns", value, |index, digits| {
        if let Some(digits) = digits {
            set.0[index] = inum("ns", digits)?;
        }
        Ok(())
    })?;
    Ok(set)
}

fn ns_ids(value: &[u8]) -> Result<NamespaceIds, FormatError> {
    let mut ids = [0; 10];
    list("nsid", value, |index, digits| {
        if let Some(digits) = digits {
            ids[index] = canonical_decimal(digits)
                .ok_or_else(|| error("nsid", "a decimal number from 1 on, without leading zeros", digits))?;
        }
        Ok(())
    })?;
    Ok(NamespaceIds(ids))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIST: &str = "cgroup:4026531835,ipc:4026531839,mnt:4026531841,net:4026531840,pid:4026531836,\
        pid_for_children:4026531836,time:4026531834,time_for_children:4026531834,user:4026531837,uts:4026531838";

    fn clone() -> String {
        format!(
            "op=clone pid=7 tid=8 opid=9 flags=CLONE_NEWUTS|CLONE_NEWNET old-auditnsid=0x1 auditnsid=0x2 ns={LIST} res=1"
        )
    }

    #[test]
    fn the_contracts_examples_are_read_and_written() {
        for text in [
            format!("op=init auditnsid=0x1 ns={LIST} res=1"),
            clone(),
            format!(
                "op=exec pid=7 tid=7 opid=7 flags=none old-auditnsid=0xff auditnsid=0x100 ns={LIST} res=1"
            ),
            "op=release pid=7 tid=8 auditnsid=0xabcdef0123456789 res=1".to_owned(),
            format!("op=init auditnsid=0x1 ns={LIST} nsid={} res=1", LIST.replace("40265318", "9")),
            format!("op=init auditnsid=0x1 ns={} res=1", LIST.replace("4026531834", "?")),
        ] {
            assert_eq!(NsidOp::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        assert_eq!(parse_nsid(b"auditnsid=0x2"), Ok(2));
        assert_eq!(Netns::parse(b"netns=net:4026531840"), Ok(Netns(Some(4_026_531_840))));
        assert_eq!(Netns::parse(b"netns=net:?"), Ok(Netns(None)));
    }

    #[test]
    fn each_deviation_names_its_field() {
        let clone = clone();
        for (from, to, field) in [
            ("op=clone", "op=fork", "op"),
            ("op=clone ", "", "op"),
            (" pid=7", "", "pid"),
            ("pid=7 tid=8", "tid=8 pid=7", "pid"),
            ("pid=7", "pid=07", "pid"),
            ("tid=8 ", "tid=8  ", "opid"),
            ("opid=9", "opid=-9", "opid"),
            ("opid=9", "opid=0", "opid"),
            ("CLONE_NEWUTS|CLONE_NEWNET", "CLONE_NEWNET|CLONE_NEWUTS", "flags"),
            ("CLONE_NEWUTS|CLONE_NEWNET", "CLONE_NEWUTS|CLONE_NEWUTS", "flags"),
            ("CLONE_NEWUTS|CLONE_NEWNET", "CLONE_NEWUTS|", "flags"),
            ("CLONE_NEWUTS|CLONE_NEWNET", "0x44000000", "flags"),
            ("CLONE_NEWUTS|CLONE_NEWNET", "", "flags"),
            ("CLONE_NEWUTS|", "CLONE_NEWUTS,", "flags"),
            ("old-auditnsid=0x1", "old-auditnsid=1", "old-auditnsid"),
            ("old-auditnsid=0x1", "old-auditnsid=0x01", "old-auditnsid"),
            (" auditnsid=0x2", " auditnsid=0xA", "auditnsid"),
            (" auditnsid=0x2", " auditnsid=0x0", "auditnsid"),
            (" auditnsid=0x2", " auditnsid=0x", "auditnsid"),
            (" auditnsid=0x2", " auditnsid=0x12345678901234567", "auditnsid"),
            ("cgroup:", "Cgroup:", "ns"),
            (",uts:4026531838", "", "ns"),
            ("ipc:4026531839,", "", "ns"),
            ("net:4026531840", "net:0", "ns"),
            ("net:4026531840", "net:4294967296", "ns"),
            ("net:4026531840", "net:", "ns"),
            (" res=1", "", "res"),
            (" res=1", " res=0", "res"),
            (" res=1", " res=1 ", "res"),
            (" res=1", " res=1 x=1", "res"),
            (" res=1", " nsid= res=1", "nsid"),
        ] {
            let text = clone.replacen(from, to, 1);
            assert_ne!(text, clone);
            assert_eq!(NsidOp::parse(text.as_bytes()).map_err(|error| error.field), Err(field), "{text}");
        }
        for text in ["auditnsid=0x2 ", " auditnsid=0x2", "auditnsid=2", "auditnsid=0x02", "nsid=0x2", ""] {
            assert!(parse_nsid(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["netns=4026531840", "netns=net:0", "netns=net:1 x", "netns=uts:1", "net=net:1"] {
            assert!(Netns::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_operation_survives_its_text(
            op in 0_usize..6, numbers in any::<[u32; 3]>(), flags in any::<u8>(), old in 1_u64.., id in 1_u64..,
            inums in any::<[u32; 10]>(), ids in proptest::option::of(any::<[u64; 10]>()),
        ) {
            let op = Op::ALL[op];
            let caller = op != Op::Init;
            let defines = op != Op::Release;
            let flags = NamespaceType::ALL.into_iter().enumerate()
                .filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, kind)| kind.flag()).sum();
            let record = NsidOp {
                op,
                pid: if caller { numbers[0].max(1) } else { 0 },
                tid: if caller { numbers[1].max(1) } else { 0 },
                opid: if op.is_move() { numbers[2].max(1) } else { 0 },
                flags: if op.is_move() { flags } else { 0 },
                old: if op.is_move() { old } else { 0 },
                id,
                set: if defines { NamespaceSet(inums) } else { NamespaceSet::default() },
                ns_ids: if defines { ids.map(NamespaceIds) } else { None },
            };
            prop_assert_eq!(NsidOp::parse(record.to_string().as_bytes()), Ok(record));
        }

        #[test]
        fn a_changed_byte_is_an_error_or_another_record(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let text = clone();
            let mut bytes = text.clone().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(record) = NsidOp::parse(&bytes) {
                prop_assert_eq!(record.to_string().into_bytes(), bytes);
            }
        }
    }
}
