// SPDX-License-Identifier: MIT OR Apache-2.0
//! One scenario for each objection, and what the embedded ones must cover.

use std::path::Path;

use nstrail_wire::{
    fact::ProbeKind,
    namespace::NamespaceType,
    step::{JoinBy, Spawn, SpawnCall},
};

use super::*;
use crate::plan::scenario::{EMBEDDED, parse};

fn objection(steps: &str) -> String {
    let text = format!("name = \"x\"\ndescription = \"y\"\n{steps}");
    parse(&text, Path::new("x.toml")).expect_err(steps).to_string()
}

fn embedded(name: &str) -> Scenario {
    let (_, text) = EMBEDDED.iter().find(|(known, _)| *known == name).unwrap();
    parse(text, Path::new(name)).unwrap()
}

#[test]
fn each_step_that_cannot_work_is_named_with_its_number() {
    let step = |step: &str| format!("[[step]]\nfence = {{}}\n[[step]]\n{step}\n");
    let cases = [
        ("spawn = { call = \"fork\", inside = [{ fence = {} }] }", "step 2 is for the outermost list"),
        ("spawn = { call = \"fork\", flags = [\"uts\"] }", "takes none"),
        ("spawn = { call = \"clone\", flags = [\"time\"] }", "exit signal"),
        ("spawn = { call = \"clone\", with = [\"into_cgroup\"] }", "into_cgroup"),
        ("spawn = { call = \"clone\", fault = \"args\", expect = \"EFAULT\" }", "no argument"),
        ("spawn = { call = \"clone3\", fault = \"args\" }", "expects no failure"),
        (
            "spawn = { call = \"clone\", expect = \"EPERM\", inside = [{ probe = \"syscall\" }] }",
            "expected to fail",
        ),
        ("spawn = { call = \"vfork\", label = \"a\" }", "shares memory"),
        ("spawn = { call = \"vfork\", death = \"kill\" }", "shares memory"),
        ("spawn = { call = \"fork\", label = \"init\" }", "another task"),
        ("spawn = { call = \"fork\", death = \"orphan\" }", "maker's parent"),
        (
            "spawn = { call = \"fork\", death = \"kill\", inside = [{ spawn = { call = \"fork\", label = \"a\" } }] }",
            "step 2 waits for a maker",
        ),
        (
            "spawn = { call = \"clone\", flags = [\"pid\"], inside = [{ spawn = { call = \"fork\", death = \"orphan\" } }] }",
            "outlive the init",
        ),
        (
            "spawn = { call = \"clone\", with = [\"vm\"], inside = [{ exec = {} }] }",
            "step 2 is an exec in a task",
        ),
        ("spawn = { call = \"fork\", inside = [{ exec = {} }, { probe = \"syscall\" }] }", "steps behind it"),
        ("unshare = { flags = [] }", "unshares nothing"),
        ("lock = {}\n[[step]]\nbacklog = {}", "step 2 would change audit, which is locked by then"),
        ("audit = { enabled = false }\n[[step]]\nlock = {}", "step 2 locks audit while it is off"),
        ("spawn = { call = \"fork\", inside = [{ lock = {} }] }", "step 2 is for the outermost list"),
        ("together = { labels = [\"a\"] }", "ends 1 tasks together, expected 2 to 16"),
        ("together = { labels = [\"a\", \"b\"] }", "ends `a`, which is not the label"),
        (
            "spawn = { call = \"fork\", label = \"a\" }\n[[step]]\ntogether = { labels = [\"a\", \"a\"] }",
            "step 2 ends `a`, which is not the label of a task that this task made, or names it twice",
        ),
        (
            "spawn = { call = \"fork\", label = \"a\", inside = [{ spawn = { call = \"fork\", label = \"b\" } }] }\n[[step]]\n\
             spawn = { call = \"fork\", label = \"c\" }\n[[step]]\ntogether = { labels = [\"a\", \"c\"] }",
            "step 4 ends `a` together with others, which has labelled tasks of its own",
        ),
        ("spawn = { call = \"clone3\", tid = 300 }", "asks for number 300"),
        ("spawn = { call = \"clone\", tid = 1000 }", "asks for number 1000"),
        ("spawn = { call = \"clone3\", flags = [\"pid\"], tid = 1000 }", "asks for number 1000"),
        ("probe = \"promiscuous\"", "a network namespace of its own"),
        (
            "spawn = { call = \"clone3\", flags = [\"net\"], inside = [{ drop_capabilities = {} }, { probe = \"promiscuous\" }] }",
            "step 3 renames the loopback device",
        ),
        (
            "backlog = { limit = 4 }\n[[step]]\nspawn = { call = \"clone3\", flags = [\"net\"], inside = [{ probe = \"promiscuous\" }] }",
            "step 3 logs what cannot wait",
        ),
        ("probe = \"io_uring_inline\"", "calls = [\"uring_openat\"]"),
        ("probe = \"io_uring_poller\"", "calls = [\"uring_openat\"]"),
        ("probe = \"io_uring_reused\"", "hint: io_uring)"),
        (
            "spawn = { call = \"clone3\", flags = [\"user\"], inside = [{ probe = \"user_login\" }] }",
            "outside the initial user namespace",
        ),
        ("setns = { types = [\"uts\"], target = \"pod\", by = \"pidfd\" }", "`pod`, which is no label"),
        ("setns = { types = [], target = \"self\", by = \"pidfd\" }", "joins nothing"),
        ("release = { label = \"pod\" }", "`pod`"),
        (
            "spawn = { call = \"clone\", flags = [\"user\"], inside = [{ splat = \"warning\" }] }",
            "step 2 breaks the kernel from inside a user namespace",
        ),
        ("limit = { type = \"uts\", max = 0 }", "guest's own"),
        (
            "spawn = { call = \"clone\", flags = [\"user\"], inside = [{ probe = \"user_message\" }] }",
            "initial user namespace",
        ),
        (
            "spawn = { call = \"clone\", flags = [\"pid\"], inside = [{ probe = \"config_change\" }] }",
            "initial pid namespace",
        ),
        ("probe = \"sent\"", "the step `datagram`"),
        ("listen = {}", "own network namespace"),
        (
            "spawn = { call = \"fork\", inside = [{ spawn = { call = \"clone3\", flags = [\"net\"], label = \"a\" } }, \
             { datagram = { target = \"a\" } }] }",
            "step 3 sends to `a`",
        ),
        ("interrupt = { call = \"fork\", flags = [\"net\"], hits = 1, tries = 9 }", "without flags"),
        ("interrupt = { call = \"clone3\", flags = [\"net\"], hits = 9, tries = 1 }", "fewer tries"),
        ("interrupt = { call = \"clone\", flags = [\"time\"], hits = 1, tries = 9 }", "exit signal"),
        (
            "spawn = { call = \"fork\", inside = [{ spawn = { call = \"fork\", label = \"a\" } }, \
             { interrupt = { call = \"clone3\", flags = [\"net\"], hits = 1, tries = 9 } }] }",
            "would reap",
        ),
        ("no_memory = { call = \"setns\", flags = [\"uts\"], at_most = 9 }", "a setns without one"),
        (
            "no_memory = { call = \"setns\", flags = [\"uts\"], target = \"pod\", at_most = 9 }",
            "`pod`, which is no label",
        ),
        (
            "spawn = { call = \"clone3\", flags = [\"user\"], inside = [{ census = {} }] }",
            "no power over tasks outside",
        ),
        (
            "spawn = { call = \"clone3\", flags = [\"pid\"], inside = [{ census = {} }] }",
            "no power over tasks outside",
        ),
        ("no_memory = { call = \"clone3\", flags = [], at_most = 9 }", "asks for no namespace"),
        ("no_memory = { call = \"clone\", flags = [\"time\"], at_most = 9 }", "exit signal"),
        (
            "pin = { name = \"a\", target = \"self\", types = [\"uts\"], by = \"fsmount\" }",
            "makes a mount namespace",
        ),
        (
            "spawn = { call = \"clone\", flags = [\"mnt\"], with = [\"empty_mntns\"] }",
            "another call than clone3",
        ),
        ("spawn = { call = \"clone3\", with = [\"empty_mntns\"] }", "without `mnt`"),
        ("unshare = { flags = [\"uts\"], empty_mntns = true }", "without `mnt`"),
        ("every = { call = \"clone3\", types = [] }", "set of 0 types"),
        ("every = { call = \"setns\", types = [\"uts\"] }", "a setns without one"),
        ("every = { call = \"clone\", types = [\"time\"] }", "exit signal"),
        (
            "every = { call = \"unshare\", types = [\"mnt\", \"cgroup\", \"uts\", \"ipc\", \"user\", \"pid\", \"net\", \
             \"time\"], inside = [{ every = { call = \"clone3\", types = [\"mnt\", \"cgroup\", \"uts\", \"ipc\", \"user\", \"pid\", \"net\", \
             \"time\"], inside = [{ probe = \"syscall\" }] } }] }",
            "step 1 is `every` in a scenario of more than 65536 steps",
        ),
        (
            "spawn = { call = \"fork\", inside = [{ absent = { since = \"5.16\", numbers = 4294967295, control = false } }, \
             { absent = { since = \"5.16\", numbers = 2, control = false } }] }",
            "step 2 is `absent`",
        ),
        (
            "pin = { name = \"a\", target = \"pod\", types = [\"uts\"], by = \"file\" }",
            "`pod`, which is no label",
        ),
        (
            "pin = { name = \"self\", target = \"self\", types = [\"uts\"], by = \"file\" }",
            "means something already",
        ),
        ("pin = { name = \"a/b\", target = \"self\", types = [\"uts\"], by = \"mount\" }", "letters, digits"),
        (
            "spawn = { call = \"fork\", inside = [{ pin = { name = \"a\", target = \"self\", types = [\"uts\"], by = \"file\" } }, \
             { setns = { types = [\"ipc\"], target = \"a\", by = \"nsfs\" } }] }",
            "only the types that it holds",
        ),
        ("unpin = { name = \"a\" }", "does not hold"),
        ("repeat = { times = 0, inside = [] }", "0 times"),
        (
            "repeat = { times = 2, inside = [{ spawn = { call = \"fork\", label = \"a\" } }] }",
            "leave a label",
        ),
        ("repeat = { times = 2, inside = [{ exec = {} }] }", "does not come back"),
        ("sysctl = { name = \"kernel.panic\", value = 1 }", "kernel.panic to 1"),
        ("sysctl = { name = \"kernel.pid_max\", value = 1 }", "301 to"),
        ("become = { uid = 0 }", "becomes user 0"),
        ("web = { containers = 4, joins = 9, workers = 1, types = [\"user\"] }", "back and forth"),
        ("web = { containers = 1, joins = 9, workers = 1, types = [\"uts\"] }", "of 1 containers"),
        ("nest = { depth = 3, call = \"clone\", flags = [\"uts\"], death = \"kill\" }", "without `pid`"),
        ("nest = { depth = 0, call = \"clone\", flags = [\"uts\"] }", "0 deep"),
        ("rule = { remove = \"a\" }", "does not stand"),
        (
            "rule = { add = { key = \"a\", list = \"exit\", action = \"always\" } }",
            "leaves rule `a` standing",
        ),
        ("rule = { add = { key = \"a\", list = \"exclude\", action = \"always\" } }", "every record"),
        (
            "rule = { add = { key = \"a\", list = \"exit\", action = \"always\", calls = [\"uring_mkdirat\"] } }",
            "IoUring",
        ),
        ("audit = { enabled = false }", "leaves audit off"),
        ("backlog = { limit = 0 }", "lets 0 records wait"),
        ("rejoin = { joins = 9, workers = 1, types = [\"pid\"] }", "back and forth"),
        (
            "spawn = { call = \"clone\", flags = [\"user\"], inside = [{ rejoin = { joins = 9, workers = 1, types = [\"uts\"] } }] }",
            "no power over them",
        ),
        (
            "spawn = { call = \"fork\", inside = [{ drop_capabilities = {} }, { spawn = { call = \"fork\", inside = [{ rejoin = { joins = 9, workers = 1, types = [\"uts\"] } }] } }] }",
            "no power over them",
        ),
        (
            "backlog = { limit = 9 }\n[[step]]\nspawn = { call = \"fork\", inside = [{ probe = \"packet\" }] }",
            "cannot wait",
        ),
        ("spawn = { call = \"fork\", inside = [{ probe = \"rename\" }] }", "without a rule that logs it"),
        (
            "rule = { add = { key = \"a\", list = \"exit\", action = \"always\", calls = [\"rename\"] } }\n[[step]]\n\
             spawn = { call = \"fork\", inside = [{ become = { uid = 9 } }, { probe = \"rename\" }] }",
            "may not write",
        ),
        (
            "spawn = { call = \"fork\", death = \"replaced\", inside = [\
             { spawn = { call = \"clone\", with = [\"vm\", \"sighand\", \"thread\"], inside = [{ exec = {} }] } }, \
             { spawn = { call = \"clone\", with = [\"vm\", \"sighand\", \"thread\"], inside = [{ exec = {} }] } }] }",
            "step 3 is an exec in a task",
        ),
        (
            "spawn = { call = \"fork\", death = \"replaced\", inside = [\
             { spawn = { call = \"clone\", with = [\"vm\", \"sighand\", \"thread\"], since = \"6.3\", inside = [{ exec = {} }] } }] }",
            "on every kernel",
        ),
        ("rejoin = { joins = 9, workers = 10, types = [\"uts\"] }", "10 workers for 9 joins"),
        ("rejoin = { joins = 9, workers = 1, types = [\"uts\"], look_every = 0 }", "never looks"),
        (
            "spawn = { call = \"fork\", inside = [{ backlog = { limit = 9 } }] }",
            "step 2 is for the outermost list",
        ),
        ("spawn = { call = \"vfork\", death = \"exec\" }", "shares memory"),
        ("spawn = { call = \"fork\", death = \"exec\", inside = [{ exec = {} }] }", "end with another one"),
        (
            "spawn = { call = \"fork\", death = \"exec\", inside = [{ spawn = { call = \"fork\", label = \"a\" } }] }",
            "step 2 waits for a maker",
        ),
        ("nest = { depth = 3, call = \"clone\", flags = [\"pid\"], death = \"exec\" }", "death Exec"),
        ("spawn = { call = \"fork\", death = \"replaced\" }", "must spawn a thread on every kernel"),
        (
            "spawn = { call = \"fork\", death = \"replaced\", inside = [{ spawn = { call = \"clone\", with = [\"vm\"], inside = [{ exec = {} }] } }] }",
            "must spawn a thread on every kernel",
        ),
        (
            "spawn = { call = \"fork\", inside = [{ spawn = { call = \"clone\", with = [\"vm\", \"sighand\", \"thread\"], inside = [{ exec = {} }] } }] }",
            "step 3 is an exec in a task",
        ),
    ];
    for (text, expected) in cases {
        let message = objection(&step(text));
        assert!(message.contains(expected), "{text}\ngives {message}\nwhich lacks {expected}");
        assert!(message.starts_with("x.toml: step "), "{message}");
    }
}

