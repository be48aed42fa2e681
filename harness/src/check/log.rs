// SPDX-License-Identifier: MIT OR Apache-2.0
//! The log's side of the check: records in the order of the queue, and everything that the log alone decides.
//!
//! Nothing here asks the ledger, so nothing here depends on how far the ledger has come. What only the ledger can
//! judge is handed on: definitions to [`super::pairing`], events with a token to [`super::ledger`], ids that
//! nothing defined to the next fence (they are right if audit was off when their sets were made).
//!
//! *Epoch*: fences cut both streams into pieces. The epoch of a record or a fact is the number of the fence
//! before it plus one, 0 before the first.
//!
//! Events are complete when a window of records has passed since their last one; an event that still
//! lacks something waits for a fence, at which all tasks are quiet.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use nstrail_audit::{Holes, Kind, Netns, NsidOp, Op, Record, Stamp, model::BOOT, parse_nsid};

use super::{
    core::Core,
    event::{OpenEvent, ProbeEvent, token_in},
    finding::{Finding, Raw},
    hash::Map,
    invariant::Invariant,
    joined::ReleaseBy,
    sets::{Definition, Release},
};

/// Records after which an event that lacks nothing is complete.
pub(super) const WINDOW: u64 = 2048;
/// Events that may wait for a fence; beyond, the oldest is taken as it is.
pub(super) const HELD: usize = 16_384;
/// Complete events whose stamps are remembered, to notice records that come later.
const CLOSED: usize = 8192;

/// An id that a record names though nothing defined it.
#[derive(Debug)]
pub(super) struct Undefined {
    /// What is broken unless audit was off when the set was made.
    pub invariant: Invariant,
    pub epoch: u64,
    pub raw: Arc<Raw>,
    pub release: Option<Arc<Raw>>,
    pub judged: bool,
}

/// What an event left behind.
#[derive(Debug, Clone, Copy)]
struct Closed {
    named: bool,
    ended: bool,
    release_alone: bool,
}

/// An event that names its task by `pid=` only.
pub(super) type Loose = BTreeMap<(u32, Option<u64>), (u64, Vec<Arc<Raw>>)>;

#[derive(Debug, Default)]
pub(super) struct Log {
    pub position: u64,
    pub epoch: u64,
    open: Map<Stamp, Box<OpenEvent>>,
    order: VecDeque<(u64, Stamp)>,
    held: VecDeque<Stamp>,
    closed: Map<Stamp, Closed>,
    closed_order: VecDeque<Stamp>,
    pub init: Option<Arc<Definition>>,
    /// Which types the kernel has, and whether it has `nsid=` lists: as the first definition says.
    shape: Option<(u16, bool, Arc<Raw>)>,
    first_task_record: Option<Arc<Raw>>,
    pub holes: Holes,
    /// Holes as they were at each fence that is not swept yet.
    pub holes_at: BTreeMap<u64, Holes>,
    pub undefined: Map<u64, Undefined>,
    pub loose: BTreeMap<u64, Loose>,
    pub ours: u64,
}

impl Log {
    /// Whether an event that began before `position`, and names its task by this pid only, is still to be judged. Yes also where it would cost too
    /// much to find out.
    pub fn may_speak_of(&self, pid: u32, position: u64) -> bool {
        const FEW: usize = 256;
        let waits = |loose: &Loose| {
            loose.range((pid, None)..=(pid, Some(u64::MAX))).any(|(_, (first, _))| *first < position)
        };
        let open = |stamp| self.open.get(stamp);
        self.held.len() > FEW
            || self.loose.values().any(waits)
            || self.held.iter().filter_map(open).any(|event| event.pid == Some(pid) && event.first < position)
    }
}

