// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tree that the canonical form writes: tasks, their sections, what happened in them; and folding.
//!
//! Siblings fold into one with a count if they read the same: each is written with symbols for names
//! (position in the subtree for what it made itself, identity for everything else), and equal text
//! means equal shape. So nothing that the reader would see can differ between folded siblings, and
//! nothing but names may.
//!
//! Folding makes the copy's names those of the one that is kept, which can make two other subtrees equal that refer
//! to them. [`Forest::settle`] repeats until nothing folds any more; as folding only ever makes more things
//! equal, the result does not depend on the order in which it happened.

use std::collections::HashMap;
use std::sync::Arc;

use super::line::{Line, Names};
use super::origin::{Kind, Origin};

/// The place of a task whose maker does not tell of it (killed before it could): behind everything.
pub(super) const UNPLACED: u64 = u64::MAX;

/// All tasks of a run that were made by no other task of it: one, unless the ledger is broken.
#[derive(Debug, Default)]
pub(super) struct Forest {
    pub(super) tasks: Vec<Task>,
}

/// A task that has ended, with everything below it.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) head: Line,
    pub(super) sections: Vec<Section>,
    /// How it ended, if not by exit 0; goes to the end of the first line.
    pub(super) tail: String,
}

/// The part of a task's life in one namespace set, or in one step of the scenario.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// Title of the step that begins here.
    pub(super) title: Option<String>,
    /// The move that it begins with.
    pub(super) lead: Option<Line>,
    pub(super) groups: Groups,
    /// The set that the lead (or the head of the task) defined; its release is told beside it.
    pub(super) set: Option<Arc<Origin>>,
    /// Adjacent sections like this one.
    pub(super) count: u64,
}

/// What happened in a section, equal things as one.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
    by_text: HashMap<String, usize>,
}

/// Equal things.
#[derive(Debug)]
struct Group {
    /// Place of the first in its task's program order.
    first: u64,
    count: u64,
    body: Body,
}

/// A thing that happened.
#[derive(Debug)]
pub(super) enum Body {
    Line(Line),
    Task(Task),
}

/// Something that can be written, and so compared.
trait Written {
    /// Calls `visit` for every name that came into being in it, in the order of the text.
    fn each_made(&self, visit: &mut dyn FnMut(&Arc<Origin>));
    fn write(&self, depth: usize, count: u64, names: &mut dyn Names, out: &mut String);

    /// Its text with symbols for names: equal for equal shapes.
    fn key(&self) -> String {
        let mut symbols = Symbols::default();
        self.each_made(&mut |origin| {
            let next = symbols.made.len();
            symbols.made.entry(origin.serial).or_insert(next);
        });
        let mut key = String::new();
        self.write(0, 1, &mut symbols, &mut key);
        key
    }

    /// Its text without names, to put things in order that have no place in the ledger: identities are numbered
    /// as they come, and that must not show.
    fn nameless(&self) -> String {
        let mut text = String::new();
        self.write(0, 1, &mut Nameless, &mut text);
        text
    }

    /// Makes the names of a copy those of `self`.
    fn absorb_names(&self, copy: &impl Written)
    where
        Self: Sized,
    {
        let mut kept = Vec::new();
        self.each_made(&mut |origin| kept.push(Arc::clone(origin)));
        let mut kept = kept.iter();
        copy.each_made(&mut |origin| {
            if let Some(kept) = kept.next() {
                origin.becomes(kept);
            }
        });
    }
}

/// No names.
struct Nameless;

impl Names for Nameless {
    fn name(&mut self, _: &Arc<Origin>, out: &mut String) {
        out.push('?');
    }
}

/// Names for comparison.
#[derive(Debug, Default)]
struct Symbols {
    made: HashMap<u64, usize>,
}

impl Names for Symbols {
    fn name(&mut self, origin: &Arc<Origin>, out: &mut String) {
        // The control characters keep names and text apart.
        match self.made.get(&origin.serial) {
            Some(place) => out.push_str(&format!("\u{1}{place}")),
            None => out.push_str(&format!("\u{2}{}", origin.serial)),
        }
    }
}

fn begin(depth: usize, out: &mut String) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn end(count: u64, out: &mut String) {
    if count > 1 {
        out.push_str(&format!("  (x {count})"));
    }
    out.push('\n');
}

impl Written for Line {
    fn each_made(&self, visit: &mut dyn FnMut(&Arc<Origin>)) {
        self.made().iter().for_each(visit);
    }

    fn write(&self, depth: usize, count: u64, names: &mut dyn Names, out: &mut String) {
        self.write_with("", depth, count, names, out);
    }
}

impl Line {
    fn write_with(&self, more: &str, depth: usize, count: u64, names: &mut dyn Names, out: &mut String) {
        begin(depth, out);
        Self::write(self, names, out);
        out.push_str(more);
        end(count, out);
    }
}

impl Written for Task {
    fn each_made(&self, visit: &mut dyn FnMut(&Arc<Origin>)) {
        self.head.each_made(visit);
        for section in &self.sections {
            section.each_made(visit);
        }
    }

    fn write(&self, depth: usize, count: u64, names: &mut dyn Names, out: &mut String) {
        let release = self.sections.first().map(Section::release).unwrap_or_default();
        self.head.write_with(&(release + &self.tail), depth, count, names, out);
        // What follows a step's title stands below it.
        let mut below = depth + 1;
        for section in &self.sections {
            if let Some(title) = &section.title {
                out.push('\n');
                begin(depth + 1, out);
                out.push_str(title);
                out.push('\n');
                below = depth + 2;
            }
            section.write(below, section.count, names, out);
        }
    }
}

