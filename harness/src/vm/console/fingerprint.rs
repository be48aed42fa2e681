// SPDX-License-Identifier: MIT OR Apache-2.0
//! What makes two splats the same one: the kind, and the functions at the top of the call trace.
//!
//! Offsets, sizes, addresses, pids and line numbers change with every build; so do the suffixes that the compiler
//! gives to parts of functions. What reports a splat (dump_stack, __warn, kasan_report, ...) and the way into the kernel
//! say nothing about it. A frame with a `?` is what the unwinder found on the stack and does not believe in.

use std::fmt;
use std::sync::OnceLock;

use regex::Regex;
use sha2::{Digest as _, Sha256};

use super::{ConsoleFinding, SplatKind};

/// Frames that count.
const FRAMES: usize = 5;

/// Digits of a fingerprint.
const DIGITS: usize = 12;

/// Names a splat beyond builds, kernels and runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    id: String,
    /// What it is made of: functions, the innermost first, or the first line without its numbers.
    pub frames: Vec<String>,
}

impl Fingerprint {
    /// Of a splat.
    #[must_use]
    pub fn of(finding: &ConsoleFinding) -> Self {
        let mut frames = frames(finding);
        if frames.is_empty() {
            frames = vec![without_numbers(finding.lines.first().map_or("", String::as_str))];
        }
        let mut digest = Sha256::new();
        digest.update(finding.kind.name());
        for frame in &frames {
            digest.update("\n");
            digest.update(frame);
        }
        let id: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { id: id[..DIGITS].to_owned(), frames }
    }

    /// Twelve hex digits.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether it could be one.
    #[must_use]
    pub fn is_id(text: &str) -> bool {
        text.len() == DIGITS
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// A line of a call trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// As printed, with the compiler's suffixes.
    pub function: &'a str,
    /// Where in the function, and how large it is.
    pub offset: u64,
    pub size: u64,
    /// Whether the unwinder believes in it.
    pub sure: bool,
    /// Whether it is where a call comes back to, not where the instruction pointer was.
    pub is_return: bool,
}

/// `func+0x1/0x2`, of a line of a trace, or of one that says where the instruction pointer was.
#[must_use]
pub fn frame_of(line: &str) -> Option<Frame<'_>> {
    static FRAME: OnceLock<Option<Regex>> = OnceLock::new();
    let frame = FRAME.get_or_init(|| {
        Regex::new(
            r"^(?:\s+(?:\[<[0-9a-fx]+>\]\s+)?|RIP: 0010:)(\? )?([A-Za-z_][A-Za-z0-9_.$]*)\+0x([0-9a-f]+)/0x([0-9a-f]+)(?:\s|$)",
        )
        .ok()
    });
    let found = frame.as_ref()?.captures(line)?;
    let number = |at: usize| u64::from_str_radix(found.get(at)?.as_str(), 16).ok();
    Some(Frame {
        function: found.get(2)?.as_str(),
        offset: number(3)?,
        size: number(4)?,
        sure: found.get(1).is_none(),
        is_return: !line.starts_with("RIP: "),
    })
}

/// Functions of the first trace that count, the innermost first.
fn frames(finding: &ConsoleFinding) -> Vec<String> {
    // Two stacks, in the order of the race; the title has the two functions in that of the alphabet.
    if finding.kind == SplatKind::Kcsan {
        let title = finding.lines.first().map_or("", String::as_str);
        let (_, functions) = title.split_once("data-race in ").unwrap_or_default();
        return functions.split(" / ").map(plain).filter(|name| !name.is_empty()).collect();
    }
    let mut frames: Vec<String> = Vec::new();
    let mut in_trace = false;
    for line in &finding.lines {
        let frame = frame_of(line);
        match frame {
            // Where a trap or an interrupt came upon the kernel: no part of the trace that follows.
            Some(frame) if !frame.is_return && frames.is_empty() => frames.push(plain(frame.function)),
            Some(frame) if in_trace && frame.sure && frame.is_return => {
                frames.push(plain(frame.function));
            }
            _ => {}
        }
        if line.starts_with("Call Trace:") || line.trim_start().starts_with("backtrace") {
            in_trace = true;
        } else if in_trace && frame.is_none() && !is_inside_a_trace(line) {
            break;
        }
    }
    frames.retain(|function| !is_machinery(function));
    if finding.kind == SplatKind::Kmemleak {
        // Who allocated is the one who called the allocator, whose functions have other names in each version.
        let caller = frames.iter().position(|function| !is_allocator(function)).unwrap_or(0);
        frames.drain(..caller);
    }
    frames.truncate(FRAMES);
    frames
}

