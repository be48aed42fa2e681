// SPDX-License-Identifier: MIT OR Apache-2.0
//! Devices and routes by rtnetlink (include/uapi/linux/rtnetlink.h, if_link.h, veth.h), and devices by ioctl where the
//! other network namespace can be reached by a socket only.

use std::{
    io,
    os::fd::{AsRawFd, RawFd},
    ptr,
};

use super::{
    super::inherited,
    request::{CREATE, attribute, exchange, message, nested},
    socket,
};

const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const VETH_INFO_PEER: u16 = 1;
/// LOOPBACK_IFINDEX: the same in every network namespace.
const LOOPBACK: u32 = 1;
pub const LOOPBACK_NAME: &str = "lo";
/// A locally administered address. Both ends of a pair have it, so that what one sends is for the other.
const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Makes a pair of devices: `name` in the network namespace of the task, `peer` in the one that `netns` is a file of. Both
/// are down.
pub fn make_pair(name: &str, peer: &str, netns: RawFd) -> io::Result<()> {
    exchange(libc::NETLINK_ROUTE, &pair(name, peer, netns), 1)
}

fn pair(name: &str, peer: &str, netns: RawFd) -> Vec<u8> {
    let end = |name: &str| {
        let name = [name.as_bytes(), b"\0"].concat();
        [attribute(libc::IFLA_ADDRESS, &HARDWARE), attribute(libc::IFLA_IFNAME, &name)].concat()
    };
    // `struct ifinfomsg`: no family, type, index or flags.
    let own = [0; 16];
    let netns = attribute(libc::IFLA_NET_NS_FD, &(netns as u32).to_ne_bytes());
    let peer = attribute(VETH_INFO_PEER, &[&own[..], &end(peer), &netns].concat());
    let kind = attribute(libc::IFLA_INFO_KIND, b"veth");
    let info = nested(libc::IFLA_LINKINFO, &[kind, nested(libc::IFLA_INFO_DATA, &[peer])]);
    message(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &own, &[end(name), info].concat())
}

/// All of 10.0.0.0/8 is the task's own, whichever device it comes in by.
pub fn take_all_of_ten() -> io::Result<()> {
    exchange(libc::NETLINK_ROUTE, &route(), 1)
}

fn route() -> Vec<u8> {
    let (family, bits, no_source, no_tos) = (libc::AF_INET as u8, 8, 0, 0);
    let (table, protocol) = (libc::RT_TABLE_LOCAL, libc::RTPROT_BOOT);
    let (scope, kind) = (libc::RT_SCOPE_HOST, libc::RTN_LOCAL);
    let own = [family, bits, no_source, no_tos, table, protocol, scope, kind, 0, 0, 0, 0];
    let attributes =
        [attribute(libc::RTA_DST, &[10, 0, 0, 0]), attribute(libc::RTA_OIF, &LOOPBACK.to_ne_bytes())];
    message(libc::RTM_NEWROUTE, CREATE | REPLACE, &own, &attributes.concat())
}

/// Brings the task's loopback device up.
pub fn bring_loopback_up() -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    bring_up(LOOPBACK_NAME, socket.as_raw_fd(), 0)
}

/// Brings a device of the socket's network namespace up, with flags of its own.
pub fn bring_up(name: &str, socket: RawFd, flags: libc::c_int) -> io::Result<()> {
    set_flags(name, socket, libc::IFF_UP | libc::IFF_RUNNING | flags)
}

/// Gives a device these flags and no others.
pub fn set_flags(name: &str, socket: RawFd, flags: libc::c_int) -> io::Result<()> {
    let mut request = request_about(name);
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    control(socket, libc::SIOCSIFFLAGS, &mut request)
}

/// Takes a device of the task's down, and does something while it has another name.
pub fn with_name(name: &str, other: &str, act: impl FnOnce(RawFd) -> io::Result<()>) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let socket = socket.as_raw_fd();
    // A device that is up keeps its name.
    set_flags(name, socket, 0)?;
    rename(name, other, socket)?;
    let result = act(socket);
    rename(other, name, socket).and(result)
}

fn rename(from: &str, to: &str, socket: RawFd) -> io::Result<()> {
    let mut request = request_about(from);
    request.ifr_ifru.ifru_newname = request_about(to).ifr_name;
    control(socket, libc::SIOCSIFNAME, &mut request)
}

fn request_about(name: &str) -> libc::ifreq {
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays 0.
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn control(socket: RawFd, number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: `request` is what the call takes, and may write back.
    let result = unsafe { libc::ioctl(socket, number, ptr::from_mut(request)) };
    inherited::check(result.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::{super::request::tests::messages, *};

    #[test]
    fn messages_have_the_lengths_that_they_claim() {
        let pair = pair("a", "b", 7);
        assert_eq!(messages(&pair, 16), [(libc::RTM_NEWLINK, vec![1, 3, 18, 1, 2, 1])]);
        assert_eq!(messages(&route(), 12), [(libc::RTM_NEWROUTE, vec![1, 4])]);
    }
}
