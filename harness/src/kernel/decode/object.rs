// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects of a build folder: which one has a function, and where a place in it is in the sources.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{BuildPlace, NotDecoded, command};
use crate::kernel::digest::walk;
use crate::process::{ChildSpec, Sink};
use crate::vm::console::Frame;

/// A function's size in a trace goes up to the next one: padding is in it (CONFIG_CALL_PADDING, -falign-functions).
const PADDING: u64 = 64;

/// Not what a kernel is linked of, though it defines the same functions.
const NO_PARTS: [&str; 3] = ["vmlinux.o", "vmlinux", "piggy.o"];

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// Functions of all objects of a build folder.
#[derive(Debug)]
pub struct Symbols(HashMap<String, Vec<(PathBuf, u64)>>);

impl Symbols {
    pub fn of(folder: &Path, deadline: Instant) -> Result<Self, NotDecoded> {
        let file = |source| NotDecoded::File { path: folder.to_owned(), source };
        let mut list = String::new();
        for path in walk(folder, &|_| false).map_err(file)? {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            if path.extension() == Some(OsStr::new("o"))
                && !NO_PARTS.contains(&name)
                && !name.starts_with(".tmp")
                && let Some(text) = path.to_str()
            {
                list.push_str(text);
                list.push('\n');
            }
        }
        let temp = TempDir::with_prefix("nstrail-decode-").map_err(file)?;
        let names = temp.path().join("objects");
        std::fs::write(&names, list).map_err(file)?;
        let nm =
            ChildSpec::new("nm").args(["-A", "-S", "--defined-only"]).arg(format!("@{}", names.display()));
        // An object without symbols is no reason to give up: nm says so and goes on.
        let run = nm.dir(folder).limit(left(deadline)).stdout(Sink::Capture).run_unchecked(|_| ())?;
        Ok(Self::parse(&String::from_utf8_lossy(&run.stdout)))
    }

    /// `kernel/audit.o:0000000000000010 0000000000000123 T audit_log_start`
    pub fn parse(text: &str) -> Self {
        let mut functions: HashMap<String, Vec<(PathBuf, u64)>> = HashMap::new();
        for line in text.lines() {
            let Some((object, rest)) = line.split_once(".o:") else { continue };
            let words: Vec<&str> = rest.split_ascii_whitespace().collect();
            let [_, size, kind, name] = words[..] else { continue };
            if let (true, Ok(size)) = (matches!(kind, "t" | "T" | "w" | "W"), u64::from_str_radix(size, 16)) {
                functions.entry(name.to_owned()).or_default().push((format!("{object}.o").into(), size));
            }
        }
        Self(functions)
    }

    /// The only object that has a function of that name and size.
    pub fn object_of(&self, frame: &Frame<'_>) -> Option<&Path> {
        let fits = |size: u64| size <= frame.size && frame.size - size < PADDING && frame.offset <= size;
        let mut found = self.0.get(frame.function)?.iter().filter(|(_, size)| fits(*size));
        match (found.next(), found.next()) {
            (Some((object, _)), None) => Some(object),
            _ => None,
        }
    }
}

/// Where a function lies in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Spot {
    section: String,
    value: u64,
    size: u64,
}

/// An object that was compiled once more.
#[derive(Debug)]
pub struct Rebuilt<'a> {
    place: &'a BuildPlace,
    temp: TempDir,
    old: HashMap<String, Spot>,
    new: HashMap<String, Spot>,
}

impl<'a> Rebuilt<'a> {
    /// In words why not, if not.
    pub fn make(place: &'a BuildPlace, object: &Path, deadline: Instant) -> Result<Self, String> {
        let words = |error: &dyn std::fmt::Display| format!("{}: {error}", object.display());
        let old = place.folder.join(object);
        let name = object.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let saved =
            std::fs::read_to_string(old.with_file_name(format!(".{name}.cmd"))).map_err(|e| words(&e))?;
        let command =
            command::parse(&saved).ok_or_else(|| words(&"it was made by no plain call of a compiler"))?;
        let time = |path: &Path| path.metadata().and_then(|meta| meta.modified());
        let linked = time(&old).map_err(|e| words(&e))?;
        for input in &command.inputs {
            // One that is gone is an error of the compiler's.
            if time(&place.folder.join(input)).is_ok_and(|written| written > linked) {
                return Err(words(&format!("{} was changed since", input.display())));
            }
        }
        let temp = TempDir::with_prefix("nstrail-decode-").map_err(|e| words(&e))?;
        let new = temp.path().join("object.o");
        let argv =
            command.with_debug_information(&new).ok_or_else(|| words(&"its command names no output"))?;
        ChildSpec::new("nice")
            .args(["-n", "19"])
            .args(argv)
            .dir(&place.folder)
            .env("TMPDIR", temp.path())
            .limit(left(deadline))
            .run()
            .map_err(|e| words(&e))?;
        let spots = |path: &Path| -> Result<HashMap<String, Spot>, String> {
            let table = ChildSpec::new("objdump").arg("-t").arg(path).limit(left(deadline)).read();
            Ok(spots(&table.map_err(|e| words(&e))?))
        };
        Ok(Self { place, old: spots(&old)?, new: spots(&new)?, temp })
    }

