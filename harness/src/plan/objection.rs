// SPDX-License-Identifier: MIT OR Apache-2.0
//! What no type can say about a scenario: steps that cannot work where they stand.
//!
//! The agent would find most of these too, but in a guest, minutes later, and some only as a silence. What the *kernel*
//! refuses is not objected to: a scenario may expect that.

use nstrail_wire::{
    fact::ProbeKind,
    namespace::NamespaceType,
    rule::{Rule, RuleAction, RuleCall, RuleField, RuleList},
    scenario::{Scenario, numbered, size},
    step::{
        Churn, Death, EveryCall, Exec, Fault, Interrupt, JoinBy, Nest, NoMemory, Pin, PinBy, Rejoin, Repeat,
        RuleStep, Setns, Spawn, SpawnCall, SpawnFlag, Step, Trace, Unshare, Web,
    },
};
use thiserror::Error;

/// A step that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("step {step} {reason}")]
pub struct Objection {
    /// Its preorder number, from 0.
    pub step: u32,
    pub reason: String,
}

type Verdict = Result<(), Objection>;

/// The first step that cannot work.
///
/// # Errors
/// That step, and why.
pub fn check(scenario: &Scenario) -> Verdict {
    let mut outermost = Outermost { rules: Vec::new(), renames: Vec::new(), audit: true, tight: false };
    let mut place = Place::default();
    for (number, step) in numbered(&scenario.steps, 0) {
        if step.is_control() {
            outermost.check(step, number)?;
            if !matches!(step, Step::Audit { .. }) {
                // The stage that knew them is gone.
                place = Place {
                    tight: outermost.tight,
                    renames_logged: !outermost.renames.is_empty(),
                    ..Place::default()
                };
            }
        } else {
            place.check(step, number)?;
        }
    }
    let end = size(&scenario.steps).saturating_sub(1);
    hold(outermost.audit, end, || "leaves audit off, and a run ends with a marker in the log".into())?;
    hold(outermost.rules.is_empty(), end, || {
        format!("leaves rule `{}` standing", outermost.rules.join("`, `"))
    })
}

/// Steps that all `every` together may be written out to.
const WRITTEN_OUT: u64 = 1 << 16;

/// The first `every` that cannot be written out. Numbers are those before that.
///
/// # Errors
/// That step, and why.
pub fn check_every(scenario: &Scenario) -> Verdict {
    let steps = written_out(&scenario.steps);
    for (number, step) in (0..).zip(scenario.preorder()) {
        let Step::Every(every) = step else { continue };
        let (call, types) = (every.call, &every.types);
        hold((1..=8).contains(&types.len()), number, || {
            format!("is `every` set of {} types, expected 1 to 8", types.len())
        })?;
        hold((call == EveryCall::Setns) == every.target.is_some(), number, || {
            "is `every` with a target that is not joined, or a setns without one".into()
        })?;
        hold(steps <= WRITTEN_OUT, number, || {
            format!("is `every` in a scenario of more than {WRITTEN_OUT} steps, once it is written out")
        })?;
    }
    Ok(())
}

/// How many steps these are when each `every` is written out.
fn written_out(steps: &[Step]) -> u64 {
    let of = |step: &Step| {
        let inside = step.parts().into_iter().map(written_out).fold(1, u64::saturating_add);
        match step {
            Step::Every(every) => {
                // A move is a step of its own inside the spawn.
                let moves = matches!(every.call, EveryCall::Unshare | EveryCall::Setns);
                let sets = (1_u64 << every.types.len().min(8)) - 1;
                inside.saturating_add(u64::from(moves)).saturating_mul(sets)
            }
            _ => inside,
        }
    };
    steps.iter().map(of).fold(0, u64::saturating_add)
}

fn hold(holds: bool, step: u32, reason: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Objection { step, reason: reason() }) }
}

/// What the agent's main task has done so far.
struct Outermost {
    rules: Vec<String>,
    /// Those of them that log a rename.
    renames: Vec<String>,
    audit: bool,
    /// Few records may wait.
    tight: bool,
}

