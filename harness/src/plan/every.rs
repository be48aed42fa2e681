// SPDX-License-Identifier: MIT OR Apache-2.0
//! `every`, written out: a spawn for each set of namespace types.

use nstrail_wire::{
    namespace::NamespaceType,
    step::{Every, EveryCall, JoinBy, Setns, Spawn, SpawnCall, Step, Unshare},
};

/// The steps with each `every` among them, and inside them, written out.
#[must_use]
pub fn write_out(steps: Vec<Step>) -> Vec<Step> {
    let each = |step| match step {
        Step::Every(mut every) => {
            every.inside = write_out(every.inside);
            subsets(&every.types).into_iter().map(|types| spawn(&every, types)).collect()
        }
        Step::Spawn(mut spawn) => {
            spawn.inside = write_out(spawn.inside);
            vec![Step::Spawn(spawn)]
        }
        Step::Exec(mut exec) => {
            exec.inside = write_out(exec.inside);
            vec![Step::Exec(exec)]
        }
        Step::Nest(mut nest) => {
            nest.each = write_out(nest.each);
            nest.inside = write_out(nest.inside);
            vec![Step::Nest(nest)]
        }
        Step::Repeat(mut repeat) => {
            repeat.inside = write_out(repeat.inside);
            vec![Step::Repeat(repeat)]
        }
        other => vec![other],
    };
    steps.into_iter().flat_map(each).collect()
}

/// All but the empty one, in the order of the binary numbers whose bits are `types`.
fn subsets(types: &[NamespaceType]) -> Vec<Vec<NamespaceType>> {
    let of = |mask: u32| {
        let chosen = types.iter().enumerate().filter(|(bit, _)| mask & (1 << bit) != 0);
        chosen.map(|(_, r#type)| *r#type).collect()
    };
    (1..1_u32 << types.len()).map(of).collect()
}

fn spawn(every: &Every, types: Vec<NamespaceType>) -> Step {
    let move_to = |step: Step| (SpawnCall::Fork, Vec::new(), Some(step));
    let (call, flags, first) = match every.call {
        EveryCall::Clone => (SpawnCall::Clone, types, None),
        EveryCall::Clone3 => (SpawnCall::Clone3, types, None),
        EveryCall::Unshare => move_to(Step::Unshare(unshare(types))),
        EveryCall::Setns => move_to(Step::Setns(Setns {
            types,
            target: every.target.clone().unwrap_or_default(),
            by: JoinBy::Pidfd,
            passed: None,
            expect: None,
        })),
    };
    let inside = first.into_iter().chain(every.inside.iter().cloned()).collect();
    Step::Spawn(Spawn { inside, ..Spawn::plain(call, flags) })
}

const fn unshare(flags: Vec<NamespaceType>) -> Unshare {
    Unshare { flags, unknown: 0, empty_mntns: false, expect: None }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::plan::scenario;

    fn written(text: &str) -> Vec<Step> {
        let text = format!("name = \"x\"\ndescription = \"y\"\n[[step]]\n{text}\n");
        scenario::parse(&text, std::path::Path::new("x.toml")).unwrap().steps
    }

    #[test]
    fn eight_types_are_255_sets_and_each_is_another_one() {
        let steps = written(
            "every = { call = \"clone3\", inside = [{ probe = \"syscall\" }], \
             types = [\"time\", \"mnt\", \"cgroup\", \"uts\", \"ipc\", \"user\", \"pid\", \"net\"] }",
        );
        let flags: HashSet<Vec<NamespaceType>> = steps
            .iter()
            .map(|step| match step {
                Step::Spawn(spawn) => {
                    assert_eq!((spawn.call, spawn.inside.len()), (SpawnCall::Clone3, 1));
                    spawn.flags.clone()
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((steps.len(), flags.len()), (255, 255));
    }

    #[test]
    fn a_move_is_done_by_a_fork_before_what_is_inside() {
        let steps = written(
            "every = { call = \"unshare\", types = [\"uts\", \"ipc\"], inside = [{ probe = \"syscall\" }] }",
        );
        assert_eq!(steps.len(), 3);
        let Step::Spawn(last) = &steps[2] else { panic!("{steps:?}") };
        let both = vec![NamespaceType::Uts, NamespaceType::Ipc];
        assert_eq!(last.call, SpawnCall::Fork);
        assert_eq!(last.inside[0], Step::Unshare(unshare(both)));
        assert_eq!(last.inside.len(), 2);
    }

    #[test]
    fn it_is_written_out_inside_other_steps_too() {
        let steps = written(
            "spawn = { call = \"fork\", inside = [{ every = { call = \"clone\", types = [\"uts\", \"net\"] } }] }",
        );
        let Step::Spawn(outer) = &steps[0] else { panic!("{steps:?}") };
        assert_eq!(outer.inside.len(), 3);
    }
}
