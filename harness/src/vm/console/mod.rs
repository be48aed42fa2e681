// SPDX-License-Identifier: MIT OR Apache-2.0
//! The console watch: splats, each with its kind and its whole trace, while the machine lives.
//!
//! The console says nothing about results (those come in frames); it only says that the kernel is in
//! trouble. Patterns are those that the kernel prints (lib/bug.c, kernel/panic.c, kernel/locking/lockdep.c,
//! kernel/rcu/tree_stall.h, kernel/hung_task.c, mm/kasan/report.c, kernel/audit.c).

mod fingerprint;
mod kind;
#[cfg(test)]
mod traces;

use serde::{Deserialize, Serialize};

use self::kind::kind_of;
pub use self::{
    fingerprint::{Fingerprint, Frame, frame_of},
    kind::SplatKind,
};

/// Lines kept of one splat: SLUB writes out an object of 4 KiB and its redzones before the trace.
const LINES: usize = 600;

/// A splat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsoleFinding {
    pub kind: SplatKind,
    /// First line and what followed, up to the end mark, without time stamps.
    pub lines: Vec<String>,
}

/// The text of a console line without `[   12.345678]` and `[    T123]`.
fn without_stamp(line: &str) -> &str {
    let mut rest = line;
    while let Some(inner) = rest.strip_prefix('[') {
        let Some((stamp, after)) = inner.split_once(']') else { break };
        let is_stamp =
            stamp.trim().trim_start_matches(['T', 'C']).bytes().all(|b| b.is_ascii_digit() || b == b'.')
                && !stamp.trim().is_empty();
        if !is_stamp {
            break;
        }
        rest = after.strip_prefix(' ').unwrap_or(after);
    }
    rest
}

/// Whether a line that could begin a splat of its own belongs to the one before, however long that is already.
fn goes_on(open: SplatKind, kind: SplatKind, text: &str) -> bool {
    match (open, kind) {
        (_, SplatKind::Panic) => true,
        // What the fault was, the page tables, then `Oops: ` (arch/x86/mm/fault.c:page_fault_oops).
        (SplatKind::Oops | SplatKind::Bug, SplatKind::Oops) => text.starts_with("Oops"),
        // The objects, then a WARN_ON (mm/slub.c:__slab_err).
        (SplatKind::SlabCorruption, SplatKind::Warning) => text.contains(" at mm/slub.c:"),
        _ => false,
    }
}

/// What a line amounts to.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    /// A splat that is complete: its end mark came, another began, or it is fatal.
    Whole(ConsoleFinding),
}

/// Takes console lines and gives splats.
#[derive(Debug, Default)]
pub struct ConsoleWatch {
    open: Option<ConsoleFinding>,
}

impl ConsoleWatch {
    #[must_use]
    pub const fn new() -> Self {
        Self { open: None }
    }

    /// The next line, without its line end.
    pub fn line(&mut self, line: &str) -> Seen {
        let text = without_stamp(line);
        let kind = kind_of(text);
        if let Some(open) = &mut self.open {
            // An oops that panics, a warning that is a refcount's: one splat, the graver kind.
            let begins_another =
                open.lines.len() > 3 && kind.is_some_and(|kind| !goes_on(open.kind, kind, text));
            if !begins_another {
                if open.lines.len() < LINES {
                    open.lines.push(text.to_owned());
                }
                if let Some(SplatKind::Panic) = kind {
                    open.kind = SplatKind::Panic;
                }
                // Reports of the sanitizers stand between two rules (mm/kasan/report.c, kernel/kcsan/report.c).
                let ruled = matches!(open.kind, SplatKind::Kasan | SplatKind::Kcsan)
                    && text.len() > 40
                    && text.bytes().all(|byte| byte == b'=');
                let ended = text.starts_with("---[ end ") || ruled || open.lines.len() >= LINES;
                return if ended {
                    self.open.take().map_or(Seen::Nothing, Seen::Whole)
                } else {
                    Seen::Nothing
                };
            }
        }
        let Some(kind) = kind else { return Seen::Nothing };
        let finding = ConsoleFinding { kind, lines: vec![text.to_owned()] };
        if kind == SplatKind::AuditBacklog
            || kind == SplatKind::AuditHoldQueue
            || kind == SplatKind::NetdeviceLeak
        {
            return Seen::Whole(finding);
        }
        self.open.replace(finding).map_or(Seen::Nothing, Seen::Whole)
    }