impl Core {
    /// Takes one record.
    pub fn take_record(&mut self, kind: u16, bytes: &[u8]) {
        let position = self.log.position;
        self.log.position += 1;
        self.figures.records += 1;
        self.loss.log_record();
        let kind = Kind(kind);
        let raw = || Arc::new(Raw { position, kind: kind.0, bytes: bytes.into() });
        let record = match Record::parse(kind, bytes) {
            Ok(record) => record,
            Err(error) => {
                let expected = "audit(SECONDS.MMM:SERIAL): in front";
                self.findings
                    .push(Finding::new(Invariant::RecHeader, expected, error.to_string()).record(&raw()));
                return;
            }
        };
        self.log.ours += u64::from(kind.is_ours());
        let fence = if kind == Kind::USER {
            token_in(record.body, b"nstrail-fence=", false).and_then(|number| u32::try_from(number).ok())
        } else {
            None
        };
        let mut event = self.open_event(&record, position);
        if event.end {
            let finding = Finding::new(
                Invariant::RecEoe,
                "nothing behind the EOE of its event",
                format!("a record of type {kind}"),
            );
            self.findings.push(finding.records(&event.raws).record(&raw()));
        }
        event.records += 1;
        event.last = position;
        match kind {
            Kind::NSID_OP => match NsidOp::parse(record.body) {
                Ok(op) => {
                    let raw = raw();
                    event.raws.push(Arc::clone(&raw));
                    self.operation(&mut event, record.stamp, op, raw);
                }
                Err(error) => self.malformed(&error, &raw()),
            },
            Kind::NSID => match parse_nsid(record.body) {
                Ok(id) => {
                    self.figures.attributions += 1;
                    let raw = raw();
                    event.raws.push(Arc::clone(&raw));
                    event.names.push((id, position));
                    self.named(id, &raw);
                }
                Err(error) => {
                    event.raws.push(raw());
                    self.malformed(&error, &raw());
                }
            },
            Kind::NETNS => match Netns::parse(record.body) {
                Ok(Netns(inum)) => {
                    event.raws.push(raw());
                    if event.netns.is_empty() {
                        event.in_netns = inum.map_or_else(Vec::new, |inum| self.sets.in_net(inum));
                    }
                    event.netns.push(inum);
                }
                Err(error) => self.malformed(&error, &raw()),
            },
            _ => {
                event.take(&record);
                let keep = match kind {
                    Kind::EOE | Kind::PROCTITLE | Kind::PATH | Kind::CWD => false,
                    _ => event.raws.len() < 6,
                };
                if keep {
                    event.raws.push(raw());
                }
                if self.log.init.is_none() && self.log.first_task_record.is_none() && kind.0 < 2000 {
                    self.log.first_task_record = Some(raw());
                }
                if kind == Kind::CONFIG_CHANGE {
                    self.loss.config_change(record.body);
                }
            }
        }
        self.log.open.insert(record.stamp, event);
        self.log.order.push_back((position, record.stamp));
        self.expire(position);
        if let Some(number) = fence {
            self.log_fence(number);
        }
    }

    fn malformed(&mut self, error: &nstrail_audit::FormatError, raw: &Raw) {
        let expected = format!("{}: {}", error.field, error.expected);
        self.findings
            .push(Finding::new(Invariant::RecFormat, expected, format!("{:?}", error.found)).record(raw));
    }

    fn open_event(&mut self, record: &Record<'_>, position: u64) -> Box<OpenEvent> {
        if let Some(event) = self.log.open.remove(&record.stamp) {
            return event;
        }
        self.figures.events += 1;
        let mut event = Box::new(OpenEvent::new(position, self.log.epoch));
        if let Some(closed) = self.log.closed.get(&record.stamp).copied() {
            self.figures.events -= 1;
            event.end = closed.ended;
            let raw = || Raw { position, kind: record.kind.0, bytes: rebuilt(record) };
            if closed.release_alone {
                self.findings.push(
                    Finding::new(
                        Invariant::G5Event,
                        "no other record in the event of an exit's release",
                        format!("a record of type {} later", record.kind),
                    )
                    .record(&raw()),
                );
            }
            if record.kind == Kind::NSID && closed.named {
                self.findings.push(
                    Finding::new(Invariant::G7One, "one AUDIT_NSID in the event", "another one later")
                        .record(&raw()),
                );
            }
        }
        event
    }

