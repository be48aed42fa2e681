// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the task knows and may that does a step, and what it cannot do there.

use nstrail_wire::{
    fact::ProbeKind,
    namespace::NamespaceType,
    rule::RuleCall,
    scenario::{numbered, size},
    step::{
        Death, EveryCall, Exec, Interrupt, JoinBy, Nest, NoMemory, Pin, PinBy, Repeat, Setns, Spawn,
        SpawnCall, SpawnFlag, Step, Trace, Unshare,
    },
};

use super::{
    Verdict,
    fields::{check_call, check_churn, check_rejoin, check_sysctl, check_time, check_web},
    hold,
};

/// What is known of the task that does a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Labels that a setns can name.
    labels: Vec<String>,
    /// Labels of children that wait, and of those that have such children themselves.
    waiting: Vec<String>,
    parents: Vec<String>,
    /// Namespaces that are held.
    pins: Vec<Pin>,
    /// Labels that a datagram can be sent to, and whether this task will be one.
    listeners: Vec<String>,
    listens: bool,
    /// Outside the initial user, pid or network namespace.
    user: bool,
    pid: bool,
    net: bool,
    thread: bool,
    /// Somebody's memory is shared without vfork: an exec would leave the maker waiting.
    lends_memory: bool,
    /// It is a thread that is to take its maker's place.
    replaces: bool,
    /// The thread that it makes now is to take its place.
    replaced: bool,
    /// It has given up its capabilities, or is another user.
    powerless: bool,
    /// It is another user, who may not write to the root folder.
    stranger: bool,
    /// Few records may wait: what is logged where nobody can wait may be lost.
    tight: bool,
    /// Calls and operations that a rule logs.
    logged: Vec<RuleCall>,
    /// Its maker adopts whom it leaves behind.
    adopted: bool,
    /// It is an init: whom it leaves behind dies with it.
    init: bool,
    /// It will be killed.
    doomed: bool,
    /// It will be killed as an init, and all below with it.
    doomed_with_all: bool,
}

impl Place {
    /// That of a plain fork of the agent's main task, while few records may wait or not, and rules log these calls.
    pub(super) fn outermost(tight: bool, logged: Vec<RuleCall>) -> Self {
        Self { tight, logged, ..Self::default() }
    }

    fn walk(&mut self, steps: &[Step], first: u32) -> Verdict {
        let last = steps.len().saturating_sub(1);
        let replaced = self.replaced;
        for (position, (number, step)) in numbered(steps, first).enumerate() {
            self.replaced = replaced && position == last;
            if let Step::Exec(Exec { expect: None, .. }) = step {
                hold(position == last, number, || {
                    "is an exec with steps behind it (hint: put them inside)".into()
                })?;
            }
            self.check(step, number)?;
        }
        Ok(())
    }