impl Written for Section {
    fn each_made(&self, visit: &mut dyn FnMut(&Arc<Origin>)) {
        if let Some(lead) = &self.lead {
            lead.each_made(visit);
        }
        for group in &self.groups.groups {
            group.body.each_made(visit);
        }
    }

    fn write(&self, depth: usize, count: u64, names: &mut dyn Names, out: &mut String) {
        if let Some(lead) = &self.lead {
            lead.write_with(&self.release(), depth, count, names, out);
        }
        // What is repeated together stands below the line with the count.
        let depth = depth + usize::from(count > 1);
        for group in &self.groups.groups {
            group.body.write(depth, group.count, names, out);
        }
    }
}

impl Written for Body {
    fn each_made(&self, visit: &mut dyn FnMut(&Arc<Origin>)) {
        match self {
            Self::Line(line) => line.each_made(visit),
            Self::Task(task) => task.each_made(visit),
        }
    }

    fn write(&self, depth: usize, count: u64, names: &mut dyn Names, out: &mut String) {
        match self {
            Self::Line(line) => Written::write(line, depth, count, names, out),
            Self::Task(task) => task.write(depth, count, names, out),
        }
    }
}

impl Groups {
    /// Adds a thing that happened at `place`, to those that read the same if there are any.
    pub(super) fn add(&mut self, place: u64, body: Body) {
        self.add_group(Group { first: place, count: 1, body });
    }

    fn add_group(&mut self, group: Group) -> bool {
        let key = group.body.key();
        match self.by_text.get(&key).copied() {
            Some(index) => {
                let kept = &mut self.groups[index];
                kept.body.absorb_names(&group.body);
                kept.first = kept.first.min(group.first);
                kept.count += group.count;
                true
            }
            None => {
                self.by_text.insert(key, self.groups.len());
                self.groups.push(group);
                false
            }
        }
    }

    /// Nothing comes any more: puts things in order.
    fn close(&mut self) {
        self.by_text = HashMap::new();
        self.groups.sort_by_cached_key(|group| {
            let text = if group.first == UNPLACED { group.body.nameless() } else { String::new() };
            (group.first, text)
        });
    }

    /// Folds again, because names may have become the same.
    fn settle(&mut self) -> bool {
        let mut folded = false;
        let groups = std::mem::take(&mut self.groups);
        self.by_text.clear();
        for mut group in groups {
            if let Body::Task(task) = &mut group.body {
                folded |= task.settle();
            }
            folded |= self.add_group(group);
        }
        self.close();
        folded
    }
}

impl Section {
    /// What is said of the end of its set. One release is the rule (CONTRACT.md G5); others show as they are.
    fn release(&self) -> String {
        let Some(set) = &self.set else { return String::new() };
        let (exits, moves) = set.releases();
        if exits + moves == 0 {
            return ", not released".to_owned();
        }
        ", released by move".repeat(moves as usize) + &", released by exit".repeat(exits as usize)
    }

    /// Nothing comes any more for this section.
    pub(super) fn close(&mut self) -> String {
        self.groups.close();
        self.key()
    }

    /// Takes in an equal section next to it.
    pub(super) fn absorb(&mut self, copy: &Self) {
        self.absorb_names(copy);
        self.count += copy.count;
    }
}

impl Task {
    fn settle(&mut self) -> bool {
        let mut folded = false;
        let mut kept: Vec<(Section, String)> = Vec::with_capacity(self.sections.len());
        for mut section in std::mem::take(&mut self.sections) {
            folded |= section.groups.settle();
            let key = section.key();
            match kept.last_mut() {
                Some((last, last_key)) if *last_key == key && last.folds() => {
                    last.absorb(&section);
                    folded = true;
                }
                _ => kept.push((section, key)),
            }
        }
        self.sections = kept.into_iter().map(|(section, _)| section).collect();
        folded
    }
}

impl Section {
    /// Whether it may fold: only what begins with a move of the task's own can repeat.
    pub(super) const fn folds(&self) -> bool {
        self.lead.is_some() && self.title.is_none()
    }
}

impl Forest {
    /// Folds until nothing folds any more, and puts tasks without a maker behind the first one in the order of
    /// their text.
    pub(super) fn settle(&mut self) {
        while self.tasks.iter_mut().map(Task::settle).fold(false, |a, b| a | b) {}
        if let [_, strays @ ..] = self.tasks.as_mut_slice() {
            strays.sort_by_cached_key(Written::nameless);
        }
    }

    /// The text, with labels numbered as they first appear in it.
    pub(super) fn write(&self, out: &mut String) {
        let mut labels = Labels::default();
        for task in &self.tasks {
            task.write(0, 1, &mut labels, out);
        }
    }
}

/// Names for readers.
#[derive(Debug, Default)]
struct Labels {
    given: HashMap<u64, u64>,
    last: HashMap<Kind, u64>,
}

impl Names for Labels {
    fn name(&mut self, origin: &Arc<Origin>, out: &mut String) {
        let number = *self.given.entry(origin.serial).or_insert_with(|| {
            let last = self.last.entry(origin.kind).or_default();
            *last += 1;
            *last
        });
        let prefix = match origin.kind {
            Kind::Set => "#",
            Kind::StraySet => "#?",
            Kind::Namespace(_) => "n",
        };
        out.push_str(&format!("{prefix}{number}"));
    }
}