    /// Completes events whose window has passed.
    fn expire(&mut self, position: u64) {
        self.forget_parted();
        while let Some(&(seen, stamp)) = self.log.order.front() {
            if seen + WINDOW > position {
                break;
            }
            self.log.order.pop_front();
            let Some(event) = self.log.open.get_mut(&stamp) else { continue };
            if event.last != seen {
                continue;
            }
            if event.settled() {
                self.close(stamp);
            } else if !event.held {
                event.held = true;
                self.log.held.push_back(stamp);
                if self.log.held.len() > HELD
                    && let Some(oldest) = self.log.held.pop_front()
                {
                    self.close(oldest);
                }
            }
        }
    }

    fn log_fence(&mut self, number: u32) {
        self.close_all(false);
        self.loss.log_fence(number);
        self.log.holes_at.insert(self.log.epoch, self.log.holes.clone());
        self.ended.insert(self.log.epoch);
        self.perf.ended.insert(self.log.epoch);
        self.log.epoch = (u64::from(number) + 1).max(self.log.epoch + 1);
        self.advance();
    }

    /// Completes all events; at a fence those of a clone that still waits for its child stay.
    pub fn close_all(&mut self, end: bool) {
        let mut stamps: Vec<(u64, Stamp)> = self
            .log
            .open
            .iter()
            .filter(|(_, event)| end || event.settled() || !event.may_wait_for_child())
            .map(|(stamp, event)| (event.first, *stamp))
            .collect();
        stamps.sort_unstable();
        for (_, stamp) in stamps {
            self.close(stamp);
        }
        let open = &self.log.open;
        self.log.held.retain(|stamp| open.contains_key(stamp));
    }

    /// A 1340 record that is well formed.
    fn operation(&mut self, event: &mut OpenEvent, stamp: Stamp, op: NsidOp, raw: Arc<Raw>) {
        *self.figures.operations.entry(op.op.name()).or_default() += 1;
        if op.op == Op::Release {
            self.release(event, stamp, &op, raw);
            return;
        }
        self.shape(&op, &raw);
        let lineage = if op.op == Op::Init {
            nstrail_audit::model::Lineage::default()
        } else {
            self.sets.lineage_from(op.old)
        };
        let definition =
            Arc::new(Definition { op, stamp, epoch: self.log.epoch, raw: Arc::clone(&raw), lineage });
        let op = &definition.op;
        if op.op == Op::Init {
            self.init(&definition);
            return;
        }
        self.figures.definitions += 1;
        if op.old != BOOT {
            self.old_set(event, &definition);
        }
        if op.id == BOOT || !self.log.holes.take(op.id) {
            let live = self.sets.live(op.id).map(|set| Arc::clone(&set.definition.raw));
            let gone = self.sets.gone(op.id).map(|gone| Arc::clone(&gone.definition.raw));
            let finding = Finding::new(
                Invariant::G3Unique,
                format!("an id above {:#x}, or one that was jumped over", self.log.holes.highest()),
                format!("{:#x} is defined again", op.id),
            )
            .record(&raw)
            .records(&live)
            .records(&gone);
            self.findings.push(finding);
        } else {
            self.ids_of(&definition);
            self.sets.define(Arc::clone(&definition));
        }
        event.definitions.push(Arc::clone(&definition));
        self.push_definition(definition);
    }

    /// All definitions agree on the kernel's types, and on having an `nsid=` list.
    fn shape(&mut self, op: &NsidOp, raw: &Arc<Raw>) {
        let missing =
            op.set.0.iter().enumerate().fold(0, |mask, (bit, inum)| mask | u16::from(*inum == 0) << bit);
        let ids_missing = op
            .ns_ids
            .as_ref()
            .map(|ids| ids.0.iter().enumerate().fold(0, |mask, (bit, id)| mask | u16::from(*id == 0) << bit));
        let has_ids = op.ns_ids.is_some();
        let expected = self.options.ns_ids;
        match &self.log.shape {
            None => {
                if expected.is_some_and(|expected| expected != has_ids) {
                    let word = |has| if has { "an nsid list" } else { "no nsid list" };
                    let finding = Finding::new(
                        Invariant::RecTypes,
                        format!("{} on this kernel", word(!has_ids)),
                        word(has_ids),
                    );
                    self.findings.push(finding.record(raw));
                }
                self.log.shape = Some((missing, has_ids, Arc::clone(raw)));
            }
            Some((types, ids, first)) => {
                if *types != missing || *ids != has_ids {
                    let finding = Finding::new(
                        Invariant::RecTypes,
                        "the types and lists of the first definition",
                        "other types marked with ?, or an nsid list in one of the two only",
                    );
                    self.findings.push(finding.record(first).record(raw));
                }
            }
        }
        if ids_missing.is_some_and(|mask| mask != missing) {
            let finding = Finding::new(
                Invariant::RecTypes,
                "ns and nsid lists with the same types",
                "other types marked with ?",
            );
            self.findings.push(finding.record(raw));
        }
    }

