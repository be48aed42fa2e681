// SPDX-License-Identifier: MIT OR Apache-2.0
//! Checks a recorded run: `check_log audit.log ledger.frames`.

use std::{fs, io::Write};

use nstrail::check::{CheckOptions, Checker};
use nstrail_audit::record::split_line;
use nstrail_wire::{
    frame::FrameDecoder,
    message::{self, GuestMessage},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(log), Some(ledger)) = (arguments.next(), arguments.next()) else {
        return Err("usage: check_log AUDIT_LOG LEDGER_FRAMES".into());
    };
    let mut checker = Checker::new(CheckOptions::default());
    let log = fs::read(log)?;
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let (kind, bytes) = split_line(line)?;
        checker.record(kind.0, bytes);
    }
    let mut decoder = FrameDecoder::new();
    decoder.extend(&fs::read(ledger)?);
    while let Some(payload) = decoder.next_frame()? {
        if let GuestMessage::Facts(facts) = message::decode(payload)? {
            facts.into_iter().for_each(|fact| checker.fact(fact));
        }
    }
    let result = checker.finish();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string_pretty(&result)?)?;
    writeln!(out, "{:?}", result.outcome())?;
    Ok(())
}
