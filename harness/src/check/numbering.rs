// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ids without definition: holes, and sets that were made while audit was off (CONTRACT.md G3, G9).

use std::sync::Arc;

use nstrail_wire::fact::Act;

use super::{
    core::Core,
    finding::Finding,
    invariant::Invariant,
    log::{HELD, attribution},
    pairing::same_set,
    sets::Definition,
};

impl Core {
    /// A set was made while audit was off, and logged all the same.
    pub fn made_in_the_dark(&mut self, definition: &Arc<Definition>) -> bool {
        let op = &definition.op;
        let silent = self.ledger.silent.iter_mut().find(|silent| {
            let read = match &silent.fact.act {
                Act::Start { set, .. } => set,
                Act::Operation { after, .. } => after,
                _ => return false,
            };
            silent.epoch == definition.epoch
                && !silent.logged
                && silent.fact.tid == op.opid
                && same_set(&op.set, read)
        });
        let Some(silent) = silent else { return false };
        silent.logged = true;
        let (position, fact) = (silent.position, silent.fact.clone());
        let finding = self
            .about(
                Invariant::G9Silent,
                "no record while audit is disabled".to_owned(),
                format!("op={} auditnsid={:#x}", op.op, op.id),
                definition,
            )
            .fact(position, &fact);
        self.findings.push(finding);
        true
    }

    pub fn judge_undefined(&mut self, epoch: u64) {
        let dark = self.ledger.silent.iter().any(|silent| silent.epoch <= epoch);
        let mut ids: Vec<u64> = self
            .log
            .undefined
            .iter()
            .filter(|(_, undefined)| undefined.epoch <= epoch && !undefined.judged)
            .map(|(id, _)| *id)
            .collect();
        ids.sort_unstable();
        for id in ids {
            let Some(undefined) = self.log.undefined.get_mut(&id) else { continue };
            undefined.judged = true;
            if dark {
                continue;
            }
            let finding = Finding::new(
                undefined.invariant,
                format!("the definition of {id:#x} before this record"),
                "none",
            );
            self.findings.push(finding.record(&undefined.raw));
        }
    }

    pub fn judge_holes(&mut self, epoch: u64, end: bool) {
        let mut latest = None;
        while let Some(entry) = self.log.holes_at.first_entry()
            && *entry.key() <= epoch
        {
            latest = Some(entry.remove());
        }
        let Some(holes) = latest else { return };
        let silent =
            self.ledger.silent.iter().filter(|silent| silent.epoch <= epoch && !silent.logged).count() as u64;
        if silent == 0 {
            for (from, to) in holes.ranges() {
                if self.holes_reported.len() < 1024 && self.holes_reported.insert(from) {
                    let found = if from == to {
                        format!("{from:#x} is missing")
                    } else {
                        format!("{from:#x} to {to:#x} are missing")
                    };
                    let expected = format!("a definition of every id up to {:#x}", holes.highest());
                    self.findings.push(Finding::new(Invariant::G3Dense, expected, found));
                }
            }
            return;
        }
        let count = holes.count();
        // Before the next definition the last ids given in the dark leave no hole yet.
        let wrong = count > silent || (end && count < silent);
        if wrong && self.holes_reported.insert(u64::MAX) {
            let mut finding = Finding::new(
                Invariant::G9Count,
                format!("{silent} ids without definition, one for each set made while audit was off"),
                format!("{count} of them below {:#x}", holes.highest()),
            );
            for silent in self.ledger.silent.iter().take(4) {
                finding = finding.fact(silent.position, &silent.fact);
            }
            self.findings.push(finding);
        }
    }

    /// Sets made in the dark: each has one id, its own, and no definition.
    pub fn judge_silent(&mut self, end: bool) {
        if !end {
            return;
        }
        let mut owners: std::collections::BTreeMap<u64, usize> = std::collections::BTreeMap::new();
        let mut findings = Vec::new();
        for (index, silent) in self.ledger.silent.iter_mut().enumerate() {
            silent.names.sort_by_key(|(_, position, _)| *position);
            let Some(&(first, _, _)) = silent.names.first() else { continue };
            for (id, _, raw) in &silent.names {
                let defined = !self.log.undefined.contains_key(id)
                    && !self.log.holes.contains(*id)
                    && *id <= self.log.holes.highest();
                let taken = owners.get(id).is_some_and(|owner| *owner != index);
                if *id != first || defined || taken {
                    findings.push(
                        Finding::new(
                            Invariant::G7Right,
                            "one id of its own for a set that was made while audit was off",
                            attribution(Some(*id)),
                        )
                        .record(raw)
                        .fact(silent.position, &silent.fact),
                    );
                }
            }
            owners.entry(first).or_insert(index);
        }
        for finding in findings {
            self.findings.push(finding);
        }
        self.judge_silent_releases();
    }

    /// A set that was made in the dark and left in the light is released as any other; which one it is, nothing in the log says.
    fn judge_silent_releases(&mut self) {
        if self.log.undefined.len() >= HELD {
            return;
        }
        let due = self.ledger.silent.iter().filter(|silent| {
            let in_the_light =
                silent.last_left > 0 && silent.last_dark.is_none_or(|dark| dark < silent.last_left);
            in_the_light && silent.members == 0 && !silent.untold && !silent.logged
        });
        let due: Vec<_> = due.map(|silent| (silent.position, silent.fact.clone())).collect();
        let released = self.log.undefined.values().filter(|undefined| undefined.release.is_some()).count();
        if released >= due.len() {
            return;
        }
        let expected = format!(
            "{} releases of sets without definition: made while audit was off, and left while it was on",
            due.len()
        );
        let finding = Finding::new(Invariant::G5Missing, expected, format!("{released} of them"));
        let finding =
            due.iter().take(4).fold(finding, |finding, (position, fact)| finding.fact(*position, fact));
        self.findings.push(finding);
    }
}
