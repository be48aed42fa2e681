// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state that all parts of the check share. Each part adds its methods in a file of its own.

use std::sync::Arc;

use nstrail_wire::fact::{ActorId, Fact};

use super::{
    CheckOptions,
    finding::FindingSet,
    joined::{Attribution, ReleaseBy},
    ledger::{Ledger, Parted},
    log::{Log, WINDOW},
    loss::LossEvidence,
    pairing::Pairing,
    perf::Perf,
    result::Figures,
    sets::{Definition, Sets},
};

/// What goes to the sink.
#[derive(Debug)]
pub(super) enum Output {
    Joined {
        fact: Box<Fact>,
        position: u64,
        definition: Option<Arc<Definition>>,
        attribution: Option<Attribution>,
    },
    Released {
        id: u64,
        by: ReleaseBy,
    },
}

/// A clone whose child was reaped without ever having spoken.
#[derive(Debug)]
pub(super) struct Unborn {
    pub epoch: u64,
    pub tid: u32,
    pub maker_tid: u32,
    pub flags: u64,
}

#[derive(Debug)]
pub(super) struct Core {
    pub options: CheckOptions,
    pub findings: FindingSet,
    pub figures: Figures,
    pub loss: LossEvidence,
    pub sets: Sets,
    pub log: Log,
    pub pairing: Pairing,
    pub perf: Perf,
    pub ledger: Ledger,
    pub output: Vec<Output>,
    /// The first task's Start, which waits for `op=init`.
    pub boot: Option<(ActorId, u32, u64)>,
    /// Its definition, once judged.
    pub boot_set: Option<Arc<Definition>>,
    pub unborn: Vec<Unborn>,
    /// Epochs that a stream has left, and that are not done with.
    pub ended: std::collections::BTreeSet<u64>,
    /// Facts up to this epoch may be judged.
    pub horizon: u64,
    /// First ids of holes that were reported.
    pub holes_reported: std::collections::BTreeSet<u64>,
}

impl Core {
    pub fn new(options: CheckOptions) -> Self {
        Self {
            options,
            findings: FindingSet::default(),
            figures: Figures::default(),
            loss: LossEvidence::new(),
            sets: Sets::default(),
            log: Log::default(),
            pairing: Pairing::default(),
            perf: Perf::default(),
            ledger: Ledger::default(),
            output: Vec::new(),
            boot: None,
            boot_set: None,
            unborn: Vec::new(),
            ended: std::collections::BTreeSet::new(),
            horizon: 0,
            holes_reported: std::collections::BTreeSet::new(),
        }
    }

    pub fn released(&mut self, id: u64, by: ReleaseBy) {
        self.output.push(Output::Released { id, by });
    }

    /// The first task's Start has its definition.
    pub fn settle_boot(&mut self) {
        if let Some(init) = self.log.init.clone()
            && let Some((actor, number, _)) = self.boot.take_if(|(_, _, epoch)| *epoch == init.epoch)
        {
            self.arrived(actor, number, super::ledger::Awaited::Definition(init));
        }
    }

    /// A set that both sides have done with goes.
    pub fn settle(&mut self, id: u64) {
        let Some(set) = self.sets.get(id) else { return };
        let Some(release) = &set.release else { return };
        let done = set.joined
            && set.members == 0
            && set.pins == 0
            && set.late.is_empty()
            && set.alive.is_none()
            && set.left_dark.is_none()
            && set.emptied.is_some_and(|emptied| release.epoch <= emptied)
            && (set.is_excused() || set.release_matches());
        if done {
            self.part(id);
        }
    }

    /// Drops a set that both sides are done with. What its members' pids held is remembered no longer than the log may speak of it.
    pub fn part(&mut self, id: u64) {
        let Some(set) = self.sets.drop_set(id) else { return };
        let Some(release) = set.release.filter(|_| !set.leavers_cut) else { return };
        for leaver in &set.leavers {
            if let Some(held) = self.ledger.held.get_mut(&leaver.pid) {
                held.part(id, release.raw.position);
                self.ledger.parted.push_back(Parted { release: release.raw.position, pid: leaver.pid, id });
            }
        }
        self.forget_parted();
    }

    /// Forgets what pids held of sets that were released so long ago that all events from before are complete.
    pub fn forget_parted(&mut self) {
        while let Some(&parted) = self.ledger.parted.front()
            && parted.release + WINDOW <= self.log.position
        {
            self.ledger.parted.pop_front();
            // An event that names its task by pid only is judged at the fence.
            if !self.log.may_speak_of(parted.pid, parted.release)
                && let Some(held) = self.ledger.held.get_mut(&parted.pid)
            {
                held.forget(parted.id);
                if held.is_empty() {
                    self.ledger.held.remove(&parted.pid);
                }
            }
        }
    }
}
