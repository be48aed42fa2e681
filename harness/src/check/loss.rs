// SPDX-License-Identifier: MIT OR Apache-2.0
//! Proof that no record was lost, or the reasons why there is none (ARCHITECTURE.md: loss is never a pass).
//!
//! The kernel's `lost` counter alone proves little: exclude rules, a multicast overrun or anything while
//! audit is disabled are not counted. So every part must hold: the counter unchanged, nothing queued,
//! no rate limit, no suppressing rule, both sockets without overrun or drop, the two streams equal, every
//! record that the collector read also here, every fence of the ledger in the log, and audit turned off only by
//! the agent.

use nstrail_wire::fact::{AuditFact, AuditStatus, When};
use serde::Serialize;

/// Whether the log is known to be complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum LossProof {
    Proven,
    NotProven { reasons: Vec<String> },
}

impl LossProof {
    #[must_use]
    pub const fn is_proven(&self) -> bool {
        matches!(self, Self::Proven)
    }
}

/// The parts of the proof, as they come.
#[derive(Debug, Default)]
pub(super) struct LossEvidence {
    before: Option<AuditStatus>,
    after: Option<AuditStatus>,
    rules_before: Option<(u32, u32)>,
    rules_after: Option<(u32, u32)>,
    collected: Option<Collected>,
    disabled_by_agent: u64,
    enabled: bool,
    /// `audit_enabled=0` records in the log.
    disabled_in_log: u64,
    /// Changes of rules that can suppress records (lists `exclude` and `task`), less those that the agent told of.
    foreign_rules: i64,
    /// The first such change in the log.
    rule_change: Option<String>,
    /// Registrations of an audit daemon in the log.
    daemons: u64,
    /// Changes of the configuration that end a lossless log.
    foreign: Vec<String>,
    ledger_fences: Vec<u32>,
    log_fences: Vec<u32>,
    /// What is wrong with the ledger itself.
    ledger_faults: Vec<String>,
    /// A list of its own, because it is another stream.
    perf_faults: Vec<String>,
    records_behind_last_fence: u64,
}

#[derive(Debug)]
struct Collected {
    unicast: u64,
    multicast: u64,
    before_multicast: u64,
    first_difference: Option<u64>,
    overruns: u64,
    unicast_drops: u64,
    multicast_drops: u64,
}

impl LossEvidence {
    pub fn new() -> Self {
        Self { enabled: true, ..Self::default() }
    }

    pub fn audit(&mut self, fact: &AuditFact) {
        match *fact {
            AuditFact::Status { when: When::Before, status } => self.before = Some(status),
            AuditFact::Status { when: When::After, status } => self.after = Some(status),
            AuditFact::Rules { when: When::Before, exclude, task_never, .. } => {
                self.rules_before = Some((exclude, task_never));
            }
            AuditFact::Rules { when: When::After, exclude, task_never, .. } => {
                self.rules_after = Some((exclude, task_never));
            }
            AuditFact::Collected {
                unicast,
                multicast,
                before_multicast,
                first_difference,
                overruns,
                unicast_drops,
                multicast_drops,
            } => {
                self.collected = Some(Collected {
                    unicast,
                    multicast,
                    before_multicast,
                    first_difference,
                    overruns,
                    unicast_drops,
                    multicast_drops,
                });
            }
            AuditFact::Enabled(on) => {
                if self.enabled && !on {
                    self.disabled_by_agent += 1;
                }
                self.enabled = on;
            }
            AuditFact::Exposed { .. } => {}
            AuditFact::Rule { list, .. } => self.foreign_rules -= i64::from(suppresses(list)),
        }
    }

    pub fn ledger_fence(&mut self, number: u32) {
        self.ledger_fences.push(number);
    }

    pub fn log_fence(&mut self, number: u32) {
        self.log_fences.push(number);
        self.records_behind_last_fence = 0;
    }

    /// The kernel's `lost` counter at the end of the run.
    pub fn lost(&self) -> Option<u32> {
        self.after.map(|status| status.lost)
    }

    /// Records that the kernel counted as lost between the first step and the last one.
    pub fn lost_meanwhile(&self) -> u32 {
        match (self.before, self.after) {
            (Some(before), Some(after)) => after.lost.wrapping_sub(before.lost),
            _ => 0,
        }
    }

    pub fn fences_agree(&self) -> bool {
        !self.ledger_fences.is_empty() && self.ledger_fences == self.log_fences
    }

    pub fn log_record(&mut self) {
        self.records_behind_last_fence += 1;
    }

    pub fn ledger_fault(&mut self, fault: String) {
        if self.ledger_faults.len() < 10 {
            self.ledger_faults.push(fault);
        }
    }

    pub fn perf_fault(&mut self, fault: String) {
        if self.perf_faults.len() < 10 {
            self.perf_faults.push(fault);
        }
    }

