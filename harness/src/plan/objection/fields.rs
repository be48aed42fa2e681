// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fields of a step that do not go together, wherever it stands.

use nstrail_wire::{
    fact::ProbeKind,
    namespace::NamespaceType,
    step::{Churn, Fault, Rejoin, Spawn, SpawnCall, SpawnFlag, Web},
};

use super::{Verdict, hold};

/// Calls and flags that do not go together because one cannot express the other.
pub(super) fn check_call(spawn: &Spawn, number: u32) -> Verdict {
    let has = |flag| spawn.with.contains(&flag);
    let bare = matches!(spawn.call, SpawnCall::Fork | SpawnCall::Vfork);
    hold(!bare || spawn.flags.is_empty() && spawn.with.is_empty(), number, || {
        format!(
            "passes flags to {:?}, which takes none (hint: clone, with `vm` and `vfork` for a vfork)",
            spawn.call
        )
    })?;
    let clone3 = spawn.call == SpawnCall::Clone3;
    check_time(clone3, &spawn.flags, number)?;
    hold(clone3 || !has(SpawnFlag::IntoCgroup), number, || {
        "passes `into_cgroup` to another call than clone3".into()
    })?;
    hold(!has(SpawnFlag::EmptyMntns) || clone3 && spawn.flags.contains(&NamespaceType::Mnt), number, || {
        "passes `empty_mntns` to another call than clone3, or without `mnt`".into()
    })?;
    let fits = match spawn.fault {
        None => true,
        Some(Fault::PidfdPointer) => has(SpawnFlag::Pidfd),
        Some(Fault::Cgroup | Fault::FullCgroup) => clone3 && has(SpawnFlag::IntoCgroup),
        Some(Fault::Args | Fault::TakenPid | Fault::ExitSignal) => clone3,
    };
    hold(fits, number, || {
        format!("has the fault {:?}, which its call or flags have no argument for", spawn.fault)
    })?;
    hold(!has(SpawnFlag::Thread) || !has(SpawnFlag::Pidfd), number, || {
        "asks for a pidfd of a thread, which 6.12 and older refuse".into()
    })
}

/// clone(2) takes the exit signal in the lowest byte of its flags, and CLONE_NEWTIME lies there.
pub(super) fn check_time(has_room: bool, flags: &[NamespaceType], number: u32) -> Verdict {
    hold(has_room || !flags.contains(&NamespaceType::Time), number, || {
        "passes `time` to clone, where its bit is part of the exit signal (hint: clone3 or unshare)".into()
    })
}

pub(super) fn check_web(web: &Web, number: u32) -> Verdict {
    hold((2..=300).contains(&web.containers), number, || {
        format!("is a web of {} containers, expected 2 to 300", web.containers)
    })?;
    check_joins(web.workers, web.joins, &web.types, number)
}

pub(super) fn check_rejoin(rejoin: &Rejoin, number: u32) -> Verdict {
    hold(rejoin.look_every > 0, number, || "never looks (hint: look_every = 1 for each join)".into())?;
    check_joins(rejoin.workers, rejoin.joins, &rejoin.types, number)
}

fn check_joins(workers: u32, joins: u32, types: &[NamespaceType], number: u32) -> Verdict {
    hold((1..=64).contains(&workers) && workers <= joins, number, || {
        format!("has {workers} workers for {joins} joins, expected 1 to 64 and no more than joins")
    })?;
    let back = |r#type: &NamespaceType| !matches!(r#type, NamespaceType::User | NamespaceType::Pid);
    hold(!types.is_empty() && types.iter().all(back), number, || {
        "joins types that cannot be joined back and forth, expected any but `user` and `pid`".into()
    })
}

pub(super) fn check_sysctl(name: &str, value: u32, number: u32) -> Verdict {
    hold(name == "kernel.pid_max" && (301..=4_194_304).contains(&value), number, || {
        format!("sets {name} to {value}, expected kernel.pid_max, 301 to 4194304")
    })
}

pub(super) fn check_churn(churn: &Churn, number: u32) -> Verdict {
    hold((1..=64).contains(&churn.workers) && churn.workers <= churn.containers, number, || {
        format!(
            "has {} workers for {} containers, expected 1 to 64 and no more than containers",
            churn.workers, churn.containers
        )
    })?;
    // RESERVED_PIDS is 300: below, a wrap never comes back to.
    let least = 301 + 16 * churn.workers;
    hold((least..=4_194_304).contains(&churn.pid_max), number, || {
        format!("sets kernel.pid_max to {}, expected {least} to 4194304", churn.pid_max)
    })?;
    hold(!churn.kinds.is_empty(), number, || "has no kinds".into())?;
    let everywhere = |kind: &ProbeKind| matches!(kind, ProbeKind::Syscall | ProbeKind::Seccomp);
    hold(churn.probes.iter().all(everywhere), number, || {
        "has probes that not every container can cause (hint: syscall and seccomp)".into()
    })?;
    hold(churn.probe_every == 0 || !churn.probes.is_empty(), number, || {
        "is to probe, but has no probes".into()
    })?;
    hold(!churn.vfork || churn.kill_every == 0, number, || {
        "kills containers that their maker waits for (hint: kill_every = 0 with vfork)".into()
    })?;
    // timens_on_fork() would change the clocks of memory that the maker uses, too; since 6.3 it leaves the child where it was.
    hold(
        !churn.vfork || !churn.kinds.iter().flatten().any(|kind| *kind == NamespaceType::Time),
        number,
        || {
            "has time namespaces, which need memory of their own (hint: no kind with `time` with vfork)"
                .into()
        },
    )?;
    hold(churn.look_every > 0, number, || {
        "has nobody look (hint: look_every = 1 for each container)".into()
    })?;
    hold(!(churn.apart && churn.vfork), number, || {
        "has containers apart from a maker that sleeps as long as they live: apart or vfork".into()
    })?;
    hold(churn.seconds != Some(0), number, || "ends after 0 seconds, expected 1 or more".into())
}
