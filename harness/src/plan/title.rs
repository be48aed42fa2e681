// SPDX-License-Identifier: MIT OR Apache-2.0
//! A step in a few words, for the reader of a snapshot.

use nstrail_wire::{
    namespace::NamespaceType,
    step::{RuleStep, Step},
};

/// What a step does, without what is inside it.
#[must_use]
pub fn title(step: &Step) -> String {
    match step {
        Step::Fence {} => "fence".to_owned(),
        Step::Rule(RuleStep::Add(rule)) => format!("add rule {}", rule.key),
        Step::Rule(RuleStep::Remove(key)) => format!("remove rule {key}"),
        Step::Audit { enabled: true } => "audit on".to_owned(),
        Step::Audit { enabled: false } => "audit off".to_owned(),
        Step::Spawn(spawn) => words("spawn", &spawn.flags),
        Step::Unshare(unshare) => words("unshare", &unshare.flags),
        Step::Setns(setns) => words("setns", &setns.types),
        Step::Exec(_) => "exec".to_owned(),
        Step::Probe(_) => "probe".to_owned(),
        Step::DropCapabilities {} => "drop capabilities".to_owned(),
        Step::Limit { r#type, max } => format!("limit {} to {max}", words("", &[*r#type]).trim()),
        Step::Release { label } => format!("release {label}"),
        Step::Nest(nest) => words(&format!("nest {} deep", nest.depth), &nest.flags),
        Step::Become { uid } => format!("become user {uid}"),
        Step::Processes { max } => format!("limit processes to {max}"),
        Step::Web(web) => {
            words(&format!("web of {} containers, {} joins:", web.containers, web.joins), &web.types)
        }
        Step::Repeat(repeat) => format!("repeat {} times", repeat.times),
        Step::Sysctl { name, value } => format!("sysctl {name}={value}"),
        Step::Every(every) => words("every set of", &every.types),
        Step::Pin(pin) => words(&format!("pin {} of {}:", pin.name, pin.target), &pin.types),
        Step::Unpin { name } => format!("unpin {name}"),
        Step::Trace(trace) => format!("trace {}", trace.target),
        Step::Listen {} => "listen".to_owned(),
        Step::Datagram(datagram) => format!("datagram to {}", datagram.target),
        Step::Interrupt(step) => words(&format!("kill in the middle of {:?}", step.call), &step.flags),
        Step::NoMemory(step) => words(&format!("{:?} without memory", step.call), &step.flags),
        Step::Census {} => "census".to_owned(),
        Step::Meddle(how) => format!("meddle: {how:?}"),
        Step::Splat(splat) => format!("splat {splat:?}"),
        Step::Rejoin(rejoin) => words(&format!("{} joins of the own", rejoin.joins), &rejoin.types),
        Step::Backlog { limit: Some(limit) } => format!("backlog of {limit} records"),
        Step::Together { labels } => format!("release {} together", labels.join(", ")),
        Step::Lock {} => "lock audit".to_owned(),
        Step::Backlog { limit: None } => "backlog as at boot".to_owned(),
        Step::Absent(absent) => format!("nothing before Linux {}", absent.since),
        Step::Churn(churn) => format!("churn {} containers, {} workers", churn.containers, churn.workers),
    }
}

fn words(verb: &str, types: &[NamespaceType]) -> String {
    let mut text = verb.to_owned();
    for r#type in types {
        text.push(' ');
        text.push_str(r#type.entry().name());
    }
    text
}
