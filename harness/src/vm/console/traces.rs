// SPDX-License-Identifier: MIT OR Apache-2.0
//! Traces of real kernels, one of each kind: 6.12 that was broken on purpose (tests/splats.rs records them).

use super::{tests::watch, *};

/// A recorded console, and what is to be found in it: first and last line, functions.
struct Trace {
    kind: SplatKind,
    console: &'static str,
    fingerprint: &'static str,
    first: &'static str,
    last: &'static str,
    frames: &'static [&'static str],
}

macro_rules! trace {
    ($kind:ident, $file:literal, $fingerprint:literal, $first:literal, $last:literal, $frames:expr) => {
        Trace {
            kind: SplatKind::$kind,
            console: include_str!(concat!("traces/", $file, ".txt")),
            fingerprint: $fingerprint,
            first: $first,
            last: $last,
            frames: &$frames,
        }
    };
}

const END: &str = "---[ end trace 0000000000000000 ]---";

const TRACES: [Trace; 19] = [
    trace!(
        Panic,
        "panic",
        "1b3c77fdfc6a",
        "Kernel panic - not syncing: dumptest",
        "Kernel Offset: disabled",
        ["lkdtm_PANIC", "lkdtm_do_action"]
    ),
    trace!(
        Kasan,
        "kasan",
        "be8d26749d10",
        "BUG: KASAN: slab-use-after-free in lkdtm_READ_AFTER_FREE+",
        "==================================================================",
        ["lkdtm_READ_AFTER_FREE", "lkdtm_do_action"]
    ),
    // The first of many reports.
    trace!(
        Kcsan,
        "kcsan",
        "7543310747f3",
        "BUG: KCSAN: data-race in splat_race / splat_race",
        "==================================================================",
        ["splat_race", "splat_race"]
    ),
    trace!(
        RcuStall,
        "rcu_stall",
        "ee8c7806d2a5",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        " </TASK>",
        ["splat_spin", "splat_rcu_stall"]
    ),
    trace!(
        SoftLockup,
        "soft_lockup",
        "e7c390fa5fa8",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 7s! [init:42]",
        " </TASK>",
        ["splat_spin", "splat_soft_lockup"]
    ),
    trace!(
        Kmemleak,
        "kmemleak",
        "915e61097f1d",
        "kmemleak: 8 new suspected memory leaks",
        "    full_proxy_write+",
        ["splat_memory_leak", "splat_write"]
    ),
    trace!(
        Oops,
        "oops",
        "b35724dad612",
        "BUG: kernel NULL pointer dereference, address: ",
        "---[ end trace 0000000000000000 ]---",
        ["lkdtm_EXCEPTION", "lkdtm_do_action"]
    ),
    trace!(
        Bug,
        "bug",
        "6773f1a4f3d4",
        "kernel BUG at drivers/misc/lkdtm/bugs.c:105!",
        "---[ end trace 0000000000000000 ]---",
        ["lkdtm_BUG", "lkdtm_do_action"]
    ),
    trace!(
        Warning,
        "warning",
        "099a9bcafeb1",
        "WARNING: CPU: 0 PID: 42 at drivers/misc/lkdtm/bugs.c:112 lkdtm_WARNING+",
        "---[ end trace 0000000000000000 ]---",
        ["lkdtm_WARNING", "lkdtm_do_action"]
    ),
    trace!(
        Ubsan,
        "ubsan",
        "45229ad0336d",
        "UBSAN: array-index-out-of-bounds in ",
        "---[ end trace ]---",
        ["lkdtm_ARRAY_BOUNDS", "lkdtm_do_action"]
    ),
    trace!(
        Lockdep,
        "lockdep",
        "edd04179e62e",
        "WARNING: possible circular locking dependency detected",
        " </TASK>",
        ["_raw_spin_lock", "splat_lockdep"]
    ),
    // Blocked for so long, and then for longer.
    trace!(
        HungTask,
        "hung_task",
        "84d03a8f6baf",
        "INFO: task init:49 blocked for more than 5 seconds.",
        "",
        ["schedule_timeout", "splat_hung_task"]
    ),
    trace!(
        SleepingInAtomic,
        "sleeping_in_atomic",
        "7ad747d37c6a",
        "BUG: sleeping function called from invalid context at ",
        " </TASK>",
        ["splat_sleeping", "splat_write"]
    ),
    trace!(
        Refcount,
        "refcount",
        "a0e1ae25ba0e",
        "refcount_t: addition on 0; use-after-free.",
        "---[ end trace 0000000000000000 ]---",
        ["lkdtm_REFCOUNT_INC_ZERO", "lkdtm_do_action"]
    ),
    trace!(
        SlabCorruption,
        "slab_corruption",
        "e6a66312bb98",
        "BUG kmalloc-1k (Tainted: G        W         ): Object corrupt",
        "---[ end trace 0000000000000000 ]---",
        ["free_to_partial_list", "lkdtm_do_action"]
    ),
    trace!(
        ListCorruption,
        "list_corruption",
        "a1f4690c48d5",
        "list_add corruption. next->prev should be prev ",
        "---[ end trace 0000000000000000 ]---",
        ["lkdtm_CORRUPT_LIST_ADD", "lkdtm_do_action"]
    ),
    trace!(
        NetdeviceLeak,
        "netdevice_leak",
        "ee44ea51cad1",
        "unregister_netdevice: waiting for splat0 to become free. Usage count = 2",
        "unregister_netdevice: waiting for splat0",
        []
    ),
    trace!(
        AuditBacklog,
        "audit_backlog",
        "ecd5dce18513",
        "audit: backlog limit exceeded",
        "audit: backlog limit exceeded",
        []
    ),
    trace!(
        AuditHoldQueue,
        "audit_hold_queue",
        "c243ea521c01",
        "audit: kauditd hold queue overflow",
        "audit: kauditd hold queue overflow",
        []
    ),
];