#[test]
fn a_churn_that_could_not_run_is_refused() {
    let churn = |workers: u32, pid_max: u32, probes: &str| {
        format!(
            "[[step]]\n[step.churn]\ncontainers = 100\nworkers = {workers}\npid_max = {pid_max}\nkinds = [[\"uts\"]]\n\
             probe_every = 1\nprobes = [{probes}]\nnest_every = 0\nfork_every = 0\nkill_every = 0\n"
        )
    };
    assert!(objection(&churn(0, 1000, "")).contains("0 workers"));
    assert!(objection(&churn(200, 1000, "")).contains("200 workers"));
    assert!(objection(&churn(4, 300, "")).contains("pid_max to 300"));
    assert!(objection(&churn(4, 1000, "\"login\"")).contains("not every container"));
    assert!(objection(&churn(4, 1000, "")).contains("no probes"));
    let with = |line: &str| churn(4, 1000, "\"syscall\"") + line + "\n";
    assert!(objection(&with("seconds = 0")).contains("0 seconds"));
    assert!(objection(&with("look_every = 0")).contains("look_every"));
    let killed = with("vfork = true").replace("kill_every = 0", "kill_every = 5");
    assert!(objection(&killed).contains("kill_every = 0"));
    assert!(objection(&with("vfork = true").replace("uts", "time")).contains("`time`"));
}

