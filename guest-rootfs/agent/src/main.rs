// SPDX-License-Identifier: MIT OR Apache-2.0
//! PID 1 of the guest: boots to the host's command, runs a scenario, and ends the machine.
//!
//! Two processes. PID 1 (this file, [`session`]) is single-threaded and is what workloads are cloned from;
//! its child, the [`collector`], is the audit daemon and the way to the host. They share the [`ledger`].
//!
//! The agent reports facts, never verdicts. What it cannot do ends in `GuestMessage::Failed`, or, if
//! even that has no way out, on the console; a machine that ends without a last message has crashed.

mod census;
mod collector;
mod control;
mod drops;
mod exposed;
mod ledger;
mod marker;
mod mounts;
mod netlink;
mod orphans;
mod panic;
mod ports;
mod power;
mod rule;
mod session;
mod workload;

use std::{
    error::Error,
    fs::File,
    io::{self, Write},
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{
    collector::{Collector, command::Connection},
    control::AuditController,
    ledger::Ledger,
    mounts::mount_early,
    ports::Ports,
    session::Session,
};

fn main() {
    panic::install();
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|argument| argument == "exec-step") {
        workload::exec_entry(&arguments);
    }
    if std::process::id() != 1 {
        say("this is the init of a guest, and must be PID 1");
        std::process::exit(2);
    }
    let ended = catch_unwind(AssertUnwindSafe(boot));
    // A panic has been told by its hook.
    if let Ok(Err(error)) = ended {
        say(&error.to_string());
    }
    power::end();
}

/// A line on the console, for what the host cannot be told.
fn say(text: &str) {
    // There is nowhere to tell that it failed.
    drop(writeln!(io::stderr(), "nstrail: {text}"));
}

fn boot() -> Result<(), Box<dyn Error>> {
    mount_early()?;
    let ports = Ports::open()?;
    let port = ports.control.try_clone()?;
    let (ledger, pipe) = Ledger::create()?;
    let (ours, theirs) = Connection::pair()?;
    // SAFETY: this process has one thread, so its child finds no lock held.
    let collector = unsafe { libc::fork() };
    match collector {
        0 => {
            drop((ours, port));
            collect(ports, pipe, theirs)
        }
        1.. => {
            drop((ports, pipe, theirs));
            panic::survive()?;
            lead(&AuditController::new(ours, ledger)?, ledger, &port, collector);
            Ok(())
        }
        _ => Err(io::Error::last_os_error().into()),
    }
}

/// The collector's process, to its end.
fn collect(ports: Ports, pipe: File, mut connection: Connection) -> ! {
    // Caught here: unwinding further would lead into the code of PID 1 that this process was forked from.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        panic::survive()?;
        Collector::start(ports, pipe)?.serve(&mut connection)
    }));
    if let Ok(Err(error)) = ended {
        say(&format!("collector: {error}"));
    }
    std::process::exit(1)
}

/// PID 1's part, to the last message and the host's hanging up.
fn lead(control: &AuditController, ledger: Ledger, port: &File, collector: libc::pid_t) {
    let session = Session { control, ledger, port, collector };
    let ended = catch_unwind(AssertUnwindSafe(|| session.run()));
    let told = match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let message = error.into_message();
            say(&format!("{message:?}"));
            // What is left of the ledger is of use to the reader of the failure, but not needed for it.
            drop(control.drain_ledger());
            control.send(message)
        }
        // The hook has told it through the ledger.
        Err(_) => control.drain_ledger(),
    };
    match told {
        Ok(()) => power::await_hang_up(port),
        Err(error) => say(&format!("the host cannot be told: {error}")),
    }
}