#[test]
fn every_kind_is_recorded() {
    for kind in SplatKind::ALL {
        assert_eq!(TRACES.iter().filter(|trace| trace.kind == kind).count(), 1, "{kind:?}");
    }
}

#[test]
fn a_recorded_console_has_its_splat_and_no_other() {
    for trace in &TRACES {
        let name = trace.kind.name();
        let found = watch(trace.console);
        assert!(!found.is_empty(), "{name}");
        for splat in &found {
            assert_eq!(splat.kind, trace.kind, "{name}: {:?}", splat.lines);
            assert_eq!(
                Fingerprint::of(splat).id(),
                trace.fingerprint,
                "{name}: {:?}",
                Fingerprint::of(splat).frames
            );
        }
        let (first, last) = (&found[0].lines[0], &found[0].lines[found[0].lines.len() - 1]);
        assert!(first.starts_with(trace.first), "{name}: {first}");
        assert_eq!(last.is_empty(), trace.last.is_empty(), "{name}: {last}");
        assert!(last.starts_with(trace.last), "{name}: {last}");
        assert!(trace.last != END || last == END, "{name}: {last}");
        let frames = Fingerprint::of(&found[0]).frames;
        assert!(
            trace.frames.is_empty()
                || frames.starts_with(&trace.frames.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>()),
            "{name}: {frames:?}"
        );
    }
}

#[test]
fn a_trace_keeps_the_stack_that_comes_after_a_long_dump() {
    let trace = TRACES.iter().find(|trace| trace.kind == SplatKind::SlabCorruption).unwrap();
    let found = watch(trace.console);
    assert_eq!(found.len(), 1);
    assert!(found[0].lines.iter().any(|line| line.starts_with("WARNING: CPU: 0 PID: 47 at mm/slub.c:")));
    assert!(found[0].lines.iter().any(|line| line.starts_with(" free_to_partial_list+")));
}