    pub(super) fn check(&mut self, step: &Step, number: u32) -> Verdict {
        match step {
            Step::Fence {}
            | Step::Rule(_)
            | Step::Audit { .. }
            | Step::Meddle(_)
            | Step::Backlog { .. }
            | Step::Lock {} => hold(false, number, || {
                "is for the outermost list (fence, rule, audit, backlog, lock, meddle)".into()
            }),
            Step::Spawn(spawn) => self.spawn(spawn, number),
            Step::Unshare(unshare) => self.unshare(unshare, number),
            Step::Setns(setns) => self.setns(setns, number),
            Step::Exec(exec) => self.exec(exec, number),
            Step::Probe(kind) => self.probe(*kind, number),
            Step::Processes { .. } => Ok(()),
            Step::DropCapabilities {} => {
                self.powerless = true;
                Ok(())
            }
            Step::Census {} => hold(!self.user && !self.pid, number, || {
                "is a census from inside a user or pid namespace, which has no power over tasks outside of it"
                    .into()
            }),
            Step::Splat(_) => hold(!self.user, number, || {
                "breaks the kernel from inside a user namespace, which has no power over debugfs".into()
            }),
            Step::Become { uid } => {
                (self.powerless, self.stranger) = (true, true);
                hold(*uid != 0, number, || "becomes user 0, which it is (hint: any other uid)".into())
            }
            Step::Limit { .. } => {
                hold(self.user, number, || "would limit the guest's own user namespace".into())
            }
            Step::Release { label } => {
                let known = self.waiting.len();
                self.waiting.retain(|waiting| waiting != label);
                hold(self.waiting.len() < known, number, || {
                    format!("releases `{label}`, which is not the label of a task that this task made")
                })
            }
            Step::Together { labels } => {
                hold((2..=16).contains(&labels.len()), number, || {
                    format!("ends {} tasks together, expected 2 to 16", labels.len())
                })?;
                for label in labels {
                    hold(!self.parents.contains(label), number, || {
                        format!(
                            "ends `{label}` together with others, which has labelled tasks of its own to end first"
                        )
                    })?;
                    let known = self.waiting.len();
                    self.waiting.retain(|waiting| waiting != label);
                    hold(self.waiting.len() < known, number, || {
                        format!(
                            "ends `{label}`, which is not the label of a task that this task made, or names it twice"
                        )
                    })?;
                }
                Ok(())
            }
            Step::Nest(nest) => self.nest(nest, number),
            Step::Churn(churn) => check_churn(churn, number),
            Step::Web(web) => check_web(web, number),
            Step::Rejoin(rejoin) => {
                hold(!self.user && !self.powerless, number, || {
                    "joins namespaces from inside a user namespace or without capabilities, which has no power over them"
                        .into()
                })?;
                check_rejoin(rejoin, number)
            }
            Step::Repeat(repeat) => self.repeat(repeat, number),
            Step::Sysctl { name, value } => check_sysctl(name, *value, number),
            Step::Pin(pin) => self.pin(pin, number),
            Step::Unpin { name } => {
                let known = self.pins.len();
                self.pins.retain(|pin| pin.name != *name);
                hold(self.pins.len() < known, number, || {
                    format!("lets go of `{name}`, which this task does not hold")
                })
            }
            Step::Trace(trace) => self.trace(trace, number),
            Step::Listen {} => {
                hold(self.net, number, || {
                    "listens in the guest's own network namespace (hint: a spawn with `net`)".into()
                })?;
                self.listens = true;
                Ok(())
            }
            Step::Datagram(datagram) => {
                self.check_room(number)?;
                let target = &datagram.target;
                hold(self.listeners.contains(target), number, || {
                    format!(
                        "sends to `{target}`, which is no label of an earlier task that listens (hint: `listen` inside it)"
                    )
                })
            }
            Step::Interrupt(step) => self.interrupt(step, number),
            Step::NoMemory(step) => self.no_memory(step, number),
            Step::Every(_) => hold(false, number, || "is `every`, which is written out before".into()),
            Step::Absent(_) => {
                hold(false, number, || "is `absent`, which only nstrail itself writes (hint: `since`)".into())
            }
        }
    }

    fn trace(&self, trace: &Trace, number: u32) -> Verdict {
        let target = &trace.target;
        hold(self.labels.contains(target), number, || {
            format!("traces `{target}`, which is no label of an earlier task")
        })?;
        hold(!self.pid, number, || {
            "traces from inside a new pid namespace, where the other task has no number".into()
        })
    }

    fn interrupt(&self, step: &Interrupt, number: u32) -> Verdict {
        hold(matches!(step.call, SpawnCall::Clone | SpawnCall::Clone3), number, || {
            "is an interrupt of a call without flags (hint: clone, clone3)".into()
        })?;
        hold(!step.flags.is_empty() && step.hits > 0 && step.hits <= step.tries, number, || {
            "is an interrupt without flags or hits, or with fewer tries than hits".into()
        })?;
        check_time(step.call != SpawnCall::Clone, &step.flags, number)?;
        hold(self.waiting.is_empty(), number, || {
            "is an interrupt in a task with labelled children, which it would reap".into()
        })
    }

    fn no_memory(&self, step: &NoMemory, number: u32) -> Verdict {
        hold((step.call == EveryCall::Setns) == step.target.is_some(), number, || {
            "has a target that is not joined, or is a setns without one".into()
        })?;
        if let Some(target) = &step.target {
            hold(self.labels.contains(target), number, || {
                format!("joins `{target}`, which is no label of an earlier task")
            })?;
        }
        hold(!step.flags.is_empty(), number, || "asks for no namespace".into())?;
        check_time(step.call != EveryCall::Clone, &step.flags, number)
    }

