// SPDX-License-Identifier: MIT OR Apache-2.0
//! What no type can say about a scenario: steps that cannot work where they stand.
//!
//! The agent would find most of these too, but in a guest, minutes later, and some only as a silence. What the *kernel*
//! refuses is not objected to: a scenario may expect that.

mod fields;
mod place;
#[cfg(test)]
mod tests;

use nstrail_wire::{
    rule::{Rule, RuleAction, RuleCall, RuleField, RuleList},
    scenario::{Scenario, numbered, size},
    step::{EveryCall, RuleStep, Step},
};
use thiserror::Error;

use self::place::Place;

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
    let mut outermost =
        Outermost { rules: Vec::new(), logged: Vec::new(), audit: true, tight: false, locked: false };
    let mut place = Place::default();
    for (number, step) in numbered(&scenario.steps, 0) {
        if step.is_control() {
            outermost.check(step, number)?;
            if !matches!(step, Step::Audit { .. }) {
                // The stage that knew them is gone.
                let logged = outermost.logged.iter().map(|(_, call)| *call).collect();
                place = Place::outermost(outermost.tight, logged);
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

/// Calls and operations that no event tells of without a rule.
const PROBED: [RuleCall; 2] = [RuleCall::Rename, RuleCall::UringOpenat];

/// What the agent's main task has done so far.
struct Outermost {
    rules: Vec<String>,
    /// The calls and operations that they log, each with the rule's key.
    logged: Vec<(String, RuleCall)>,
    audit: bool,
    /// Few records may wait.
    tight: bool,
    /// Nothing of audit can be changed any more.
    locked: bool,
}

impl Outermost {
    fn check(&mut self, step: &Step, number: u32) -> Verdict {
        let changes = !matches!(step, Step::Fence {} | Step::Absent(_));
        hold(!(self.locked && changes), number, || "would change audit, which is locked by then".into())?;
        match step {
            Step::Lock {} => {
                hold(self.audit, number, || "locks audit while it is off".into())?;
                self.locked = true;
                Ok(())
            }
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
                if rule.action == RuleAction::Always {
                    let named = |call: &RuleCall| {
                        call.list() == rule.list && (rule.calls.is_empty() || rule.calls.contains(call))
                    };
                    self.logged.extend(PROBED.into_iter().filter(named).map(|call| (key.clone(), call)));
                }
                check_rule(rule, number)
            }
            Step::Rule(RuleStep::Remove(key)) => {
                let known = self.rules.len();
                self.rules.retain(|rule| rule != key);
                self.logged.retain(|(rule, _)| rule != key);
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