#[test]
fn numbers_are_preorder_and_the_agents_walk_agrees() {
    for (name, _) in EMBEDDED {
        let scenario = embedded(name);
        let preorder = scenario.preorder();
        fn walk(steps: &[Step], first: u32, preorder: &[&Step]) {
            for (number, step) in numbered(steps, first) {
                assert_eq!(preorder[number as usize], step);
                let mut inner = number + 1;
                for part in step.parts() {
                    walk(part, inner, preorder);
                    inner += size(part);
                }
            }
        }
        walk(&scenario.steps, 0, &preorder);
        assert_eq!(preorder.len(), size(&scenario.steps) as usize);
    }
}

/// Successful spawns with a namespace type, and their steps.
fn containers(scenario: &Scenario) -> Vec<&Spawn> {
    let steps = scenario.preorder().into_iter();
    steps
        .filter_map(|step| match step {
            Step::Spawn(spawn) if spawn.expect.is_none() && !spawn.flags.is_empty() => Some(spawn),
            _ => None,
        })
        .collect()
}

#[test]
fn smoke_has_an_event_from_inside_each_container() {
    let smoke = embedded("smoke");
    for spawn in containers(&smoke) {
        let probes = spawn.inside.iter().any(|step| matches!(step, Step::Probe(_)));
        assert!(probes, "{spawn:?}");
    }
    // A task that has moved itself is heard before it moves again (or, refused to, where it still is).
    fn after_moves(steps: &[Step]) {
        for (at, step) in steps.iter().enumerate() {
            let moves = match step {
                Step::Unshare(unshare) => unshare.expect.is_none(),
                Step::Setns(setns) => setns.expect.is_none(),
                _ => false,
            };
            if moves {
                let heard = steps[at + 1..].iter().any(|later| matches!(later, Step::Probe(_)));
                let ends_in_failures = steps[at + 1..]
                    .iter()
                    .all(|later| matches!(later, Step::Unshare(unshare) if unshare.expect.is_some()));
                assert!(heard || ends_in_failures, "{step:?} among {steps:?}");
            }
            step.parts().into_iter().for_each(after_moves);
        }
    }
    after_moves(&smoke.steps);
}