    /// The place of a task made here.
    fn below(&self, flags: &[NamespaceType]) -> Self {
        Self {
            labels: self.labels.clone(),
            pins: self.pins.clone(),
            user: self.user || flags.contains(&NamespaceType::User),
            pid: self.pid || flags.contains(&NamespaceType::Pid),
            net: self.net || flags.contains(&NamespaceType::Net),
            listeners: self.listeners.clone(),
            powerless: self.powerless && !flags.contains(&NamespaceType::User),
            stranger: self.stranger,
            tight: self.tight,
            logged: self.logged.clone(),
            init: flags.contains(&NamespaceType::Pid),
            doomed_with_all: self.doomed_with_all,
            ..Self::default()
        }
    }

    fn spawn(&mut self, spawn: &Spawn, number: u32) -> Verdict {
        check_call(spawn, number)?;
        if spawn.expect.is_some() {
            return hold(
                spawn.inside.is_empty() && spawn.label.is_none() && spawn.death == Death::Exit,
                number,
                || "is expected to fail, so it can have no steps inside, label or death".into(),
            );
        }
        hold(spawn.fault.is_none(), number, || "has a fault but expects no failure".into())?;
        if let Some(tid) = spawn.tid {
            let at_home =
                !self.pid && !self.user && !self.powerless && !spawn.flags.contains(&NamespaceType::Pid);
            let fits = spawn.call == SpawnCall::Clone3 && at_home && (301..1 << 22).contains(&tid);
            hold(fits, number, || {
                format!(
                    "asks for number {tid} (hint: clone3, 301 to 4194303, below kernel.pid_max, by a task with its capabilities in the initial user and pid namespaces)"
                )
            })?;
        }
        hold(spawn.since.is_none() || spawn.label.is_none(), number, || {
            "has a label, which others may need, so it cannot be left out".into()
        })?;
        hold(spawn.refused_before.is_none() || spawn.label.is_none(), number, || {
            "has a label, which others may need, so no kernel may refuse it".into()
        })?;
        let has = |flag| spawn.with.contains(&flag);
        let thread = has(SpawnFlag::Thread);
        let shares = spawn.call == SpawnCall::Vfork || has(SpawnFlag::Vm);
        let parent = has(SpawnFlag::Parent);
        let simple = spawn.label.is_none() && spawn.death == Death::Exit;
        hold(simple || !(shares || parent), number, || {
            "shares memory or its maker's parent, so it can only exit, and have no label".into()
        })?;
        hold(spawn.label.is_none() || spawn.death == Death::Exit, number, || {
            "has a label, so it ends by its release".into()
        })?;
        let pid = spawn.flags.contains(&NamespaceType::Pid);
        if spawn.death == Death::Orphan || parent {
            hold(self.adopted && !pid, number, || {
                "is left to its maker's parent, which only another spawn's maker can be, and not from a new pid namespace".into()
            })?;
            hold(spawn.death != Death::Orphan || !self.init, number, || {
                "would outlive the init of its pid namespace".into()
            })?;
        }
        hold(spawn.label.is_none() || !self.doomed || self.doomed_with_all, number, || {
            "waits for a maker that will be killed or replaced (hint: kill a spawn with `pid`, and all below die with it)"
                .into()
        })?;
        let ends_in_exec = matches!(spawn.inside.last(), Some(Step::Exec(Exec { expect: None, .. })));
        hold(spawn.death != Death::Exec || !ends_in_exec, number, || {
            "dies of an exec, and its steps end with another one (hint: a spawn inside that exec)".into()
        })?;
        hold(spawn.death != Death::Replaced || ends_in_replacement(&spawn.inside), number, || {
            "is to be replaced, so its last step must spawn a thread on every kernel, whose last step is an exec"
                .into()
        })?;
        let early = matches!(spawn.death, Death::Kill | Death::Exec | Death::Replaced);
        let mut inside = Self {
            thread,
            lends_memory: shares && spawn.call != SpawnCall::Vfork && !has(SpawnFlag::Vfork),
            adopted: !shares && !parent && spawn.death == Death::Exit && spawn.label.is_none(),
            replaces: thread && self.replaced,
            replaced: spawn.death == Death::Replaced,
            doomed: self.doomed_with_all || early,
            doomed_with_all: self.doomed_with_all || early && pid && spawn.death != Death::Replaced,
            ..self.below(&spawn.flags)
        };
        inside.walk(&spawn.inside, number + 1)?;
        if let Some(label) = &spawn.label {
            let reserved = label == "self" || label == "init" || self.labels.contains(label);
            hold(!reserved, number, || format!("has the label `{label}`, which means another task already"))?;
            self.labels.push(label.clone());
            self.waiting.push(label.clone());
            if inside.listens {
                self.listeners.push(label.clone());
            }
            if !inside.waiting.is_empty() {
                self.parents.push(label.clone());
            }
        }
        Ok(())
    }

