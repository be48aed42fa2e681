// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that lies: a recorded run with anything in its log, its ledger and what perf saw changed, through the checker
//! to the canonical form.

use std::{collections::VecDeque, sync::OnceLock};

use nstrail::{
    check::{CheckOptions, CheckResult, Checker},
    snapshot::{Lineage, Title},
};
use nstrail_audit::{Kind, record::split_line};
use nstrail_wire::{
    fact::Fact,
    frame::FrameDecoder,
    message::{GuestMessage, decode, encode},
    perf::PerfEvent,
};
use serde::{Serialize, de::DeserializeOwned};

/// Bytes of one change: what is changed, where, and to what.
const CHANGE: usize = 6;
/// Entries of a stream, at most: a run must not take long.
const LONGEST: usize = 2048;

/// A run's three streams.
#[derive(Clone, Debug, Default)]
struct Run {
    records: Vec<(Kind, Vec<u8>)>,
    facts: Vec<Fact>,
    perf: Vec<PerfEvent>,
}

/// The first byte names a run, the second says how its streams interleave, and then there are changes. Without a recorded
/// run, the rest is a message of a guest, and behind a line `=== log` a log.
pub fn ledger(bytes: &[u8]) {
    let Some((&[first, pace], rest)) = bytes.split_first_chunk::<2>() else { return };
    let run = match recorded(first) {
        Some(run) => changed(run.clone(), rest),
        None => raw(rest),
    };
    let result = check(&run, u32::from(pace) + 1, 64);
    let other = check(&run, 64, 1);
    // However it comes: the verdict is the same, and all of the result unless the guest contradicts itself.
    assert_eq!(result.outcome(), other.outcome());
    if result.loss.is_proven() {
        assert_eq!(result, other);
    }
    let text = serde_json::to_string(&result).expect("JSON");
    assert!(!text.is_empty());
    let _ = result.outcome();
}

fn recorded(number: u8) -> Option<&'static Run> {
    static RUNS: OnceLock<[Run; 3]> = OnceLock::new();
    let runs = RUNS.get_or_init(|| {
        [
            Run::read(
                include_bytes!("../../../snapshots/runs/7.3/quiet/audit.log"),
                include_bytes!("../../../snapshots/runs/7.3/quiet/ledger.frames"),
            ),
            Run::read(
                include_bytes!("../../../snapshots/runs/7.3/smoke/audit.log"),
                include_bytes!("../../../snapshots/runs/7.3/smoke/ledger.frames"),
            ),
            Run::read(
                include_bytes!("../../../snapshots/runs/5.10/quiet/audit.log"),
                include_bytes!("../../../snapshots/runs/5.10/quiet/ledger.frames"),
            ),
        ]
    });
    // Most of the numbers are for short runs.
    match number {
        0..=63 => None,
        64..=79 => Some(&runs[1]),
        80..=159 => Some(&runs[2]),
        _ => Some(&runs[0]),
    }
}

impl Run {
    fn read(log: &[u8], frames: &[u8]) -> Self {
        let mut run = Self::default();
        run.log(log);
        let mut decoder = FrameDecoder::new();
        decoder.extend(frames);
        while let Ok(Some(payload)) = decoder.next_frame() {
            run.message(payload);
        }
        assert!(!run.records.is_empty() && !run.facts.is_empty());
        run
    }

    fn log(&mut self, log: &[u8]) {
        let lines = log.split(|byte| *byte == b'\n').filter_map(|line| split_line(line).ok());
        self.records.extend(lines.map(|(kind, bytes)| (kind, bytes.to_vec())));
    }

    fn message(&mut self, payload: &[u8]) {
        match decode(payload) {
            Ok(GuestMessage::Facts(facts)) => self.facts.extend(facts),
            Ok(GuestMessage::Perf(events)) => self.perf.extend(events),
            _ => {}
        }
    }
}