    fn init(&mut self, definition: &Arc<Definition>) {
        let raw = &definition.raw;
        if let Some(first) = &self.log.init {
            let finding = Finding::new(Invariant::G2Init, "one op=init record", "a second one");
            self.findings.push(finding.record(&first.raw).record(raw));
            return;
        }
        if definition.op.id != BOOT {
            let found = format!("auditnsid={:#x}", definition.op.id);
            self.findings.push(Finding::new(Invariant::G2Init, "auditnsid=0x1", found).record(raw));
        }
        if let Some(earlier) = &self.log.first_task_record {
            let expected = "op=init ahead of every record of a task";
            self.findings.push(
                Finding::new(Invariant::G2Init, expected, "a record before it").record(earlier).record(raw),
            );
        }
        self.log.init = Some(Arc::clone(definition));
        self.log.holes.take(BOOT);
        self.ids_of(definition);
        self.sets.define(Arc::clone(definition));
        self.settle_boot();
    }

    /// `old-auditnsid` must name a set that is live.
    fn old_set(&mut self, event: &OpenEvent, definition: &Arc<Definition>) {
        let op = &definition.op;
        let raw = &definition.raw;
        if let Some(set) = self.sets.live(op.old) {
            if let Some(reappeared) = &set.reappeared
                && op.op == Op::Clone
            {
                let finding = Finding::new(
                    Invariant::G5Inum,
                    format!("only the release of {:#x} once its inode numbers came back", op.old),
                    "a clone by a member",
                );
                self.findings.push(finding.record(&reappeared.raw).record(raw));
            }
            return;
        }
        let own = event.releases.iter().any(|(id, _)| *id == op.old) && op.op != Op::Clone;
        if own {
            let expected = "the definition first, then the release of the old set";
            let finding =
                Finding::new(Invariant::G5Event, expected, format!("{:#x} was released before", op.old));
            self.findings.push(finding.records(&event.raws));
            return;
        }
        self.unknown(op.old, Invariant::G4First, raw);
    }

    /// A record names an id of which no set is in the table.
    fn unknown(&mut self, id: u64, invariant: Invariant, raw: &Arc<Raw>) {
        let jumped = id > self.log.holes.highest() || self.log.holes.contains(id);
        let gone = self.sets.gone(id).map(|gone| Arc::clone(&gone.release));
        if gone.is_some() || !jumped {
            let (invariant, expected) = match invariant {
                Invariant::G5One => (Invariant::G5One, format!("one release of {id:#x}")),
                _ => (Invariant::G5Last, format!("nothing about {id:#x} after its release")),
            };
            let found = if gone.is_some() { "this record, behind it" } else { "this record, long behind it" };
            self.findings.push(Finding::new(invariant, expected, found).record(raw).records(&gone));
            return;
        }
        if self.log.undefined.len() == HELD && !self.log.undefined.contains_key(&id) {
            return;
        }
        let epoch = self.log.epoch;
        let entry = self.log.undefined.entry(id).or_insert_with(|| Undefined {
            invariant,
            epoch,
            raw: Arc::clone(raw),
            release: None,
            judged: false,
        });
        if let Some(release) = &entry.release {
            let finding = Finding::new(
                Invariant::G5Last,
                format!("nothing about {id:#x} after its release"),
                "this record",
            );
            self.findings.push(finding.record(release).record(raw));
        }
    }

