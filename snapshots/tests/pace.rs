// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two streams of a recorded run reach the checker at any pace: the canonical form does not show it.
#![expect(clippy::unwrap_used, reason = "a test's set-up may panic as the test itself may")]

use std::{fs, path::Path};

use nstrail::{
    check::Checker,
    run::{
        capture,
        execute::{check_options, titles},
        replay,
    },
    snapshot::Lineage,
};
use nstrail_audit::record::split_line;
use nstrail_wire::{
    fact::Fact,
    frame::FrameDecoder,
    message::{GuestMessage, decode},
};

/// How many facts go to the checker after a record, by the record's number.
type Pace = fn(usize) -> usize;

const PACES: [(&str, Pace); 5] = [
    ("all facts first", |record| if record == 0 { usize::MAX } else { 0 }),
    ("all records first", |_| 0),
    ("side by side", |_| 1),
    ("facts in bursts", |record| if record % 100 == 99 { 80 } else { 0 }),
    ("facts far behind", |record| usize::from(record > 300)),
];

fn facts(run: &Path) -> Vec<Fact> {
    let mut decoder = FrameDecoder::new();
    decoder.extend(&fs::read(run.join(capture::LEDGER)).unwrap());
    let mut facts = Vec::new();
    while let Some(payload) = decoder.next_frame().unwrap() {
        if let GuestMessage::Facts(some) = decode(payload).unwrap() {
            facts.extend(some);
        }
    }
    facts
}

fn form(run: &Path, line: &str, pace: Pace) -> String {
    let scenario = replay::scenario(run).unwrap();
    let sink = Lineage::new(scenario.name.clone(), titles(&scenario));
    let mut checker = Checker::with_sink(check_options(line), sink);
    let mut facts = facts(run).into_iter();
    let log = fs::read(run.join(capture::AUDIT_LOG)).unwrap();
    for (number, text) in log.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()).enumerate() {
        let (kind, body) = split_line(text).unwrap();
        checker.record(kind.0, body);
        facts.by_ref().take(pace(number)).for_each(|fact| checker.fact(fact));
    }
    facts.for_each(|fact| checker.fact(fact));
    let (_, sink) = checker.finish_with_sink();
    sink.finish().to_string()
}

#[test]
fn the_pace_of_the_streams_does_not_show() {
    let lines = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    let mut compared = 0;
    for line in fs::read_dir(lines).unwrap().map(Result::unwrap) {
        let name = line.file_name().into_string().unwrap();
        for run in fs::read_dir(line.path()).unwrap().map(|run| run.unwrap().path()) {
            let reviewed = form(&run, &name, |_| 1);
            for (what, pace) in PACES {
                assert_eq!(form(&run, &name, pace), reviewed, "{}: {what}", run.display());
            }
            compared += 1;
        }
    }
    assert!(compared > 0, "recorded runs are missing");
}