    /// The kind of the splat that still waits for more lines.
    #[must_use]
    pub fn open_kind(&self) -> Option<SplatKind> {
        self.open.as_ref().map(|finding| finding.kind)
    }

    /// The splat that still waits for more lines, taken as whole. Most kinds have no end mark: they
    /// are over when the console falls silent or ends.
    pub fn take(&mut self) -> Option<ConsoleFinding> {
        self.open.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn watch(text: &str) -> Vec<ConsoleFinding> {
        let mut watch = ConsoleWatch::new();
        let mut findings = Vec::new();
        for line in text.lines() {
            if let Seen::Whole(finding) = watch.line(line) {
                findings.push(finding);
            }
        }
        findings.extend(watch.take());
        findings
    }

    #[test]
    fn a_quiet_boot_has_no_splat() {
        assert_eq!(
            watch(
                "[    0.000000] Linux version 6.12.117\n[    0.1] audit: type=2000 audit(0.1:1): state=initialized\n"
            ),
            []
        );
    }

    #[test]
    fn a_warning_is_kept_whole_up_to_its_end_mark() {
        let found = watch(
            "[    1.0] ------------[ cut here ]------------\n[    1.0] WARNING: CPU: 0 PID: 1 at kernel/audit_nsid.c:99 x+0x1/0x2\n\
             [    1.0] Call Trace:\n[    1.0]  <TASK>\n[    1.0] ---[ end trace 0000000000000000 ]---\n[    1.1] next\n",
        );
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].kind, SplatKind::Warning);
        assert_eq!(found[0].lines.len(), 4);
    }

    #[test]
    fn an_oops_that_panics_is_a_panic() {
        let found = watch(
            "[    1.0][    T1] BUG: kernel NULL pointer dereference, address: 0\n[    1.0][    T1] #PF: supervisor\n\
             [    1.0] Kernel panic - not syncing: Fatal exception\n[    1.0] ---[ end Kernel panic - not syncing ]---\n",
        );
        assert_eq!(found.iter().map(|f| f.kind).collect::<Vec<_>>(), [SplatKind::Panic]);
    }

    #[test]
    fn kinds_are_told_apart() {
        for (line, kind) in [
            ("BUG: KASAN: slab-use-after-free in x", SplatKind::Kasan),
            (
                "BUG: sleeping function called from invalid context at mm/slab.h:1",
                SplatKind::SleepingInAtomic,
            ),
            ("WARNING: possible circular locking dependency detected", SplatKind::Lockdep),
            ("WARNING: suspicious RCU usage", SplatKind::Lockdep),
            ("divide error: 0000 [#1] PREEMPT SMP", SplatKind::Oops),
            ("Oops: invalid opcode: 0000 [#1] SMP", SplatKind::Oops),
            ("rcu: INFO: rcu_sched self-detected stall on CPU", SplatKind::RcuStall),
            ("INFO: task x:1 blocked for more than 120 seconds.", SplatKind::HungTask),
            ("refcount_t: underflow; use-after-free.", SplatKind::Refcount),
            ("audit: backlog limit exceeded", SplatKind::AuditBacklog),
            ("audit: kauditd hold queue overflow", SplatKind::AuditHoldQueue),
            ("kernel BUG at kernel/fork.c:1!", SplatKind::Bug),
            (
                "unregister_netdevice: waiting for lo to become free. Usage count = 2",
                SplatKind::NetdeviceLeak,
            ),
        ] {
            assert_eq!(watch(line).first().map(|f| f.kind), Some(kind), "{line}");
        }
    }
}