    fn release(&mut self, event: &mut OpenEvent, stamp: Stamp, op: &NsidOp, raw: Arc<Raw>) {
        self.figures.releases += 1;
        event.releases.push((op.id, raw.position));
        let moved = event.definitions.iter().any(|definition| definition.op.old == op.id);
        let by = if moved { ReleaseBy::Move } else { ReleaseBy::Exit };
        if op.id == BOOT {
            let finding = Finding::new(Invariant::G5One, "0x1 is never released", "its release");
            self.findings.push(finding.record(&raw));
            return;
        }
        if self.sets.live(op.id).is_some() {
            let epoch = self.log.epoch;
            self.sets.release(op.id, Release { pid: op.pid, tid: op.tid, stamp, epoch, by, raw });
        } else {
            self.unknown(op.id, Invariant::G5One, &raw);
            let Some(undefined) = self.log.undefined.get_mut(&op.id) else { return };
            undefined.release.get_or_insert(raw);
        }
        self.released(op.id, by);
        self.settle(op.id);
    }

    /// An `AUDIT_NSID` record names a set.
    fn named(&mut self, id: u64, raw: &Arc<Raw>) {
        if id == BOOT {
            let finding = Finding::new(Invariant::G7Boot, "no AUDIT_NSID for set 1", "auditnsid=0x1");
            self.findings.push(finding.record(raw));
            return;
        }
        if self.sets.live(id).is_none() {
            self.unknown(id, Invariant::G4First, raw);
        }
    }

    /// An event is complete.
    fn close(&mut self, stamp: Stamp) {
        let Some(event) = self.log.open.remove(&stamp) else { return };
        let release_alone = !event.releases.is_empty() && event.definitions.is_empty();
        // Of an event that was closed before only the rest is here.
        if !event.names.is_empty()
            && usize::try_from(event.records - u32::from(event.end)) == Ok(event.names.len())
            && !self.log.closed.contains_key(&stamp)
        {
            let expected = "another record in the event that an AUDIT_NSID is of";
            self.findings.push(Finding::new(Invariant::G7Alone, expected, "none").records(&event.raws));
        }
        self.log
            .closed
            .insert(stamp, Closed { named: !event.names.is_empty(), ended: event.end, release_alone });
        self.log.closed_order.push_back(stamp);
        if self.log.closed_order.len() > CLOSED
            && let Some(oldest) = self.log.closed_order.pop_front()
        {
            self.log.closed.remove(&oldest);
        }
        self.check_releases(&event, release_alone);
        self.check_names(&event);
        if event.success == Some(false) {
            for definition in &event.definitions {
                // An execve that has entered the pending time namespace has moved, whatever becomes of it.
                if definition.op.op != Op::Exec {
                    let finding = Finding::new(
                        Invariant::G6Silence,
                        "no definition in the event of a failed call",
                        format!("{:#x}, and success=no", definition.op.id),
                    );
                    self.findings.push(finding.records(&event.raws));
                }
            }
        }
        if event.packet && event.netns.len() != 1 {
            let finding = Finding::new(
                Invariant::G8Netns,
                "one AUDIT_NETNS in the event",
                event.netns.len().to_string(),
            );
            self.findings.push(finding.records(&event.raws));
        }
        let name = event.names.first().map(|(id, _)| *id);
        if let Some((kind, token)) = event.token {
            let probe = ProbeEvent {
                kind: event.token_kind,
                first: event.first,
                // Where it is complete: an event that was held over a fence finds no partner before it.
                epoch: self.log.epoch,
                name,
                name_at: event.names.first().map_or(event.first, |(_, at)| *at),
                netns: event.netns.first().copied().flatten(),
                in_netns: event.in_netns,
                syscall: event.syscall,
                raws: event.raws,
            };
            self.push_probe_event(kind, token, probe);
        } else if let Some(pid) = event.pid
            && event.definitions.is_empty()
            && !event.packet
            && !event.uring
        {
            let loose = self.log.loose.entry(event.epoch).or_default();
            if loose.len() < HELD {
                loose.entry((pid, name)).or_insert((event.first, event.raws));
            }
        }
    }

