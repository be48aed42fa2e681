// SPDX-License-Identifier: MIT OR Apache-2.0
//! As much of the QEMU Machine Protocol as is needed: to end the machine in an orderly way.

use std::{
    io::{self, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

/// Asks QEMU to quit. QEMU answers by closing the socket; what it says before is of no use to us.
///
/// The greeting need not be awaited: QEMU takes commands in the order in which they were written.
///
/// # Errors
/// If the socket does not take the commands.
pub fn quit(mut socket: &UnixStream) -> io::Result<()> {
    socket.set_write_timeout(Some(Duration::from_millis(200)))?;
    socket.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n")
}