/// Marks between frames, and the registers of whoever called from outside.
fn is_inside_a_trace(line: &str) -> bool {
    let text = line.trim();
    text.starts_with('<') || text.starts_with("</")
}

/// Without the suffixes of the compiler's.
fn plain(function: &str) -> String {
    let cut = [".isra.", ".constprop.", ".part.", ".cold", ".llvm."]
        .iter()
        .filter_map(|suffix| function.find(suffix))
        .min()
        .unwrap_or(function.len());
    function[..cut].trim().to_owned()
}

fn is_allocator(function: &str) -> bool {
    [
        "kmem_cache_alloc",
        "__kmem_cache_alloc",
        "__kmalloc",
        "kmalloc",
        "krealloc",
        "kvmalloc",
        "__vmalloc",
        "vmalloc",
    ]
    .iter()
    .any(|beginning| function.starts_with(beginning))
}

/// Whether a function reports splats, or leads into the kernel whatever goes wrong there.
fn is_machinery(function: &str) -> bool {
    const NAMES: [&str; 54] = [
        "__warn",
        "refcount_warn_saturate",
        "warn_slowpath_fmt",
        "__warn_printk",
        "report_bug",
        "handle_bug",
        "panic",
        "die",
        "die_addr",
        "__die",
        "__die_body",
        "oops_end",
        "fixup_bug",
        "page_fault_oops",
        "no_context",
        "__bad_area_nosemaphore",
        "bad_area_nosemaphore",
        "do_user_addr_fault",
        "do_kern_addr_fault",
        "do_error_trap",
        "do_trap",
        "print_report",
        "end_report",
        "check_region_inline",
        "ubsan_epilogue",
        "print_address_description",
        "__might_sleep",
        "__might_resched",
        "___might_sleep",
        "__schedule_bug",
        "check_noncircular",
        "check_prev_add",
        "check_prevs_add",
        "validate_chain",
        "__lock_acquire",
        "lock_acquire",
        "__lock_release",
        "lock_release",
        "mark_lock",
        "mark_lock_irq",
        "mark_usage",
        "lockdep_rcu_suspicious",
        "debug_check_no_locks_freed",
        "__schedule",
        "schedule",
        "slab_err",
        "object_err",
        "slab_pad_check",
        "check_bytes_and_report",
        "check_object",
        "do_syscall_64",
        "x64_sys_call",
        "kthread",
        "kmemleak_alloc",
    ];
    const BEGINNINGS: [&str; 22] = [
        "dump_stack",
        "__list_add_valid",
        "__list_del_entry_valid",
        "show_stack",
        "show_regs",
        "exc_",
        "asm_",
        "kasan_",
        "__kasan_",
        "__asan_",
        "kcsan_",
        "__tsan_",
        "__ubsan_",
        "print_circular_bug",
        "print_usage_bug",
        "print_deadlock_bug",
        "print_bad_irq_dependency",
        "print_irq_inversion_bug",
        "print_unlock_imbalance_bug",
        "entry_SYSCALL_64",
        "ret_from_fork",
        "slab_bug",
    ];
    NAMES.contains(&function) || BEGINNINGS.iter().any(|beginning| function.starts_with(beginning))
}

