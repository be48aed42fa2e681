// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ledgers that no honest guest can tell: they cost no more than others, and no panic.

use nstrail_wire::{
    fact::{Act, ActorId, Call, Fact},
    namespace::{NamespaceEntry, NamespaceSet, NamespaceType},
};

use super::{check_sim, sim::Sim};
use crate::check::{LossProof, Outcome};

/// An empty run into which the guest has put these facts, before the last fence.
fn told(facts: &[(u64, u32, Act)]) -> Vec<String> {
    let mut sim = Sim::new();
    sim.finish();
    let fence = sim.ledger.iter().rposition(|fact| matches!(fact.act, Act::Fence { .. })).unwrap();
    let lies = facts.iter().map(|(actor, number, act)| Fact {
        actor: ActorId(*actor),
        number: *number,
        tid: 100 + *actor as u32,
        pid: 100 + *actor as u32,
        step: 0,
        act: act.clone(),
    });
    sim.ledger.splice(fence..fence, lies);
    let result = check_sim(&sim);
    assert_ne!(result.outcome(), Outcome::Passed, "a lie passes");
    match result.loss {
        LossProof::Proven => Vec::new(),
        LossProof::NotProven { reasons } => reasons,
    }
}

fn start(parent: u64, flags: u64, pid_namespace: u32) -> Act {
    let mut set = NamespaceSet::default();
    set.set(NamespaceEntry::Pid, pid_namespace);
    Act::Start {
        parent: Some(ActorId(parent)),
        call: Call::Clone3,
        flags,
        parent_set: NamespaceSet::default(),
        set,
    }
}

#[test]
fn two_tasks_that_made_each_other_come_to_an_end() {
    let init = start(1, NamespaceType::Pid.flag(), 7);
    let reasons = told(&[
        (50, 0, init),
        (51, 0, start(52, 0, 8)),
        (52, 0, start(51, 0, 8)),
        (53, 0, start(53, 0, 8)),
        (1, 1000, Act::Reaped { child: ActorId(50), tid: 150, status: 0 }),
    ]);
    assert!(reasons.iter().any(|reason| reason == "what task 53 told waits for itself"), "{reasons:?}");
}