#[test]
fn smoke_has_every_operation_of_g1_with_every_type_it_takes() {
    let smoke = embedded("smoke");
    let steps = smoke.preorder();
    for r#type in NamespaceType::ALL {
        for call in [SpawnCall::Clone, SpawnCall::Clone3] {
            if call == SpawnCall::Clone && r#type == NamespaceType::Time {
                continue;
            }
            let alone =
                containers(&smoke).into_iter().any(|spawn| spawn.call == call && spawn.flags == [r#type]);
            // A network namespace costs as much as ten others: by clone3 it is made among the others only.
            let alone = alone || call == SpawnCall::Clone3 && r#type == NamespaceType::Net;
            let all = containers(&smoke).into_iter().any(|spawn| spawn.call == call && spawn.flags.len() > 6);
            assert!(alone && all, "{call:?} {type:?}");
        }
        let unshared = steps.iter().any(|step| {
            matches!(step, Step::Unshare(unshare) if unshare.expect.is_none() && unshare.flags == [r#type])
        });
        assert!(unshared, "unshare {type:?}");
        for by in [JoinBy::Nsfs, JoinBy::Pidfd] {
            // A user namespace is joined by pidfd, together with what it owns.
            let joined = steps.iter().any(|step| {
                matches!(step, Step::Setns(s) if s.expect.is_none() && s.by == by && s.types.contains(&r#type))
            });
            assert!(joined || by == JoinBy::Nsfs && r#type == NamespaceType::User, "{by:?} {type:?}");
        }
    }
    for kind in [
        ProbeKind::UserMessage,
        ProbeKind::Syscall,
        ProbeKind::Seccomp,
        ProbeKind::Login,
        ProbeKind::ConfigChange,
        ProbeKind::Packet,
        ProbeKind::NftPacket,
        ProbeKind::IoUring,
        ProbeKind::Abend,
        ProbeKind::Rename,
    ] {
        assert!(steps.iter().any(|step| matches!(step, Step::Probe(found) if *found == kind)), "{kind:?}");
    }
    assert!(steps.iter().any(|step| matches!(step, Step::Exec(exec) if exec.expect.is_none())));
}
