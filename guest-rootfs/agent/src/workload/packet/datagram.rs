// SPDX-License-Identifier: MIT OR Apache-2.0
//! A datagram from one network namespace to another, logged where it leaves and where it comes in.
//!
//! A pair of veth devices joins the two, made for this one datagram and gone with the namespaces. It needs no addresses: the sender
//! takes one that is nobody's, the receiver takes all of 10.0.0.0/8, and the hardware address is the same on both ends. The
//! receiver only waits; the sender borrows its socket (pidfd_getfd), brings up the far device by it, and reads from it what
//! it has sent itself. So when it goes on, both records are queued.

use std::{
    io,
    mem::size_of,
    net::Ipv4Addr,
    os::fd::{AsRawFd, RawFd},
    ptr,
};

use nstrail_wire::{
    fact::{Act, ProbeKind},
    namespace::NamespaceType,
    step::Datagram,
};

use super::{
    super::{
        census,
        error::StepError,
        inherited::{self, RECEIVER},
        moves::{find, nsfs},
        spawn::LabelKind,
        task::Task,
    },
    link, nftables, socket,
};

const PORT: u16 = 4242;
/// An address for documentation (RFC 5737): no device has it.
const SENDER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Far longer than a packet takes on any machine.
const PATIENCE: libc::timeval = libc::timeval { tv_sec: 10, tv_usec: 0 };

/// Does a [`Step::Listen`](nstrail_wire::step::Step::Listen).
pub fn listen() -> Result<(), StepError> {
    link::bring_loopback_up().map_err(StepError::call("loopback"))?;
    link::take_all_of_ten().map_err(StepError::call("RTM_NEWROUTE"))?;
    nftables::add(nftables::RECEIVED).map_err(StepError::call("NFT_MSG_NEWRULE"))?;
    let listen = || {
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
        set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, bytes_of(&PATIENCE))?;
        bind(socket.as_raw_fd(), Ipv4Addr::UNSPECIFIED, PORT)?;
        // SAFETY: plain system call; the fixed descriptor is ours by convention.
        inherited::check(unsafe { libc::dup2(socket.as_raw_fd(), RECEIVER) }.into()).map(drop)
    };
    listen().map_err(StepError::call("socket of the receiver"))
}

/// Does a [`Step::Datagram`](nstrail_wire::step::Step::Datagram).
pub fn send(task: &mut Task, step: &Datagram) -> Result<(), StepError> {
    let &LabelKind::Task { actor, pidfd, .. } = find(task, &step.target)? else {
        return Err(StepError::Scenario("what is pinned receives no datagram"));
    };
    let file = nsfs(task, &step.target, NamespaceType::Net)?;
    let netns = census::inum_of(file).map_err(StepError::call("fstat of a namespace file"))?;
    let token = task.stage.ledger.allocate_token();
    nftables::add(nftables::SENT).map_err(StepError::call("NFT_MSG_NEWRULE"))?;
    let sent = transmit(token, file, pidfd);
    inherited::close(file);
    sent.map_err(|(what, error)| StepError::call(what)(error))?;
    nftables::remove(nftables::SENT).map_err(StepError::call("NFT_MSG_DELTABLE"))?;
    task.tell(Act::Probe { kind: ProbeKind::Sent, token, set: task.set })?;
    task.tell(Act::Received { token, by: actor, netns })
}

fn transmit(token: u64, netns: RawFd, receiver: RawFd) -> Result<(), (&'static str, io::Error)> {
    let during = |what| move |error| (what, error);
    let (near, far) = (format!("nst{token:x}a"), format!("nst{token:x}b"));
    // SAFETY: plain system call without pointers.
    let borrowed = inherited::check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, receiver, RECEIVER, 0) })
        .map_err(during("pidfd_getfd of the receiver's socket (has it done `listen`?)"))?
        as RawFd;
    let result = (|| {
        link::make_pair(&near, &far, netns).map_err(during("RTM_NEWLINK of a veth pair"))?;
        let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0).map_err(during("socket"))?;
        let own = socket.as_raw_fd();
        // The far one first: a device whose other end is down has no carrier, and gets it only a while later.
        link::bring_up(&far, borrowed, 0).map_err(during("SIOCSIFFLAGS of the far device"))?;
        link::bring_up(&near, own, libc::IFF_NOARP).map_err(during("SIOCSIFFLAGS of the near device"))?;
        let yes: libc::c_int = 1;
        set_option(own, libc::SOL_IP, libc::IP_TRANSPARENT, bytes_of(&yes))
            .map_err(during("IP_TRANSPARENT"))?;
        set_option(own, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, near.as_bytes())
            .map_err(during("SO_BINDTODEVICE"))?;
        bind(own, SENDER, 0).map_err(during("bind of the sender"))?;
        let [.., b, c, d] = token.to_be_bytes();
        let to = address(Ipv4Addr::new(10, b, c, d), PORT);
        let text = token.to_be_bytes();
        // SAFETY: text and address are readable for their lengths.
        let sent = unsafe {
            libc::sendto(
                own,
                text.as_ptr().cast(),
                text.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_in>() as libc::socklen_t,
            )
        };
        inherited::check(sent as libc::c_long).map_err(during("sendto"))?;
        let mut room = [0; 16];
        // SAFETY: `room` is writable for its length.
        let length = unsafe { libc::recv(borrowed, room.as_mut_ptr().cast(), room.len(), 0) };
        let length = inherited::check(length as libc::c_long).map_err(during("recv at the far end"))?;
        if room[..length as usize] == text {
            Ok(())
        } else {
            Err(("recv at the far end", io::ErrorKind::InvalidData.into()))
        }
    })();
    inherited::close(borrowed);
    result
}

fn address(ip: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    // SAFETY: all-zero is a valid `sockaddr_in`.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_ne_bytes(ip.octets());
    address
}

fn bind(socket: RawFd, ip: Ipv4Addr, port: u16) -> io::Result<()> {
    let address = address(ip, port);
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: the address is readable for its length.
    inherited::check(unsafe { libc::bind(socket, (&raw const address).cast(), length) }.into()).map(drop)
}

fn set_option(socket: RawFd, level: libc::c_int, name: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: `value` is readable for its length.
    let result = unsafe { libc::setsockopt(socket, level, name, value.as_ptr().cast(), length) };
    inherited::check(result.into()).map(drop)
}

fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: callers pass C structures of numbers without padding.
    unsafe { std::slice::from_raw_parts(ptr::from_ref(value).cast(), size_of::<T>()) }
}
