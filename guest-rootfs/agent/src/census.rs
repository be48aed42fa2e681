// SPDX-License-Identifier: MIT OR Apache-2.0
//! The namespace set of the calling task, read from `/proc/thread-self/ns/`.
//!
//! No allocation and no lock, so that a task may do this right after a raw `clone`. `/proc` must be the
//! guest's first one, or one in which the task has a number.

use nstrail_wire::namespace::{NamespaceEntry, NamespaceSet};

/// The links to read, in the order of [`NamespaceEntry::ALL`].
const LINKS: [&std::ffi::CStr; 10] = [
    c"/proc/thread-self/ns/cgroup",
    c"/proc/thread-self/ns/ipc",
    c"/proc/thread-self/ns/mnt",
    c"/proc/thread-self/ns/net",
    c"/proc/thread-self/ns/pid",
    c"/proc/thread-self/ns/pid_for_children",
    c"/proc/thread-self/ns/time",
    c"/proc/thread-self/ns/time_for_children",
    c"/proc/thread-self/ns/user",
    c"/proc/thread-self/ns/uts",
];

/// The calling task's set. An entry that cannot be read is 0.
#[must_use]
pub fn own_set() -> NamespaceSet {
    let mut set = NamespaceSet::default();
    for (entry, link) in NamespaceEntry::ALL.into_iter().zip(LINKS) {
        let mut target = [0_u8; 64];
        // SAFETY: `link` is a C string and `target` is writable for its length.
        let length = unsafe { libc::readlink(link.as_ptr(), target.as_mut_ptr().cast(), target.len()) };
        let target = usize::try_from(length).map_or(&[][..], |length| &target[..length]);
        set.set(entry, inum(target));
    }
    set
}

/// The number in `TYPE:[NUMBER]`; 0 if there is none.
fn inum(target: &[u8]) -> u32 {
    let digits = target.iter().copied().skip_while(|byte| *byte != b'[').skip(1);
    digits
        .take_while(u8::is_ascii_digit)
        .fold(0_u32, |number, digit| number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_links_target_gives_its_number() {
        assert_eq!(inum(b"uts:[4026531838]"), 4_026_531_838);
        assert_eq!(inum(b"uts:["), 0);
        assert_eq!(inum(b""), 0);
    }

    #[test]
    fn own_set_is_what_proc_says() {
        let set = own_set();
        for (entry, link) in NamespaceEntry::ALL.into_iter().zip(LINKS) {
            let path = link.to_str().unwrap();
            assert!(path.ends_with(&format!("/{entry}")), "{path} is read for {entry}");
            let expected = std::fs::read_link(path).map_or(0, |t| inum(t.as_os_str().as_encoded_bytes()));
            assert_eq!(set.get(entry), expected, "{entry}");
        }
    }
}
