// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets through netfilter that are logged to audit: one that stays in the network namespace of the task (which must be a
//! new one), and one from there to another ([`datagram`]).
//!
//! The rule of the first stands in INPUT, because a packet is received in a softirq, on behalf of no task: what CONTRACT.md G8
//! is about.

pub mod datagram;
mod link;
mod nftables;
mod request;
mod xtables;

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    os::fd::{FromRawFd, OwnedFd},
    time::Duration,
};

use super::{error::StepError, inherited};

/// Who logs the packet: the kernel has two makers of NETFILTER_PKT records.
#[derive(Clone, Copy, Debug)]
pub enum Logger {
    /// net/netfilter/xt_AUDIT.c.
    Xtables,
    /// The same, where the packet leaves instead of where it comes in.
    XtablesOut,
    /// net/netfilter/nft_log.c.
    Nftables,
}

/// Sends a datagram to 127.B.C.D, the token's low 24 bits, and waits until it has come in.
pub fn send(logger: Logger, token: u64) -> Result<(), StepError> {
    link::bring_loopback_up().map_err(StepError::call("loopback"))?;
    match logger {
        Logger::Xtables => {
            xtables::add_rule(xtables::LOCAL_IN).map_err(StepError::call("IPT_SO_SET_REPLACE"))?;
        }
        Logger::XtablesOut => {
            xtables::add_rule(xtables::LOCAL_OUT).map_err(StepError::call("IPT_SO_SET_REPLACE"))?;
        }
        Logger::Nftables => nftables::add(nftables::INPUT).map_err(StepError::call("NFT_MSG_NEWRULE"))?,
    }
    let [_, _, _, _, _, b, c, d] = token.to_be_bytes();
    exchange(Ipv4Addr::new(127, b, c, d)).map_err(StepError::call("datagram"))
}

/// Lets the loopback device receive all that passes by, and no longer, under the name `nstTOKEN`.
pub fn listen_to_all(token: u64) -> Result<(), StepError> {
    let name = format!("nst{token}");
    link::with_name(link::LOOPBACK_NAME, &name, |socket| {
        link::set_flags(&name, socket, libc::IFF_PROMISC)?;
        link::set_flags(&name, socket, 0)
    })
    .map_err(StepError::call("promiscuous loopback"))
}

fn exchange(address: Ipv4Addr) -> io::Result<()> {
    let receiver = UdpSocket::bind(SocketAddrV4::new(address, 0))?;
    receiver.set_read_timeout(Some(Duration::from_secs(10)))?;
    let sender = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    sender.send_to(b"nstrail", receiver.local_addr()?)?;
    receiver.recv(&mut [0; 16]).map(drop)
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the descriptor is new and nobody else owns it.
    let fd = inherited::check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) }.into())?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