    fn unshare(&mut self, unshare: &Unshare, number: u32) -> Verdict {
        hold(!unshare.flags.is_empty() || unshare.unknown != 0, number, || "unshares nothing".into())?;
        hold(!unshare.empty_mntns || unshare.flags.contains(&NamespaceType::Mnt), number, || {
            "asks for an empty mount namespace without `mnt`".into()
        })?;
        let unknown = u64::from(unshare.unknown);
        hold(unknown & nstrail_wire::namespace::CLONE_NEW_ALL == 0, number, || {
            "has namespace types among its unknown bits (hint: name them in flags)".into()
        })?;
        let gets = |r#type| unshare.expect.is_none() && unshare.flags.contains(&r#type);
        self.user |= gets(NamespaceType::User);
        self.net |= gets(NamespaceType::Net);
        Ok(())
    }

    fn setns(&mut self, setns: &Setns, number: u32) -> Verdict {
        hold(!setns.types.is_empty(), number, || "joins nothing".into())?;
        let target = &setns.target;
        let pin = self.pins.iter().find(|pin| pin.name == *target);
        if let Some(pin) = pin {
            hold(
                setns.by == JoinBy::Nsfs && setns.types.iter().all(|r#type| pin.types.contains(r#type)),
                number,
                || {
                    format!(
                        "joins `{target}`, which is a pin: by nsfs only, and only the types that it holds"
                    )
                },
            )?;
        }
        let known = target == "self" || target == "init" || self.labels.contains(target) || pin.is_some();
        hold(known || matches!(setns.by, JoinBy::OrdinaryFile | JoinBy::ClosedFile), number, || {
            format!("joins `{target}`, which is no label of an earlier task (hint: or `self`, `init`)")
        })?;
        let joins = |r#type| setns.expect.is_none() && setns.types.contains(&r#type);
        self.user |= joins(NamespaceType::User);
        self.net |= joins(NamespaceType::Net) && target != "init";
        Ok(())
    }

    fn repeat(&mut self, repeat: &Repeat, number: u32) -> Verdict {
        hold((1..=1_000_000).contains(&repeat.times), number, || {
            format!("repeats {} times, expected 1 to 1000000", repeat.times)
        })?;
        let mut place = Self { replaced: false, ..self.clone() };
        place.walk(&repeat.inside, number + 1)?;
        // A name would mean another thing each time.
        let same = place.waiting == self.waiting && place.pins == self.pins;
        hold(same, number, || {
            "repeats steps that leave a label or a pin behind (hint: release, unpin)".into()
        })?;
        hold(
            !repeat.inside.iter().any(|step| matches!(step, Step::Exec(Exec { expect: None, .. }))),
            number,
            || "repeats an exec, which does not come back".into(),
        )?;
        self.user |= place.user;
        Ok(())
    }

    fn pin(&mut self, pin: &Pin, number: u32) -> Verdict {
        let (name, target) = (&pin.name, &pin.target);
        hold(!pin.types.is_empty(), number, || "pins nothing".into())?;
        let new = matches!(pin.by, PinBy::OpenTree | PinBy::Fsmount);
        hold(!new || pin.types == [NamespaceType::Mnt] && target == "self", number, || {
            format!(
                "pins by {:?}, which makes a mount namespace of the task's own (hint: types = [\"mnt\"], target = \"self\")",
                pin.by
            )
        })?;
        hold(target == "self" || self.labels.contains(target), number, || {
            format!("pins namespaces of `{target}`, which is no label of an earlier task (hint: or `self`)")
        })?;
        let taken = name == "self" || name == "init" || self.labels.contains(name);
        hold(!taken && self.pins.iter().all(|other| other.name != *name), number, || {
            format!("has the name `{name}`, which means something already")
        })?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        hold(!name.is_empty() && name.bytes().all(plain), number, || {
            format!("has the name `{name}`, expected letters, digits and `-`")
        })?;
        self.pins.push(pin.clone());
        Ok(())
    }

    fn exec(&mut self, exec: &Exec, number: u32) -> Verdict {
        if exec.expect.is_some() {
            return hold(exec.inside.is_empty(), number, || {
                "is expected to fail, so it can have no steps inside".into()
            });
        }
        hold(self.replaces || !self.thread && !self.lends_memory, number, || {
            "is an exec in a task that shares its maker's memory (hint: vfork can; and a thread whose maker has death = \"replaced\")".into()
        })?;
        self.walk(&exec.inside, number + 1)
    }

    fn probe(&self, kind: ProbeKind, number: u32) -> Verdict {
        hold(kind != ProbeKind::Ptrace, number, || {
            "is a probe Ptrace, which needs a task to attach to (hint: the step `trace`)".into()
        })?;
        hold(!matches!(kind, ProbeKind::Sent | ProbeKind::Received), number, || {
            format!("is a probe {kind:?}, which needs a task to send to (hint: the step `datagram`)")
        })?;
        if kind.is_packet() || kind == ProbeKind::Promiscuous {
            self.check_room(number)?;
        }
        let rule = match kind {
            ProbeKind::Rename => Some((RuleCall::Rename, "exit", "rename")),
            ProbeKind::IoUringInline | ProbeKind::IoUringPoller => {
                Some((RuleCall::UringOpenat, "io_uring", "uring_openat"))
            }
            _ => None,
        };
        if let Some((call, list, name)) = rule {
            hold(self.logged.contains(&call), number, || {
                format!(
                    "is a probe {kind:?} without a rule that logs it (hint: rule, list {list}, action always, calls = [\"{name}\"])"
                )
            })?;
        }
        hold(kind != ProbeKind::IoUringReused, number, || {
            "is a probe IoUringReused, which is what becomes of an IoUring if it finds a worker (hint: io_uring)".into()
        })?;
        hold(kind != ProbeKind::Promiscuous || self.net && !self.powerless, number, || {
            "renames the loopback device, so it needs a network namespace of its own and power over it".into()
        })?;
        hold(!(self.stranger && matches!(kind, ProbeKind::Rename | ProbeKind::IoUring)), number, || {
            format!("is a probe {kind:?} of a user who may not write to the root folder")
        })?;
        let netlink = matches!(
            kind,
            ProbeKind::UserMessage
                | ProbeKind::UserLogin
                | ProbeKind::UserAnomaly
                | ProbeKind::ConfigChange
                | ProbeKind::Listener
        );
        hold(!(self.user && (netlink || kind == ProbeKind::Login)), number, || {
            format!(
                "is a probe {kind:?} outside the initial user namespace, where audit refuses it (hint: syscall, seccomp)"
            )
        })?;
        hold(!(self.pid && kind == ProbeKind::ConfigChange), number, || {
            "is a probe ConfigChange outside the initial pid namespace, where audit refuses it".into()
        })
    }

    /// What a packet or a promiscuous device causes is logged where nobody can wait for room.
    fn check_room(&self, number: u32) -> Verdict {
        hold(!self.tight, number, || {
            "logs what cannot wait while few records may: it might be lost (hint: `backlog = {}` before)"
                .into()
        })
    }

    fn nest(&self, nest: &Nest, number: u32) -> Verdict {
        let spawn = Spawn::plain(nest.call, nest.flags.clone());
        check_call(&spawn, number)?;
        hold((1..=1000).contains(&nest.depth), number, || {
            format!("nests {} deep, expected 1 to 1000", nest.depth)
        })?;
        hold(matches!(nest.death, Death::Exit | Death::Kill), number, || {
            format!("is a nest with death {:?}, expected exit or kill", nest.death)
        })?;
        let killed = nest.death == Death::Kill;
        hold(!killed || nest.flags.contains(&NamespaceType::Pid), number, || {
            "is a nest that is killed without `pid`: nothing would end the levels below the first".into()
        })?;
        let mut level = self.below(&nest.flags);
        level.doomed |= killed;
        level.doomed_with_all |= killed;
        level.walk(&nest.each, number + 1)?;
        level.walk(&nest.inside, number + 1 + size(&nest.each))
    }
}

/// Whether the last of these steps spawns, whatever the kernel, a thread whose last step is an exec.
fn ends_in_replacement(steps: &[Step]) -> bool {
    let Some(Step::Spawn(spawn)) = steps.last() else { return false };
    let has = |flag| spawn.with.contains(&flag);
    let everywhere = spawn.expect.is_none() && spawn.since.is_none() && spawn.refused_before.is_none();
    let execs = matches!(spawn.inside.last(), Some(Step::Exec(Exec { expect: None, .. })));
    // Nobody would be left to remove a cgroup.
    has(SpawnFlag::Thread) && !has(SpawnFlag::IntoCgroup) && everywhere && execs
}