    fn check_releases(&mut self, event: &OpenEvent, alone: bool) {
        if alone {
            if event.records > 1 || !event.names.is_empty() {
                let finding = Finding::new(
                    Invariant::G5Event,
                    "the release of an exit alone in its event",
                    format!("{} records, {} attributions", event.records, event.names.len()),
                );
                self.findings.push(finding.records(&event.raws));
            }
            return;
        }
        for (id, position) in &event.releases {
            let mover = event
                .definitions
                .iter()
                .find(|definition| definition.op.old == *id && definition.op.op != Op::Clone);
            match mover {
                None => {
                    let finding = Finding::new(
                        Invariant::G5Event,
                        "in the event of a move, only the release of the set that was left",
                        format!("the release of {id:#x}"),
                    );
                    self.findings.push(finding.records(&event.raws));
                }
                Some(definition) if definition.position() > *position => {}
                Some(_) => {}
            }
        }
    }

    /// Where a set's definition and release stand, and a definition that has one of its numbers as a new one.
    fn positions(&self, id: u64) -> Option<(u64, Option<u64>, Option<Arc<Definition>>)> {
        if let Some(set) = self.sets.live(id) {
            return Some((set.definition.position(), None, set.reappeared.clone()));
        }
        let gone = self.sets.gone(id)?;
        Some((gone.definition.position(), Some(gone.release.position), gone.reappeared.clone()))
    }

    fn check_names(&mut self, event: &OpenEvent) {
        if event.names.len() > 1 {
            let finding =
                Finding::new(Invariant::G7One, "one AUDIT_NSID in the event", event.names.len().to_string());
            self.findings.push(finding.records(&event.raws));
        }
        let name = event.names.first().copied();
        if let Some((id, at)) = name
            && id != BOOT
            && let Some((defined, released, reappeared)) = self.positions(id)
        {
            let moving = event.definitions.iter().any(|definition| definition.op.id == id);
            if defined > event.first && defined < at && !moving {
                let finding = Finding::new(
                    Invariant::G4First,
                    format!("the definition of {id:#x} ahead of every event of its members"),
                    format!("the event begins at record {}, the definition is record {defined}", event.first),
                );
                self.findings.push(finding.records(&event.raws));
            }
            if released.is_some_and(|released| released > at && released < event.last) {
                let finding = Finding::new(
                    Invariant::G5Last,
                    format!("no record of a member's event after the release of {id:#x}"),
                    format!("the event ends at record {}", event.last),
                );
                self.findings.push(finding.records(&event.raws));
            }
            if event.acts
                && !moving
                && let Some(reappeared) = reappeared
                && event.first > reappeared.position()
            {
                let finding = Finding::new(
                    Invariant::G5Inum,
                    format!("only the release of {id:#x} once its inode numbers came back"),
                    "an event of a member",
                );
                self.findings.push(finding.record(&reappeared.raw).records(&event.raws));
            }
        }
        let Some(required) = event.required() else { return };
        let found = name.map(|(id, _)| id);
        if found == required {
            return;
        }
        let invariant = match (required, found) {
            (Some(_), None) => Invariant::G7Missing,
            (None, Some(BOOT)) => return,
            (None, Some(_)) => Invariant::G7Boot,
            _ => Invariant::G7Right,
        };
        let finding = Finding::new(
            invariant,
            format!("{} in the event of the operation", attribution(required)),
            attribution(found),
        );
        let finding = finding.records(&event.raws);
        self.findings.push(match event.definitions.last() {
            Some(definition) => {
                let op = &definition.op;
                finding.lineage(op.id, Some((op.op, op.flags)), &definition.lineage)
            }
            None => finding,
        });
    }
}

/// An attribution in words.
pub(super) fn attribution(id: Option<u64>) -> String {
    id.map_or_else(|| "no AUDIT_NSID".to_owned(), |id| format!("auditnsid={id:#x}"))
}

/// The bytes of a record that was taken apart.
fn rebuilt(record: &Record<'_>) -> Box<[u8]> {
    [format!("audit({}): ", record.stamp).as_bytes(), record.body].concat().into()
}