impl Outermost {
    fn check(&mut self, step: &Step, number: u32) -> Verdict {
        match step {
            Step::Fence {} => {
                hold(self.audit, number, || "is a fence while audit is off: nothing marks it".into())
            }
            Step::Meddle(_) => hold(self.audit, number, || "meddles with audit while it is off".into()),
            Step::Backlog { limit } => {
                self.tight = limit.is_some();
                let limit = limit.unwrap_or(1);
                hold((1..=1 << 20).contains(&limit), number, || {
                    format!(
                        "lets {limit} records wait, expected 1 to 1048576 (hint: 0 would be no limit at all)"
                    )
                })
            }
            Step::Audit { enabled } => {
                self.audit = *enabled;
                Ok(())
            }
            Step::Rule(RuleStep::Add(rule)) => {
                let key = &rule.key;
                hold(!self.rules.contains(key), number, || {
                    format!("adds rule `{key}`, which stands already")
                })?;
                self.rules.push(key.clone());
                let named = rule.calls.is_empty() || rule.calls.contains(&RuleCall::Rename);
                if rule.list == RuleList::Exit && rule.action == RuleAction::Always && named {
                    self.renames.push(key.clone());
                }
                check_rule(rule, number)
            }
            Step::Rule(RuleStep::Remove(key)) => {
                let known = self.rules.len();
                self.rules.retain(|rule| rule != key);
                self.renames.retain(|rule| rule != key);
                hold(self.rules.len() < known, number, || {
                    format!("removes rule `{key}`, which does not stand")
                })
            }
            Step::Absent(_) => {
                hold(false, number, || "is `absent`, which only nstrail itself writes (hint: `since`)".into())
            }
            _ => Ok(()),
        }
    }
}

fn check_rule(rule: &Rule, number: u32) -> Verdict {
    let key = &rule.key;
    for call in &rule.calls {
        hold(call.list() == rule.list, number, || {
            format!("adds rule `{key}` for {call:?}, which belongs into list {:?}", call.list())
        })?;
    }
    for field in &rule.fields {
        let list = match field {
            RuleField::A0(_) | RuleField::A2(_) => RuleList::Exit,
            RuleField::RecordType(_) => RuleList::Exclude,
        };
        hold(list == rule.list, number, || {
            format!("adds rule `{key}` with {field:?}, which belongs into list {list:?}")
        })?;
    }
    hold(rule.list != RuleList::Exclude || !rule.fields.is_empty(), number, || {
        format!("adds rule `{key}`, which would exclude every record, fences too")
    })
}

/// What is known of the task that does a step.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Labels that a setns can name.
    labels: Vec<String>,
    /// Labels of children that wait.
    waiting: Vec<String>,
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
    /// A rule logs each rename.
    renames_logged: bool,
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

    fn check(&mut self, step: &Step, number: u32) -> Verdict {
        match step {
            Step::Fence {} | Step::Rule(_) | Step::Audit { .. } | Step::Meddle(_) | Step::Backlog { .. } => {
                hold(false, number, || "is for the outermost list (fence, rule, audit, backlog)".into())
            }
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
                self.check_packet(number)?;
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
            renames_logged: self.renames_logged,
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
        if kind.is_packet() {
            self.check_packet(number)?;
        }
        hold(kind != ProbeKind::Rename || self.renames_logged, number, || {
            "is a probe Rename without a rule that logs it (hint: rule, list exit, action always, calls = [\"rename\"])".into()
        })?;
        hold(!(self.stranger && matches!(kind, ProbeKind::Rename | ProbeKind::IoUring)), number, || {
            format!("is a probe {kind:?} of a user who may not write to the root folder")
        })?;
        let netlink = matches!(kind, ProbeKind::UserMessage | ProbeKind::ConfigChange | ProbeKind::Listener);
        hold(!(self.user && (netlink || kind == ProbeKind::Login)), number, || {
            format!(
                "is a probe {kind:?} outside the initial user namespace, where audit refuses it (hint: syscall, seccomp)"
            )
        })?;
        hold(!(self.pid && kind == ProbeKind::ConfigChange), number, || {
            "is a probe ConfigChange outside the initial pid namespace, where audit refuses it".into()
        })
    }

    /// What a packet causes is logged where nobody can wait for room.
    fn check_packet(&self, number: u32) -> Verdict {
        hold(!self.tight, number, || {
            "logs a packet while few records may wait: it might be lost, for it cannot wait (hint: `backlog = {}` before)"
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

/// Calls and flags that do not go together because one cannot express the other.
fn check_call(spawn: &Spawn, number: u32) -> Verdict {
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
fn check_time(has_room: bool, flags: &[NamespaceType], number: u32) -> Verdict {
    hold(has_room || !flags.contains(&NamespaceType::Time), number, || {
        "passes `time` to clone, where its bit is part of the exit signal (hint: clone3 or unshare)".into()
    })
}

fn check_web(web: &Web, number: u32) -> Verdict {
    hold((2..=300).contains(&web.containers), number, || {
        format!("is a web of {} containers, expected 2 to 300", web.containers)
    })?;
    check_joins(web.workers, web.joins, &web.types, number)
}

fn check_rejoin(rejoin: &Rejoin, number: u32) -> Verdict {
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

fn check_sysctl(name: &str, value: u32, number: u32) -> Verdict {
    hold(name == "kernel.pid_max" && (301..=4_194_304).contains(&value), number, || {
        format!("sets {name} to {value}, expected kernel.pid_max, 301 to 4194304")
    })
}

fn check_churn(churn: &Churn, number: u32) -> Verdict {
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

#[cfg(test)]
#[path = "objection_tests.rs"]
mod tests;