fn raw(bytes: &[u8]) -> Run {
    const LOG: &[u8] = b"\n=== log\n";
    let at = bytes.windows(LOG.len()).position(|window| window == LOG);
    let (payload, log) = at.map_or((bytes, &b""[..]), |at| (&bytes[..at], &bytes[at + LOG.len()..]));
    let mut run = Run::default();
    run.message(payload);
    run.log(log);
    run
}

fn changed(mut run: Run, changes: &[u8]) -> Run {
    for change in changes.chunks_exact(CHANGE) {
        let place = usize::from(u16::from_le_bytes([change[1], change[2]]));
        let (what, rest) = (change[0], [change[3], change[4], change[5]]);
        match what % 3 {
            0 => arrange(&mut run.facts, what / 3, place, rest),
            1 => arrange(&mut run.records, what / 3, place, rest),
            _ => arrange(&mut run.perf, what / 3, place, rest),
        }
    }
    run
}

/// An entry of a stream, which can be told otherwise.
trait Entry: Clone {
    /// With another byte at this place, if it is an entry then.
    fn with(&self, at: usize, byte: u8) -> Option<Self>;
}

impl Entry for (Kind, Vec<u8>) {
    fn with(&self, at: usize, byte: u8) -> Option<Self> {
        let mut entry = self.clone();
        let length = entry.1.len();
        *entry.1.get_mut(at % length.max(1))? = byte;
        Some(entry)
    }
}

impl Entry for Fact {
    fn with(&self, at: usize, byte: u8) -> Option<Self> {
        other(self, at, byte)
    }
}

impl Entry for PerfEvent {
    fn with(&self, at: usize, byte: u8) -> Option<Self> {
        other(self, at, byte)
    }
}

fn other<T: Serialize + DeserializeOwned>(entry: &T, at: usize, byte: u8) -> Option<T> {
    let mut bytes = encode(entry).ok()?;
    let length = bytes.len();
    *bytes.get_mut(at % length.max(1))? = byte;
    decode(&bytes).ok()
}

fn arrange<T: Entry>(entries: &mut Vec<T>, how: u8, place: usize, rest: [u8; 3]) {
    if entries.is_empty() {
        return;
    }
    let place = place % entries.len();
    let to = usize::from(u16::from_le_bytes([rest[0], rest[1]]));
    match how % 8 {
        0 => drop(entries.remove(place)),
        1 if entries.len() < LONGEST => entries.insert(to % entries.len(), entries[place].clone()),
        2 => {
            let to = to % entries.len();
            entries.swap(place, to);
        }
        3 => entries.truncate(place + 1),
        _ => {
            if let Some(entry) = entries[place].with(to, rest[2]) {
                entries[place] = entry;
            }
        }
    }
}

/// Of each 64 steps of the ledger, so many go on in the log.
fn check(run: &Run, records: u32, facts: u32) -> CheckResult {
    let sink = Lineage::new("lies", vec![Title { step: 0, text: "all".to_owned() }]);
    let mut checker = Checker::with_sink(CheckOptions::for_version(7, 3).with_perf(), sink);
    let mut log: VecDeque<&(Kind, Vec<u8>)> = run.records.iter().collect();
    let mut ledger: VecDeque<&Fact> = run.facts.iter().collect();
    let mut perf: VecDeque<&PerfEvent> = run.perf.iter().collect();
    while !(log.is_empty() && ledger.is_empty() && perf.is_empty()) {
        for (kind, bytes) in log.drain(..log.len().min(records as usize)) {
            checker.record(kind.0, bytes);
        }
        for fact in ledger.drain(..ledger.len().min(facts as usize)) {
            checker.fact(fact.clone());
        }
        for event in perf.drain(..perf.len().min(facts as usize)) {
            checker.perf(event.clone());
        }
    }
    let (result, lineage) = checker.finish_with_sink();
    let form = lineage.finish();
    assert!(form.as_str().starts_with("lineage of lies"));
    assert!(form.as_str().lines().all(|line| line == line.trim_end()), "{form}");
    result
}
