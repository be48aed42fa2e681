// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines of an audit.log to records, events, the auditnsid model and packets.

use nstrail_audit::{
    EventGrouper, Kind, Model, Netns, NsidOp, PacketTracer, Record, Value, parse_nsid, record::raw_line,
};

/// Small, so that events end in the middle of a short log.
const WINDOW: u64 = 8;

/// A log, a line a record.
pub fn records(bytes: &[u8]) {
    let (mut grouper, mut model, mut tracer) = (EventGrouper::new(WINDOW), Model::new(), PacketTracer::new());
    let mut events = Vec::new();
    let mut taken = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        let record = match Record::parse_line(line) {
            Ok(record) => record,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        line_again(&record);
        fields(&record);
        contract(&record, &mut model, taken);
        if let Ok(Some(packet)) = tracer.push(&record) {
            assert!(packet.sets.iter().all(|id| tracer.model().get(*id).is_some()), "a set that is not live");
        }
        events.extend(grouper.push(&record));
        taken += 1;
    }
    events.extend(grouper.flush());
    let mut positions: Vec<u64> =
        events.iter().flat_map(|event| &event.records).map(|record| record.position).collect();
    positions.sort_unstable();
    assert!(positions.iter().copied().eq(0..taken), "a record was lost or doubled");
}

/// A record survives its raw line, and its kind survives its name.
fn line_again(record: &Record<'_>) {
    let bytes = [format!("audit({}): ", record.stamp).as_bytes(), record.body].concat();
    let mut line = Vec::new();
    raw_line(record.kind.0, &bytes, &mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    assert_eq!(Record::parse_line(&line), Ok(*record));
    assert_eq!(Kind::from_name(record.kind.to_string().as_bytes()), Some(record.kind));
}

/// Numbers are what the standard library makes of the same text.
fn fields(record: &Record<'_>) {
    for field in record.fields() {
        assert!(!field.key.contains(&b' ') && !field.key.contains(&b'='));
        let text = std::str::from_utf8(field.value.bytes()).ok();
        if let Some(number) = field.value.decimal() {
            assert_eq!(text.and_then(|text| text.parse().ok()), Some(number));
        }
        if let Some(number) = field.value.hexadecimal() {
            assert_eq!(text.and_then(|text| u64::from_str_radix(text, 16).ok()), Some(number));
        }
        let decoded = field.value.decoded();
        if let (Value::Bare(bytes), true) = (field.value, decoded.len() < field.value.bytes().len()) {
            assert_eq!(decoded.len() * 2, bytes.len());
        }
        if let Ok(key) = std::str::from_utf8(field.key) {
            assert!(record.field(key).is_some());
        }
    }
}

/// What the strict parsers take, they write again byte by byte.
fn contract(record: &Record<'_>, model: &mut Model, position: u64) {
    let body = record.body;
    match NsidOp::parse(body) {
        Ok(op) => {
            assert_eq!(op.to_string().as_bytes(), body);
            let live = model.len();
            let _ = model.apply(&op, position);
            assert!(model.len() <= live + 1);
            assert!(model.get(op.id).is_none() || !model.holes().contains(op.id));
        }
        Err(error) => assert!(error.found.len() <= 3 * 80 && !error.to_string().is_empty()),
    }
    if let Ok(id) = parse_nsid(body) {
        assert_eq!(format!("auditnsid={id:#x}").as_bytes(), body);
    }
    if let Ok(Netns(inum)) = Netns::parse(body) {
        let inum = inum.map_or_else(|| "?".to_owned(), |inum| inum.to_string());
        assert_eq!(format!("netns=net:{inum}").as_bytes(), body);
    }
}
