// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets whose records lead elsewhere than to those whose they are.

use nstrail_wire::{fact::Call, namespace::NamespaceType};

use super::{
    assert_same_in_any_interleaving, check_sim,
    faults::{at, caught_only, edit, plant, remove, with},
    sim::{Line, Sim},
};
use crate::check::Invariant;

#[test]
fn a_wrong_packet_record_is_caught() {
    caught_only(Invariant::G8Right, |sim| edit(sim, &["netns=net:"], "netns=net:", "netns=net:9"));
    caught_only(Invariant::G8Netns, |sim| drop(remove(sim, &["netns=net:"])));
    caught_only(Invariant::G8Netns, |sim| {
        let at = at(sim, with(&["netns=net:"]));
        let line = sim.log[at].clone();
        sim.log.insert(at, line);
    });
}

#[test]
fn a_packet_that_does_not_lead_to_its_sender_is_caught() {
    // The set of the sender is released before its packet is logged.
    let early = plant(|sim| {
        let packet = at(sim, |line| line.kind == 1342);
        let Some(serial) = sim.log.iter().map(|line| line.serial).max() else { return };
        let body = "op=release pid=3 tid=3 auditnsid=0x2 res=1".to_owned();
        sim.log.insert(packet - 1, Line { kind: 1340, serial: serial + 1, body });
    });
    assert!(early.contains(&Invariant::G8Map), "{early:?}");
    // The definition lists another network namespace.
    let wrong = plant(|sim| {
        let definition = at(sim, with(&["op=clone", "auditnsid=0x2 "]));
        let body = &mut sim.log[definition].body;
        let from = body.find("net:").unwrap();
        let to = from + body[from..].find(',').unwrap();
        body.replace_range(from..to, "net:4242");
    });
    assert!(wrong.contains(&Invariant::G8Map) && wrong.contains(&Invariant::G2List), "{wrong:?}");
}

#[test]
fn a_datagram_between_namespaces_is_checked_at_both_ends() {
    let net = NamespaceType::Net.flag();
    let damaged = |damage: &dyn Fn(&mut Sim)| {
        let mut sim = Sim::new();
        let receiver = sim.clone(0, Call::Clone3, net);
        let sender = sim.clone(0, Call::Clone3, net);
        sim.datagram(sender, receiver);
        for task in [sender, receiver] {
            sim.exit(task, true);
            sim.reap(task, 0);
        }
        sim.finish();
        damage(&mut sim);
        let found: Vec<Invariant> = check_sim(&sim).counts.into_keys().collect();
        if let [invariant] = found[..] {
            assert_same_in_any_interleaving(&sim, invariant);
        }
        found
    };
    let line = |sim: &Sim, mark: &str| at(sim, |line| line.body.contains(mark));
    let netns = |sim: &Sim, mark: &str| {
        let serial = sim.log[line(sim, mark)].serial;
        at(sim, |line| line.serial == serial && line.kind == 1342)
    };
    assert_eq!(damaged(&|_| ()), []);
    // One end's namespace for the other's.
    for (of, taken) in [("mark=0x1", "mark=0x2"), ("mark=0x2", "mark=0x1")] {
        let swap = damaged(&|sim| {
            let body = sim.log[netns(sim, taken)].body.clone();
            let at = netns(sim, of);
            sim.log[at].body = body;
        });
        assert_eq!(swap, [Invariant::G8Right], "{of}");
        let missing = damaged(&|sim| {
            let serial = sim.log[line(sim, of)].serial;
            sim.log.retain(|line| line.serial != serial);
        });
        assert_eq!(missing, [Invariant::G7Probe], "{of}");
    }
    // The sender's id where a softirq acts, and the receiver's where the sender does.
    let softirq = damaged(&|sim| {
        let at = netns(sim, "mark=0x2");
        let serial = sim.log[at].serial;
        sim.log.insert(at + 1, Line { kind: 1341, serial, body: "auditnsid=0x3".to_owned() });
    });
    assert_eq!(softirq, [Invariant::G7Right]);
    let other = damaged(&|sim| {
        let serial = sim.log[line(sim, "mark=0x1")].serial;
        let at = at(sim, |line| line.serial == serial && line.kind == 1341);
        sim.log[at].body = "auditnsid=0x2".to_owned();
    });
    assert_eq!(other, [Invariant::G7Right]);
    // Neither end leads to whom it belongs to.
    for (mark, set) in [("mark=0x1", "0x3"), ("mark=0x2", "0x2")] {
        let released = damaged(&|sim| {
            let release = format!("auditnsid={set} res");
            let release = at(sim, |line| line.body.contains("op=release") && line.body.contains(&release));
            let release = sim.log.remove(release);
            let at = line(sim, mark);
            sim.log.insert(at, release);
        });
        assert!(released.contains(&Invariant::G8Map), "{mark}: {released:?}");
    }
}
