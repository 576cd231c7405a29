//! A network of a sandbox's own, with a way out through pasta and none to the host.
//!
//! ```text
//!   sandbox          gateway                      host
//!   eth0 ──────────── in ─ routes ─ out ── pasta ── sockets of the invoking user
//! ```
//!
//! Two network namespaces, because what a process sends in its own is not held to the routes of that:
//! a socket that is bound to a device (socket(7), `SO_BINDTODEVICE`) or writes frames goes past them. In
//! the gateway every packet of the sandbox comes from elsewhere, so that its routes decide alone, and
//! nothing of the sandbox runs in it. They lead nowhere for addresses of the host, link-local ones (the
//! metadata services of clouds among them) and those of private networks. Names are resolved by what the
//! host's /etc/resolv.conf names first: pasta passes on what goes to port 53 of [`RESOLVER`].
//!
//! There is no IPv6 in it.

pub(crate) mod pasta;

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, BorrowedFd};

use nix::ifaddrs::getifaddrs;
use nix::sched::CloneFlags;

use crate::sys;
use crate::sys::netlink::{LOOPBACK, Netlink, Via};
use pasta::Pasta;

/// Where the sandbox sends questions for names.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 53);

/// Addresses of the cable between sandbox and gateway, and of that to pasta (RFC 2544: nobody's).
const INNER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 6);
const OUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 5);
const OUT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const PASTA: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// Each of the two cables is a network of four addresses.
const PREFIX: u8 = 30;
/// The largest packet of a tap device as pasta makes it.
const MTU: u32 = 65_520;

const IN_DEVICE: &str = "in";
const OUT_DEVICE: &str = "out";

/// What only a machine, its link or its private networks have (RFC 6890), what is none of one server,
/// and 168.63.129.16, where a machine of Azure finds its metadata.
const PROHIBITED: [(Ipv4Addr, u8); 12] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot make a network namespace")]
    Namespace(#[source] std::io::Error),
    #[error("cannot configure the network")]
    Configure(#[source] sys::Error),
    #[error("cannot tell which addresses this host has")]
    Addresses(#[source] sys::Error),
    #[error(transparent)]
    Pasta(#[from] pasta::Error),
}

/// The network of one sandbox. Dropping it ends its way out.
#[derive(Debug)]
pub(super) struct Isolated {
    namespace: File,
    pasta: Pasta,
}

impl Isolated {
    /// Makes the network; when this returns, it works and its limits are in place. The calling thread
    /// must live as long as the result: pasta dies with it.
    pub(super) fn start() -> Result<Self, Error> {
        let (gateway, routes) = new_namespace()?;
        let (namespace, inside) = new_namespace()?;
        for (network, prefix) in PROHIBITED.into_iter().chain(own_addresses()?) {
            routes
                .add_route(network, prefix, Via::Prohibited)
                .map_err(Error::Configure)?;
        }
        connect(&inside, &routes, gateway.as_fd()).map_err(Error::Configure)?;
        let pasta = Pasta::start(&gateway)?;
        open(&routes).map_err(Error::Configure)?;
        Ok(Self { namespace, pasta })
    }

    /// The namespace for the sandbox.
    pub(super) fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Ends the way out; an error if it had ended before.
    pub(super) fn end(mut self) -> Result<(), Error> {
        Ok(self.pasta.end()?)
    }
}

/// A network namespace, and a socket to configure it with.
fn new_namespace() -> Result<(File, Netlink), Error> {
    let make = || {
        nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
        let file = File::open("/proc/thread-self/ns/net")?;
        Ok((file, Netlink::open()?))
    };
    // A thread of its own, because this one stays where it is.
    let made = std::thread::Builder::new()
        .spawn(make)
        .map(std::thread::JoinHandle::join);
    match made {
        Ok(Ok(made)) => made.map_err(Error::Namespace),
        Ok(Err(_)) => Err(Error::Namespace(std::io::ErrorKind::Other.into())),
        Err(error) => Err(Error::Namespace(error)),
    }
}

/// Every IPv4 address of this host: what goes there would arrive, whatever network it is of.
fn own_addresses() -> Result<impl Iterator<Item = (Ipv4Addr, u8)>, Error> {
    let all =
        getifaddrs().map_err(|errno| Error::Addresses(sys::Error::new("getifaddrs", "", errno)))?;
    Ok(all.filter_map(|interface| {
        let address = interface.address?.as_sockaddr_in()?.ip();
        Some((address, 32))
    }))
}

/// Lays the cable between the sandbox and its gateway.
fn connect(inside: &Netlink, routes: &Netlink, gateway: BorrowedFd<'_>) -> sys::Result<()> {
    inside.add_pair("eth0", IN_DEVICE, gateway, MTU)?;
    let outer = routes.index_of(IN_DEVICE)?;
    routes.add_address(outer, OUTER, PREFIX)?;
    routes.forward(outer)?;
    routes.set_up(outer)?;
    let inner = inside.index_of("eth0")?;
    inside.add_address(inner, INNER, PREFIX)?;
    inside.set_up(LOOPBACK)?;
    inside.set_up(inner)?;
    inside.add_route(Ipv4Addr::UNSPECIFIED, 0, Via::Gateway(OUTER))
}

/// Lets answers come back from where pasta has put its device, and questions for names go there.
fn open(routes: &Netlink) -> sys::Result<()> {
    let out = routes.index_of(OUT_DEVICE)?;
    routes.forward(out)?;
    routes.add_route(RESOLVER, 32, Via::Gateway(PASTA))
}

/// /etc/resolv.conf of the sandbox, for a host whose own is `host`: its search list and options with
/// another server.
pub(crate) fn resolv_conf(host: &str) -> String {
    let kept = host.lines().map(str::trim_start).filter(|line| {
        let keyword = line.split_whitespace().next();
        matches!(keyword, Some("search" | "domain" | "options"))
    });
    let mut text = format!("nameserver {RESOLVER}\n");
    for line in kept {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Whether packets of an isolated sandbox to `address` are dropped on any host.
#[cfg(test)]
fn is_prohibited(address: Ipv4Addr) -> bool {
    PROHIBITED.iter().any(|(network, prefix)| {
        let mask = u32::MAX << (32 - u32::from(*prefix));
        address.to_bits() & mask == network.to_bits()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_networks_are_prohibited_and_others_are_not() {
        for (address, prohibited) in [
            ("10.0.0.1", true),
            ("100.100.100.200", true),
            ("127.0.0.1", true),
            ("169.254.169.254", true),
            ("172.17.0.1", true),
            ("192.168.1.1", true),
            ("198.18.0.53", true),
            ("255.255.255.255", true),
            ("1.1.1.1", false),
            ("172.32.0.1", false),
            ("192.1.0.1", false),
        ] {
            assert_eq!(
                is_prohibited(address.parse().unwrap()),
                prohibited,
                "{address}"
            );
        }
    }

    #[test]
    fn names_are_asked_of_pasta_with_the_hosts_search_list() {
        let host =
            "# by hand\nnameserver 127.0.0.53\n  search corp.test\noptions ndots:2\nsortlist x\n";
        assert_eq!(
            resolv_conf(host),
            "nameserver 198.18.0.53\nsearch corp.test\noptions ndots:2\n"
        );
    }
}