    /// A CONFIG_CHANGE record: `op=set NAME=VALUE old=...` (audit_do_config_change(), kernel/audit.c), or
    /// `op=add_rule key=... list=LIST res=1` (audit_log_rule_change(), kernel/auditfilter.c).
    pub fn config_change(&mut self, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        let mut words = text.split(' ').filter_map(|word| word.split_once('='));
        let setting = words.find(|(name, value)| {
            matches!(
                *name,
                "audit_enabled"
                    | "audit_rate_limit"
                    | "audit_backlog_wait_time"
                    | "audit_pid"
                    | "lost"
                    | "reset_lost"
            ) || *name == "op" && matches!(*value, "add_rule" | "remove_rule")
        });
        match setting {
            Some(("op", change)) => {
                let list = words.find(|(name, _)| *name == "list").and_then(|(_, list)| list.parse().ok());
                if list.is_some_and(suppresses) {
                    self.foreign_rules += 1;
                    self.rule_change.get_or_insert_with(|| change.to_owned());
                }
            }
            Some(("audit_backlog_wait_time", "0")) => {
                self.foreign.push(
                    "CONFIG_CHANGE had records dropped that find the backlog full (backlog_wait_time=0)"
                        .to_owned(),
                );
            }
            Some(("audit_pid", "0")) => {
                self.foreign.push("CONFIG_CHANGE: the audit daemon gave up its place".to_owned());
            }
            Some(("audit_pid", pid)) => {
                self.daemons += 1;
                if self.daemons > 1 {
                    self.foreign.push(format!("CONFIG_CHANGE: process {pid} took the audit daemon's place"));
                }
            }
            Some(("audit_enabled", "0")) => self.disabled_in_log += 1,
            Some(("audit_rate_limit", value)) if value != "0" => {
                self.foreign.push(format!("CONFIG_CHANGE set a rate limit of {value}"));
            }
            Some((name @ ("lost" | "reset_lost"), _)) => {
                self.foreign.push(format!("CONFIG_CHANGE reset the lost counter ({name})"));
            }
            _ => {}
        }
    }

    pub fn prove(self, records: u64) -> LossProof {
        let mut reasons = Vec::new();
        let mut demand = |holds: bool, reason: String| {
            if !holds {
                reasons.push(reason);
            }
        };
        demand(records > 0, "the log is empty".to_owned());
        match (self.before, self.after) {
            (Some(before), Some(after)) => {
                demand(
                    before.lost == after.lost,
                    format!("the kernel lost {} records", self.lost_meanwhile()),
                );
                demand(
                    before.lost == 0,
                    format!("the kernel had lost {} records before the first step", before.lost),
                );
                demand(after.backlog == 0, format!("{} records were still queued at the end", after.backlog));
                for (when, status) in [("before the first step", before), ("after the last step", after)] {
                    demand(
                        status.rate_limit == 0,
                        format!("a rate limit of {} stood {when}", status.rate_limit),
                    );
                    demand(status.enabled != 0, format!("audit was disabled {when}"));
                }
            }
            (before, after) => {
                demand(before.is_some(), "no audit status from before the first step".to_owned());
                demand(after.is_some(), "no audit status from after the last step".to_owned());
            }
        }
        for (when, rules) in
            [("before the first step", self.rules_before), ("after the last step", self.rules_after)]
        {
            match rules {
                None => demand(false, format!("no list of audit rules from {when}")),
                Some((exclude, never)) => {
                    demand(exclude == 0, format!("{exclude} exclude rules stood {when}"));
                    demand(never == 0, format!("{never} task,never rules stood {when}"));
                }
            }
        }
        match self.collected {
            None => demand(false, "the collector gave no count of what it read".to_owned()),
            Some(collected) => {
                demand(
                    records >= collected.unicast,
                    format!("the collector read {} records, {records} of them came here", collected.unicast),
                );
                demand(
                    collected.unicast == collected.multicast + collected.before_multicast,
                    format!(
                        "the unicast socket gave {} records, the multicast socket {} behind the first {}",
                        collected.unicast, collected.multicast, collected.before_multicast
                    ),
                );
                if let Some(position) = collected.first_difference {
                    demand(false, format!("the two sockets differ from record {position} on"));
                }
                demand(collected.overruns == 0, format!("{} socket overruns (ENOBUFS)", collected.overruns));
                demand(
                    collected.unicast_drops == 0,
                    format!("{} drops on the unicast socket", collected.unicast_drops),
                );
                demand(
                    collected.multicast_drops == 0,
                    format!("{} drops on the multicast socket", collected.multicast_drops),
                );
            }
        }
        demand(!self.ledger_fences.is_empty(), "the ledger has no fence".to_owned());
        demand(
            self.ledger_fences == self.log_fences,
            format!(
                "fences of the ledger {} are not those of the log {}",
                list(&self.ledger_fences),
                list(&self.log_fences)
            ),
        );
        demand(
            self.disabled_in_log == self.disabled_by_agent,
            format!(
                "audit was disabled {} times by the log and {} times by the agent",
                self.disabled_in_log, self.disabled_by_agent
            ),
        );
        let (rules, change) = (self.foreign_rules, self.rule_change.as_deref().unwrap_or("none"));
        demand(
            rules == 0,
            format!(
                "CONFIG_CHANGE: rules of the lists exclude and task were changed {rules} times more often than by the agent (the first: {change})"
            ),
        );
        demand(self.enabled, "the agent left audit disabled".to_owned());
        reasons.extend(self.foreign);
        reasons.extend(self.ledger_faults);
        reasons.extend(self.perf_faults);
        if reasons.is_empty() { LossProof::Proven } else { LossProof::NotProven { reasons } }
    }
}

/// Whether rules of this list (`AUDIT_FILTER_TASK`, `AUDIT_FILTER_EXCLUDE`) can keep records of ours out of the log.
const fn suppresses(list: u32) -> bool {
    matches!(list, 1 | 5)
}

/// A list of numbers, cut in the middle.
fn list(numbers: &[u32]) -> String {
    match numbers {
        [first, .., last] if numbers.len() > 8 => {
            format!("[{first}, ..., {last}] ({} in all)", numbers.len())
        }
        _ => format!("{numbers:?}"),
    }
}
