// SPDX-License-Identifier: MIT OR Apache-2.0
//! A task of the ledger while more may still be heard of it.

use std::sync::Arc;

use nstrail_wire::fact::ActorId;

use super::line::Line;
use super::membership::Membership;
use super::origin::Origin;
use super::shape::{Groups, Section, Task, UNPLACED};

/// Where a task stands in its maker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) maker: ActorId,
    /// Number of the section, from 0 in the maker's own count.
    pub(super) section: u64,
    /// Place in the maker's program order.
    pub(super) place: u64,
}

/// A section to which more may come.
#[derive(Debug)]
struct OpenSection {
    number: u64,
    section: Section,
    /// Children in it that are not complete.
    children: usize,
    /// Its auditnsid, for as long as the release is awaited.
    awaited: Option<u64>,
    /// Its text with symbols, once nothing comes any more.
    key: Option<String>,
}

/// An open task.
#[derive(Debug)]
pub(super) struct Actor {
    pub(super) place: Option<Place>,
    /// Made by the maker's words, before its own came: the maker's set just before the call.
    pub(super) inherits: Option<Membership>,
    /// The first line, from its own words.
    pub(super) head: Option<Line>,
    /// The call that made it, in its own words and in its maker's.
    pub(super) call: Option<String>,
    pub(super) told: Option<String>,
    pub(super) thread: bool,
    /// The guest's PID 1, which lives as long as the guest.
    pub(super) first: bool,
    pub(super) membership: Membership,
    pub(super) tid: u32,
    /// Children of whose making this task has not told yet.
    pub(super) unplaced: Vec<ActorId>,
    pub(super) ended: bool,
    /// How often it was reaped, and how it had ended by the first.
    pub(super) reaped: u32,
    pub(super) status: Option<String>,
    /// The outermost step that it is in.
    pub(super) step: Option<usize>,
    sections: Vec<OpenSection>,
    next_section: u64,
    next_place: u64,
    /// Children and releases that are awaited.
    awaited: usize,
}

impl Actor {
    pub(super) fn new(membership: Membership) -> Self {
        let mut actor = Self {
            place: None,
            inherits: None,
            head: None,
            call: None,
            told: None,
            thread: false,
            first: false,
            membership,
            tid: 0,
            unplaced: Vec::new(),
            ended: false,
            reaped: 0,
            status: None,
            step: None,
            sections: Vec::new(),
            next_section: 0,
            next_place: 0,
            awaited: 0,
        };
        actor.open_section(None, None);
        actor
    }

    /// Begins a section.
    pub(super) fn open_section(&mut self, title: Option<String>, lead: Option<Line>) {
        let number = self.next_section;
        self.next_section += 1;
        self.sections.push(OpenSection {
            number,
            section: Section { title, lead, groups: Groups::default(), set: None, count: 1 },
            children: 0,
            awaited: None,
            key: None,
        });
        // The one before it may be complete now.
        self.fold_section(number.wrapping_sub(1));
    }

    /// The current section's first words defined this set.
    pub(super) fn define(&mut self, id: u64, set: &Arc<Origin>) {
        if let Some(open) = self.sections.last_mut() {
            open.section.set = Some(Arc::clone(set));
            open.awaited = Some(id);
            self.awaited += 1;
        }
    }

    /// Adds a line, and gives its place.
    pub(super) fn tell(&mut self, line: Line) {
        let place = self.next_place;
        self.next_place += 1;
        if let Some(open) = self.sections.last_mut() {
            open.section.groups.add(place, super::shape::Body::Line(line));
        }
    }

    /// Keeps a place for a child, or the last one if this task does not tell of it.
    pub(super) fn expect(&mut self, own: ActorId, told: bool) -> Place {
        let place = if told { self.next_place } else { UNPLACED };
        self.next_place += u64::from(told);
        self.awaited += 1;
        let section = self.sections.last_mut().map_or(0, |open| {
            open.children += 1;
            open.number
        });
        Place { maker: own, section, place }
    }

    /// A child is complete.
    pub(super) fn receive(&mut self, place: Place, task: Task) {
        // A task that is told of again under a number that was used before awaits none of that one's children.
        self.awaited = self.awaited.saturating_sub(1);
        if let Some(index) = self.index(place.section) {
            let open = &mut self.sections[index];
            open.children = open.children.saturating_sub(1);
            open.section.groups.add(place.place, super::shape::Body::Task(task));
            self.fold_section(place.section);
        }
    }

    /// A set that a section of this task defined is released.
    pub(super) fn released(&mut self, id: u64) {
        // From the newest on, because that is where it nearly always is.
        if let Some(open) = self.sections.iter_mut().rev().find(|open| open.awaited == Some(id)) {
            open.awaited = None;
            self.awaited -= 1;
            let number = open.number;
            self.fold_section(number);
        }
    }

    /// Whether all that is to come has come.
    pub(super) fn complete(&self) -> bool {
        (self.reaped > 0 || (self.ended && self.thread)) && self.awaited == 0 && self.unplaced.is_empty()
    }

    /// Whether children are awaited.
    pub(super) fn has_open_children(&self) -> bool {
        self.sections.iter().any(|open| open.children > 0)
    }

    /// The finished task.
    pub(super) fn close(self) -> Task {
        let mut tail = String::new();
        let mut say = |text: &str| {
            tail.push_str(", ");
            tail.push_str(text);
        };
        match (&self.call, &self.told) {
            (Some(call), Some(told)) if call != told => say(&format!("its maker says: {told}")),
            (Some(_), None) if self.place.is_some() => say("its maker does not tell of it"),
            (None, _) => say("says nothing"),
            _ => {}
        }
        // Who is killed has no last words. Whether a thread's status is told depends on who looks, so it never is.
        let killed = self.status.as_ref().is_some_and(|status| status.starts_with("killed"));
        if self.call.is_some() && self.ended == killed && !self.first {
            say(if killed { "after its last words" } else { "without last words" });
        }
        if !self.thread && !self.first {
            match self.reaped {
                0 => say("not reaped"),
                1 => {}
                times => say(&format!("reaped {times} times")),
            }
            if let Some(status) = &self.status {
                say(status);
            }
        }
        let told = self.told;
        let head =
            self.head.unwrap_or_else(|| Line::new(told.unwrap_or_else(|| "task of unknown making".into())));
        let sections = self.sections.into_iter().map(|mut open| {
            open.section.close();
            open.section
        });
        Task { head, sections: sections.collect(), tail }
    }

    fn index(&self, number: u64) -> Option<usize> {
        self.sections.binary_search_by_key(&number, |open| open.number).ok()
    }

    /// Folds a section with its neighbours, if nothing comes to it any more.
    fn fold_section(&mut self, number: u64) {
        let Some(mut index) = self.index(number) else { return };
        let open = &mut self.sections[index];
        let current = number + 1 == self.next_section;
        if current || open.children > 0 || open.awaited.is_some() || !open.section.folds() {
            return;
        }
        open.key = Some(open.section.close());
        if self.sections[index + 1].key == self.sections[index].key {
            let copy = self.sections.remove(index + 1);
            self.sections[index].section.absorb(&copy.section);
        }
        if index > 0 && self.sections[index - 1].key == self.sections[index].key {
            index -= 1;
            let copy = self.sections.remove(index + 1);
            self.sections[index].section.absorb(&copy.section);
        }
    }
}
