// SPDX-License-Identifier: MIT OR Apache-2.0
//! Definitions and moves of one tid, paired.
//!
//! One tid's definitions stand in the log, and its moves in the ledger, in the order of the tasks that held
//! it. So the n-th of the one belongs to the n-th of the other, within an epoch. A definition that is
//! missing, or one too many, would shift all that follow: the first pair that does not fit (operation and inode
//! numbers are the test) puts the tid aside until the next fence, where the two lists are aligned as
//! wholes. What is left over then is missing, or unexplained.

use std::{collections::VecDeque, sync::Arc};

use nstrail_audit::Op;
use nstrail_wire::{
    fact::ActorId,
    namespace::{NamespaceEntry, NamespaceSet},
};

use super::{core::Core, hash::Map, ledger::Awaited, sets::Definition};

/// A move that the ledger tells of and the log must define.
#[derive(Debug)]
pub(super) struct Move {
    pub actor: ActorId,
    pub number: u32,
    pub epoch: u64,
    pub op: Op,
    /// What the task reads after it.
    pub set: NamespaceSet,
}

#[derive(Debug, Default)]
struct TidQueue {
    moves: VecDeque<Move>,
    definitions: VecDeque<Arc<Definition>>,
    /// Put aside until the fence that ends this epoch.
    aside: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Pairing {
    tids: Map<u32, TidQueue>,
    /// Definitions that no move explains.
    pub leftovers: Vec<Arc<Definition>>,
}

/// Whether a list of a record is what a task read: 0 in the census is an entry that could not be read.
///
/// An unreadable `pid_for_children` is one in which nobody was born yet, so it cannot be the task's own pid namespace.
pub(super) fn same_set(list: &NamespaceSet, census: &NamespaceSet) -> bool {
    let (own, children) = (list.get(NamespaceEntry::Pid), list.get(NamespaceEntry::PidForChildren));
    let unborn = census.get(NamespaceEntry::PidForChildren) == 0 && census.get(NamespaceEntry::Pid) != 0;
    list.0.iter().zip(&census.0).all(|(listed, read)| *read == 0 || listed == read)
        && !(unborn && own == children)
}

fn fits(pending: &Move, definition: &Definition) -> bool {
    pending.op == definition.op.op && same_set(&definition.op.set, &pending.set)
}

impl Core {
    pub fn push_definition(&mut self, definition: Arc<Definition>) {
        self.perf_definition(&definition);
        let tid = definition.op.opid;
        self.pairing.tids.entry(tid).or_default().definitions.push_back(definition);
        self.pump(tid);
    }

    pub fn push_move(&mut self, tid: u32, pending: Move) {
        self.pairing.tids.entry(tid).or_default().moves.push_back(pending);
        self.pump(tid);
    }

    /// Pairs what can be paired.
    fn pump(&mut self, tid: u32) {
        let mut decided = Vec::new();
        let Some(queue) = self.pairing.tids.get_mut(&tid) else { return };
        while queue.aside.is_none()
            && let (Some(pending), Some(definition)) = (queue.moves.front(), queue.definitions.front())
        {
            let (earlier, later) = (pending.epoch, definition.epoch);
            if earlier == later && !fits(pending, definition) {
                queue.aside = Some(earlier);
                break;
            }
            let pending = if earlier <= later { queue.moves.pop_front() } else { None };
            let definition = if later <= earlier { queue.definitions.pop_front() } else { None };
            match (pending, definition) {
                (Some(pending), definition) => decided.push((pending, definition)),
                (None, Some(definition)) => self.pairing.leftovers.push(definition),
                (None, None) => break,
            }
        }
        if queue.moves.is_empty() && queue.definitions.is_empty() {
            self.pairing.tids.remove(&tid);
        }
        for (pending, definition) in decided {
            self.decide(tid, &pending, definition);
        }
    }

    /// Both streams are past this epoch: nothing of it is still to come.
    pub fn flush_pairing(&mut self, epoch: u64) {
        let mut tids: Vec<u32> = self.pairing.tids.keys().copied().collect();
        tids.sort_unstable();
        for tid in tids {
            let Some(queue) = self.pairing.tids.get_mut(&tid) else { continue };
            let moves = take_while(&mut queue.moves, |pending| pending.epoch <= epoch);
            let definitions = take_while(&mut queue.definitions, |definition| definition.epoch <= epoch);
            queue.aside = None;
            for (pending, definition) in align(moves, definitions) {
                match (pending, definition) {
                    (Some(pending), definition) => self.decide(tid, &pending, definition),
                    (None, Some(definition)) => self.pairing.leftovers.push(definition),
                    (None, None) => {}
                }
            }
            self.pump(tid);
        }
    }

    fn decide(&mut self, tid: u32, pending: &Move, definition: Option<Arc<Definition>>) {
        self.perf_census(tid, pending.epoch, definition.as_ref(), &pending.set);
        let awaited = match definition {
            Some(definition) => {
                self.figures.joined += 1;
                if let Some(set) = self.sets.defined_by(&definition) {
                    set.joined = true;
                }
                Awaited::Definition(definition)
            }
            None => Awaited::NoDefinition,
        };
        self.arrived(pending.actor, pending.number, awaited);
    }
}

pub(super) fn take_while<T>(queue: &mut VecDeque<T>, holds: impl Fn(&T) -> bool) -> Vec<T> {
    let end = queue.iter().position(|item| !holds(item)).unwrap_or(queue.len());
    queue.drain(..end).collect()
}

type Pair = (Option<Move>, Option<Arc<Definition>>);

/// Aligns the two lists so that as many pairs as possible fit; between those, what stands at the same
/// place is taken for a pair that does not fit, and the rest is left over.
fn align(moves: Vec<Move>, definitions: Vec<Arc<Definition>>) -> Vec<Pair> {
    let (rows, columns) = (moves.len(), definitions.len());
    let fitting = |row: usize, column: usize| fits(&moves[row], &definitions[column]);
    // Beyond this size a table costs too much, and a kernel that is so wrong needs no fine reading.
    let mut anchors = Vec::new();
    if rows * columns <= 1 << 20 {
        let at = |row: usize, column: usize| row * (columns + 1) + column;
        let mut best = vec![0_u32; (rows + 1) * (columns + 1)];
        for row in (0..rows).rev() {
            for column in (0..columns).rev() {
                let skip = best[at(row + 1, column)].max(best[at(row, column + 1)]);
                let take = if fitting(row, column) { best[at(row + 1, column + 1)] + 1 } else { 0 };
                best[at(row, column)] = skip.max(take);
            }
        }
        let (mut row, mut column) = (0, 0);
        while row < rows && column < columns {
            if fitting(row, column) && best[at(row, column)] == best[at(row + 1, column + 1)] + 1 {
                anchors.push((row, column));
                row += 1;
                column += 1;
            } else if best[at(row + 1, column)] >= best[at(row, column + 1)] {
                row += 1;
            } else {
                column += 1;
            }
        }
    }
    anchors.push((rows, columns));
    let mut pairs = Vec::new();
    let mut moves = moves.into_iter().map(Some);
    let mut definitions = definitions.into_iter().map(Some);
    let (mut row, mut column) = (0, 0);
    for (next_row, next_column) in anchors {
        while row < next_row || column < next_column {
            let pending = if row < next_row { moves.next().flatten() } else { None };
            let definition = if column < next_column { definitions.next().flatten() } else { None };
            row += usize::from(row < next_row);
            column += usize::from(column < next_column);
            pairs.push((pending, definition));
        }
        pairs.push((moves.next().flatten(), definitions.next().flatten()));
        row += 1;
        column += 1;
    }
    pairs
}
