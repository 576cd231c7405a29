//! Links, addresses and routes of a network namespace (rtnetlink(7)), IPv4 only.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use super::{Error, Result};

/// Attributes of links and addresses, and what they nest (`linux/if_link.h`, `linux/if_addr.h`,
/// `linux/veth.h`, `linux/ip.h`).
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_FORWARDING: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_GATEWAY: u16 = 5;

/// The address family, as messages have it.
const AF_INET: u8 = 2;

/// The index of the loopback interface in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Gateway(Ipv4Addr),
    /// Nowhere: whoever sends there is told that it is not permitted.
    Prohibited,
}

/// A socket to the kernel about the network namespace that it was opened in.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread; it stays there.
    pub(crate) fn open() -> Result<Self> {
        socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )
        .map(Self)
        .map_err(|errno| Error::new("socket", "NETLINK_ROUTE", errno))
    }

    /// Makes two ends of a cable: `inner` here, `outer` in the namespace of `beyond`, for packets of
    /// `mtu` bytes.
    pub(crate) fn add_pair(
        &self,
        inner: &str,
        outer: &str,
        beyond: BorrowedFd<'_>,
        mtu: u32,
    ) -> Result<()> {
        let mut peer = link(0, 0);
        attribute(&mut peer, IFLA_IFNAME, &text(outer));
        attribute(&mut peer, IFLA_MTU, &mtu.to_ne_bytes());
        attribute(&mut peer, IFLA_NET_NS_FD, &beyond.as_raw_fd().to_ne_bytes());
        let data = nested(VETH_INFO_PEER, &peer);
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_KIND, b"veth\0");
        attribute(&mut info, IFLA_INFO_DATA, &data);
        let mut body = link(0, 0);
        attribute(&mut body, IFLA_IFNAME, &text(inner));
        attribute(&mut body, IFLA_MTU, &mtu.to_ne_bytes());
        attribute(&mut body, IFLA_LINKINFO, &info);
        let new = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.change(libc::RTM_NEWLINK, new, &body, inner)
    }

    /// The index of the link called `name`.
    pub(crate) fn index_of(&self, name: &str) -> Result<u32> {
        let mut body = link(0, 0);
        attribute(&mut body, IFLA_IFNAME, &text(name));
        let answer = self.ask(libc::RTM_GETLINK, 0, &body, name)?;
        // struct nlmsghdr, then struct ifinfomsg, whose index is its second word.
        answer
            .get(20..24)
            .and_then(|bytes| Some(u32::from_ne_bytes(bytes.try_into().ok()?)))
            .ok_or_else(|| Error::new("netlink", name, Errno::EPROTO))
    }

    pub(crate) fn set_up(&self, index: u32) -> Result<()> {
        let up = libc::IFF_UP.cast_unsigned();
        let object = format!("link {index} up");
        self.change(libc::RTM_NEWLINK, 0, &link(index, up), &object)
    }

    /// Packets that arrive on the link may leave by others. Unlike the sysctl this needs no /proc.
    pub(crate) fn forward(&self, index: u32) -> Result<()> {
        let conf = nested(IPV4_DEVCONF_FORWARDING, &1_u32.to_ne_bytes());
        let spec = nested(AF_INET.into(), &nested(IFLA_INET_CONF, &conf));
        let mut body = link(index, 0);
        attribute(&mut body, IFLA_AF_SPEC, &spec);
        let object = format!("link {index} forwards");
        self.change(libc::RTM_SETLINK, 0, &body, &object)
    }

    pub(crate) fn add_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> Result<()> {
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        let mut body = vec![AF_INET, prefix, 0, 0];
        body.extend_from_slice(&index.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &address.octets());
        attribute(&mut body, IFA_ADDRESS, &address.octets());
        let new = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.change(libc::RTM_NEWADDR, new, &body, &address.to_string())
    }

    /// Adds a route to `network`/`prefix`, in place of one that is there.
    pub(crate) fn add_route(&self, network: Ipv4Addr, prefix: u8, via: Via) -> Result<()> {
        let kind = match via {
            Via::Gateway(_) => libc::RTN_UNICAST,
            Via::Prohibited => libc::RTN_PROHIBIT,
        };
        // struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type,
        // flags.
        let mut body = vec![
            AF_INET,
            prefix,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_UNIVERSE,
            kind,
        ];
        body.extend_from_slice(&0_u32.to_ne_bytes());
        if prefix > 0 {
            attribute(&mut body, RTA_DST, &network.octets());
        }
        if let Via::Gateway(gateway) = via {
            attribute(&mut body, RTA_GATEWAY, &gateway.octets());
        }
        let new = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let object = format!("route to {network}/{prefix}");
        self.change(libc::RTM_NEWROUTE, new, &body, &object)
    }

    fn change(&self, kind: u16, flags: i32, body: &[u8], object: &str) -> Result<()> {
        self.ask(kind, flags | libc::NLM_F_ACK, body, object)
            .map(drop)
    }

    /// Sends one message and returns the answer, whose error, if it is one, is this call's.
    fn ask(&self, kind: u16, flags: i32, body: &[u8], object: &str) -> Result<Vec<u8>> {
        let failed = |errno| Error::new("netlink", object, errno);
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).expect("flags of 16 bits");
        let length = u32::try_from(16 + body.len()).map_err(|_| failed(Errno::EMSGSIZE))?;
        // struct nlmsghdr: length, type, flags, sequence, port.
        let mut message = length.to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&flags.to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(body);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.0.as_raw_fd(), &message, &kernel, MsgFlags::empty()).map_err(failed)?;
        let mut answer = vec![0; 32 * 1024];
        let length = loop {
            match recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                other => break other.map_err(failed)?,
            }
        };
        answer.truncate(length);
        let kind = answer
            .get(4..6)
            .map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
        if kind.map(i32::from) != Some(libc::NLMSG_ERROR) {
            return Ok(answer);
        }
        let error = answer
            .get(16..20)
            .and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
        match error {
            Some(0) => Ok(answer),
            Some(error) => Err(failed(Errno::from_raw(-error))),
            None => Err(failed(Errno::EPROTO)),
        }
    }
}

/// struct ifinfomsg: family, type, index, flags, and which of the flags are meant.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body
}

fn text(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    attribute(&mut body, kind, value);
    body
}

/// struct nlattr, its value, and what is missing to a multiple of four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("attributes here are short");
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_their_length_is_not() {
        let mut body = Vec::new();
        attribute(&mut body, 3, b"lo\0");
        assert_eq!(body.len(), 8);
        assert_eq!(u16::from_ne_bytes([body[0], body[1]]), 7);
    }

    #[test]
    fn every_namespace_has_a_loopback_interface() {
        let netlink = Netlink::open().unwrap();
        assert_eq!(netlink.index_of("lo").unwrap(), LOOPBACK);
        assert_eq!(
            netlink.index_of("no-such-link").unwrap_err().errno,
            Errno::ENODEV
        );
    }
}