/// A line with its addresses and numbers replaced.
fn without_numbers(line: &str) -> String {
    static NUMBER: OnceLock<Option<Regex>> = OnceLock::new();
    let number = NUMBER.get_or_init(|| Regex::new(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|[0-9]+").ok());
    number.as_ref().map_or_else(|| line.to_owned(), |number| number.replace_all(line, "N").into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: SplatKind, text: &str) -> Fingerprint {
        Fingerprint::of(&ConsoleFinding { kind, lines: text.lines().map(str::to_owned).collect() })
    }

    const WARNING: &str = "\
WARNING: CPU: 0 PID: 77 at kernel/audit.c:99 audit_log_end+0x10/0x20
CPU: 0 UID: 0 PID: 77 Comm: x Not tainted 6.12.0 #1
RIP: 0010:audit_log_end+0x10/0x20
Code: 00 00
Call Trace:
 <TASK>
 ? __warn+0x80/0x120
 ? audit_log_end+0x10/0x20
 audit_log_exit.isra.0+0x1/0x200
 __audit_syscall_exit+0x7/0x80
 do_syscall_64+0x4/0x100
 entry_SYSCALL_64_after_hwframe+0x4b/0x53
RIP: 0033:0x7f
 </TASK>
---[ end trace 0000000000000000 ]---";

    #[test]
    fn the_same_place_in_another_build_is_the_same_splat() {
        let one = of(SplatKind::Warning, WARNING);
        assert_eq!(one.frames, ["audit_log_end", "audit_log_exit", "__audit_syscall_exit"]);
        assert!(Fingerprint::is_id(one.id()));
        let other = WARNING
            .replace("PID: 77", "PID: 1234")
            .replace("0x10/0x20", "0x33/0x48")
            .replace("audit.c:99", "audit.c:107")
            .replace(".isra.0", ".constprop.0")
            .replace(" do_syscall_64+", " x64_sys_call+0x1/0x2\n do_syscall_64+")
            .replace(" ? __warn+0x80/0x120\n", "");
        assert_eq!(of(SplatKind::Warning, &other), one);
    }

    #[test]
    fn another_caller_or_another_kind_is_another_splat() {
        let one = of(SplatKind::Warning, WARNING);
        let caller = WARNING.replace("audit_log_exit", "audit_log_start");
        assert_ne!(of(SplatKind::Warning, &caller).id(), one.id());
        assert_ne!(of(SplatKind::Refcount, WARNING).id(), one.id());
    }

    #[test]
    fn stacks_that_follow_the_trace_do_not_count() {
        let more = WARNING.replace("---[ end", "Allocated by task 1:\n kmalloc+0x1/0x2\n---[ end");
        assert_eq!(of(SplatKind::Warning, &more), of(SplatKind::Warning, WARNING));
    }

    #[test]
    fn a_line_without_a_trace_is_known_by_its_words() {
        let of = |line| of(SplatKind::NetdeviceLeak, line);
        let one = of("unregister_netdevice: waiting for veth1 to become free. Usage count = 2");
        assert_eq!(one.frames, ["unregister_netdevice: waiting for vethN to become free. Usage count = N"]);
        assert_eq!(of("unregister_netdevice: waiting for veth7 to become free. Usage count = 13"), one);
        assert_ne!(of("unregister_netdevice: waiting for lo to become free. Usage count = 2").id(), one.id());
    }

    #[test]
    fn a_race_is_known_by_its_two_functions() {
        let title = "BUG: KCSAN: data-race in audit_log_end / kauditd_thread.cold";
        let race = of(SplatKind::Kcsan, &format!("{title}\n\nwrite to 0xff of 4 bytes by task 1 on cpu 0:"));
        assert_eq!(race.frames, ["audit_log_end", "kauditd_thread"]);
    }

    #[test]
    fn frames_are_told_from_other_lines() {
        let frame = frame_of(" ? vfs_write+0xa5/0x6a0 [x]").unwrap();
        assert_eq!((frame.function, frame.offset, frame.size, frame.sure), ("vfs_write", 0xa5, 0x6a0, false));
        assert!(frame_of("    [<ffffffff81000000>] kmalloc+0x1/0x2").is_some_and(|frame| frame.sure));
        for line in ["RIP: 0033:0x4141", "RAX: 0000000000000000", " <TASK>", "vfs_write+0x1/0x2 is held"] {
            assert_eq!(frame_of(line), None, "{line}");
        }
    }
}