    /// Places in the sources, by the line of the trace.
    pub fn places(
        &self,
        frames: &[(usize, Frame<'_>)],
        deadline: Instant,
    ) -> Result<Vec<(usize, String)>, String> {
        let mut found = Vec::new();
        let mut other = None;
        for (at, frame) in frames {
            let Some(spot) = self.new.get(frame.function) else { continue };
            if self.old.get(frame.function) != Some(spot) {
                other = Some(format!("{} is another function when it is compiled again", frame.function));
                continue;
            }
            // A caller's address is that behind the call; where the instruction pointer was is where it was.
            let offset = if frame.is_return { frame.offset.saturating_sub(1) } else { frame.offset };
            let addr2line = ChildSpec::new("addr2line")
                .args(["-i", "-j", &spot.section, "-e"])
                .arg(self.temp.path().join("object.o"))
                .arg(format!("{:#x}", spot.value + offset))
                .limit(left(deadline));
            let text = addr2line.read().map_err(|error| error.to_string())?;
            let lines: Vec<String> = text.lines().filter_map(|line| self.source_line(line)).collect();
            if !lines.is_empty() {
                found.push((*at, lines.join(" ")));
            }
        }
        match other {
            Some(other) if found.is_empty() => Err(other),
            _ => Ok(found),
        }
    }

    /// `kernel/audit.c:123`
    fn source_line(&self, line: &str) -> Option<String> {
        let line = line.split(" (discriminator").next().unwrap_or(line);
        let (file, number) = line.rsplit_once(':')?;
        number.parse::<u32>().ok().filter(|number| *number > 0)?;
        let path = normal(&self.place.folder.join(file));
        let src = normal(&self.place.src);
        Some(format!("{}:{number}", path.strip_prefix(&src).unwrap_or(&path).display()))
    }
}

/// Without `.` and `..`: of a tree of ours, which has no links to folders.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

/// `0000000000000010 g     F .text 0000000000000123 audit_log_start`, with a tab in the middle.
fn spots(table: &str) -> HashMap<String, Spot> {
    let spot = |line: &str| {
        let (left, right) = line.split_once('\t')?;
        let mut left = left.split_ascii_whitespace();
        let value = u64::from_str_radix(left.next()?, 16).ok()?;
        let (kind, section) = (left.clone().rev().nth(1)?, left.next_back()?.to_owned());
        let (size, name) = right.split_once(' ')?;
        let size = u64::from_str_radix(size, 16).ok()?;
        // `.hidden audit_log_start`
        let name = name.rsplit(' ').next()?.to_owned();
        (kind == "F").then_some((name, Spot { section, value, size }))
    };
    table.lines().filter_map(spot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_by_name_and_size() {
        let symbols = Symbols::parse(
            "kernel/a.o:0000000000000010 0000000000000123 T start\nkernel/b.o:0000000000000000 0000000000000020 t start\n\
             kernel/b.o:0000000000000000 0000000000000123 t other\nlib/c.o:0000000000000000 0000000000000121 t other\n\
             kernel/b.o:0000000000000000 d data\n",
        );
        let object = |function, size, offset| {
            symbols.object_of(&Frame { function, offset, size, sure: true, is_return: true })
        };
        assert_eq!(object("start", 0x130, 0x11), Some(Path::new("kernel/a.o")));
        assert_eq!(object("start", 0x20, 0x11), Some(Path::new("kernel/b.o")));
        assert_eq!(object("start", 0x60, 0x11), None, "no such size");
        assert_eq!(object("start", 0x130, 0x129), None, "in the padding");
        assert_eq!(object("other", 0x130, 0x11), None, "two of them");
        assert_eq!(object("data", 0x8, 0x0), None);
    }

    #[test]
    fn a_symbol_table_is_read() {
        let table = "\nx.o:     file format elf64-x86-64\n\nSYMBOL TABLE:\n0000000000000000 l    df *ABS*\t0000000000000000 x.c\n\
                     0000000000000010 g     F .text\t0000000000000123 start\n\
                     0000000000000000 l     F .text.unlikely\t0000000000000007 start.cold\n\
                     0000000000000040 g     O .data\t0000000000000004 number\n\
                     0000000000000133 g     F .text\t0000000000000003 .hidden end\n";
        let spots = spots(table);
        let spot = |section: &str, value, size| Spot { section: section.to_owned(), value, size };
        assert_eq!(spots.get("start"), Some(&spot(".text", 0x10, 0x123)));
        assert_eq!(spots.get("start.cold"), Some(&spot(".text.unlikely", 0, 7)));
        assert_eq!(spots.get("end"), Some(&spot(".text", 0x133, 3)));
        assert_eq!(spots.len(), 3);
    }
}
