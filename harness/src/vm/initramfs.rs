// SPDX-License-Identifier: MIT OR Apache-2.0
//! The initramfs of the small guest: a newc archive (Documentation/driver-api/early-userspace/buffer-format.rst)
//! with the agent as `/init`, the console's device node, and the mount points.
//!
//! Uncompressed: unpacking under TCG costs more than the few hundred kilobytes that it would save.

/// Type and permission bits as in stat(2).
const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// The archive's bytes, which depend on the agent's bytes alone.
#[must_use]
pub fn archive(agent: &[u8]) -> Vec<u8> {
    let mut archive = Archive { bytes: Vec::with_capacity(agent.len() + 4096), inode: 0 };
    for folder in ["dev", "proc", "sys", "run", "tmp"] {
        archive.entry(folder, DIRECTORY, (0, 0), &[]);
    }
    archive.entry("dev/console", CHARACTER_DEVICE, (5, 1), &[]);
    archive.entry("init", PROGRAM, (0, 0), agent);
    archive.entry("TRAILER!!!", 0, (0, 0), &[]);
    archive.bytes
}

struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.inode += 1;
        let links = if mode == DIRECTORY { 2 } else { 1 };
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_length = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(b"070701");
        let fields = [self.inode, mode, 0, 0, links, 0, length, 0, 0, device.0, device.1, name_length, 0];
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn cpio_reads_it_back() {
        let archive = archive(b"#!agent");
        let mut cpio = Command::new("cpio")
            .args(["-t", "-v", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cpio is installed by make setup");
        cpio.stdin.take().unwrap().write_all(&archive).unwrap();
        let listing = String::from_utf8(cpio.wait_with_output().unwrap().stdout).unwrap();
        let line = |name: &str| listing.lines().find(|line| line.ends_with(name)).unwrap().to_owned();
        assert!(line(" init").starts_with("-rwxr-xr-x"), "{listing}");
        assert!(line(" init").contains(" 7 "), "{listing}");
        assert!(
            line(" dev/console").starts_with("crw-------") && line(" dev/console").contains("5,   1"),
            "{listing}"
        );
        assert!(line(" proc").starts_with("drwxr-xr-x"), "{listing}");
        assert_eq!(listing.lines().count(), 7, "{listing}");
    }
}
