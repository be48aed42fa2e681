// SPDX-License-Identifier: MIT OR Apache-2.0
//! `nstrail check`: a recorded scenario again, without a VM.

use std::{
    io::{BufWriter, Write as _},
    path::Path,
};

use nstrail::{
    check::Outcome as Checked,
    outcome::Outcome,
    report::{
        escape::{lines, one_line},
        verdict,
    },
    run::{
        execute::{check_options, titles},
        judge, replay,
    },
    snapshot::Lineage,
};
use nstrail_audit::{FlagNames, Model, Op, model::BOOT};

use super::{args::CheckArgs, exit::Ending};

pub fn check(args: &CheckArgs) -> Ending {
    let folder = match args.dir.canonicalize() {
        Ok(folder) => folder,
        Err(error) => return Ending::Usage(format!("{}: {error}", args.dir.display())),
    };
    if args.ledger {
        return print_ledger(&folder);
    }
    if args.packets {
        return print_packets(&folder);
    }
    // out/RUN-ID/VERSION/SCENARIO
    let version = folder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let version = version.unwrap_or_default();
    let scenario = match replay::scenario(&folder) {
        Ok(scenario) => scenario,
        Err(error) => return Ending::Usage(error.to_string()),
    };
    let sink = Lineage::new(scenario.name.clone(), titles(&scenario));
    let options = check_options(&version).with_everybody_waiting(scenario.everybody_waits());
    let (check, sink) = match replay::replay(&folder, options, sink) {
        Ok(replayed) => replayed,
        Err(error) => return Ending::Usage(error.to_string()),
    };
    if args.canonical {
        print!("{}", lines(sink.finish().as_str()));
        return Ending::Done;
    }
    let (findings, unlisted) = judge::findings(&check);
    print!("{}", verdict::findings(&findings, unlisted, &judge::doubts(&check)));
    println!("{} records, {} facts", check.figures.records, check.figures.facts);
    Ending::Verdict(match check.outcome() {
        Checked::Passed => Outcome::Passed,
        Checked::Failed => Outcome::Failed,
        Checked::Inconclusive => Outcome::Inconclusive,
    })
}

/// A packet a line: its record, its network namespace and the live sets that list it, with what made them.
fn print_packets(folder: &Path) -> Ending {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let read = replay::packets(folder, &mut |packet, model| {
        if written.is_err() {
            return;
        }
        let netns = packet.netns.map_or_else(|| "?".to_owned(), |inum| inum.to_string());
        let body = one_line(&String::from_utf8_lossy(&packet.body));
        written = writeln!(out, "line {}: {body}: net:{netns}", packet.position + 1).and_then(|()| {
            if packet.sets.is_empty() {
                return writeln!(out, "  no live set lists it");
            }
            packet.sets.iter().try_for_each(|id| writeln!(out, "  {}", chain(*id, model)))
        });
    });
    match (read, written.and_then(|()| out.flush())) {
        (Err(error), _) => Ending::Usage(error.to_string()),
        // Whoever reads has seen enough.
        (Ok(()), Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ending::Done,
        (Ok(()), Err(error)) => Ending::error(&error),
        (Ok(()), Ok(())) => Ending::Done,
    }
}

/// `0x5 by clone CLONE_NEWNET from 0x2 by unshare CLONE_NEWUTS from 0x1`.
fn chain(id: u64, model: &Model) -> String {
    let made = |op: Op, flags: u64| format!(" by {} {}", op.name(), FlagNames(flags));
    let Some(live) = model.get(id) else { return format!("{id:#x}") };
    let mut text = format!("{id:#x}{}", made(live.op, live.flags));
    for ancestor in &live.lineage.ancestors {
        text.push_str(&format!(" from {:#x}", ancestor.id));
        if let Some((op, flags)) = ancestor.made
            && ancestor.id != BOOT
        {
            text.push_str(&made(op, flags));
        }
    }
    text
}

fn print_ledger(folder: &Path) -> Ending {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = Ok(());
    let read = replay::facts(folder, &mut |fact| {
        if written.is_ok() {
            written = serde_json::to_writer(&mut out, &fact)
                .map_err(std::io::Error::from)
                .and_then(|()| writeln!(out));
        }
    });
    match (read, written.and_then(|()| out.flush())) {
        (Err(error), _) => Ending::Usage(error.to_string()),
        // Whoever reads has seen enough.
        (Ok(()), Err(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ending::Done,
        (Ok(()), Err(error)) => Ending::error(&error),
        (Ok(()), Ok(())) => Ending::Done,
    }
}
