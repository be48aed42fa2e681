// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread that forks every child.
//!
//! PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the process: a child started by
//! a worker thread would die with that worker. So one thread that lives as long as we do forks
//! them all.

use std::io;
use std::os::unix::process::CommandExt;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

struct Job {
    expression: duct::Expression,
    answer: SyncSender<io::Result<duct::Handle>>,
}

static SPAWNER: Mutex<Option<Sender<Job>>> = Mutex::new(None);

/// Starts an expression of one command, as leader of a process group that dies with us; with `session`, of a session,
/// which has no terminal.
pub(super) fn start(expression: duct::Expression, session: bool) -> io::Result<duct::Handle> {
    let parent = std::process::id();
    let expression = expression.before_spawn(move |command| {
        if !session {
            command.process_group(0);
        }
        // SAFETY: between fork and exec the closure only calls setsid, prctl and getppid, which are plain
        // system calls: no allocation, no lock.
        unsafe {
            command.pre_exec(move || {
                if session && libc::setsid() == -1 {
                    return Err(io::Error::last_os_error());
                }
                die_with(parent)
            });
        }
        Ok(())
    });
    let (answer, result) = sync_channel(1);
    submit(Job { expression, answer })?;
    result.recv().unwrap_or_else(|_| Err(io::Error::other("the spawning thread is gone")))
}

fn submit(job: Job) -> io::Result<()> {
    let mut spawner = SPAWNER.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = match spawner.as_ref() {
        Some(sender) => sender,
        None => {
            let (sender, jobs) = channel::<Job>();
            thread::Builder::new().name("spawner".into()).spawn(move || {
                for job in jobs {
                    // The asker may have gone only if its thread panicked: then the handle is dropped.
                    let _ = job.answer.send(job.expression.start());
                }
            })?;
            spawner.insert(sender)
        }
    };
    sender.send(job).map_err(|_| io::Error::other("the spawning thread is gone"))
}

fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // We may have died before the prctl: then the signal never comes.
    if std::os::unix::process::parent_id() != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}
