//! Which addresses may be connected to: with [`refuse_private`], none that only this machine or its
//! networks have.
//!
//! The check is of the address that the connection goes to, not of the name that had it a moment
//! before: [`resolver`] gives a client what it then connects to, and [`check`] is for hosts that are
//! addresses already, which no client resolves. What a proxy resolves, the proxy answers for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Set once, before anything is fetched.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// From now on private addresses are refused.
pub(crate) fn refuse_private() {
    REFUSED.store(true, Ordering::SeqCst);
}

/// Whether private addresses are refused.
pub(crate) fn is_restricted() -> bool {
    REFUSED.load(Ordering::SeqCst)
}

/// A connection that is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{host} is {address}, an address of this machine or a private network, which \
     --refuse-private-addresses or the profile refuses"
)]
pub(crate) struct Refused {
    host: String,
    address: IpAddr,
}

/// Refuses a URL whose host is a private address. `except` are hosts that may have one.
pub(crate) fn check(url: &Url, except: &[String]) -> Result<(), Refused> {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse() {
        Ok(address) if is_restricted() && !is_excepted(bare, except) && !is_public(address) => {
            Err(Refused {
                host: host.to_owned(),
                address,
            })
        }
        _ => Ok(()),
    }
}

/// The refusal at the bottom of a client's error, if that is what it failed for.
pub(crate) fn refused_in(error: &(dyn std::error::Error + 'static)) -> Option<Refused> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(|error| error.get_ref()?.downcast_ref());
        if let Some(refused) = inner.or_else(|| error.downcast_ref::<Refused>()) {
            return Some(refused.clone());
        }
        next = error.source();
    }
    None
}

/// A resolver that knows no private addresses but those of `except`; `None` when all are allowed.
pub(crate) fn resolver(except: &[String]) -> Option<Arc<Public>> {
    let mut except = except.to_vec();
    except.extend(proxies());
    is_restricted().then(|| Arc::new(Public { except }))
}

/// Resolves `host` to an address that may be connected to.
pub(crate) fn resolve(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    lookup(host, port, &[])
}

/// Resolves names to public addresses.
#[derive(Debug)]
pub(crate) struct Public {
    except: Vec<String>,
}

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let except = self.except.clone();
        let host = name.as_str().to_owned();
        Box::pin(async move {
            // The client sets the port.
            let found = tokio::task::spawn_blocking(move || lookup(&host, 0, &except)).await??;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// The addresses of `host`, or an error when one of them is private: a name that has both is no
/// name of a public server.
fn lookup(host: &str, port: u16, except: &[String]) -> std::io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let private = found.iter().find(|found| !is_public(found.ip()));
    match private {
        Some(private) if is_restricted() && !is_excepted(host, except) => {
            Err(std::io::Error::other(Refused {
                host: host.to_owned(),
                address: private.ip(),
            }))
        }
        _ => Ok(found),
    }
}

fn is_excepted(host: &str, except: &[String]) -> bool {
    except.iter().any(|name| name.eq_ignore_ascii_case(host))
}

/// The host of `HOST[:PORT]`, as registries are named.
pub(crate) fn host_of(registry: &str) -> &str {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The user's proxies, which are connected to instead of servers.
pub(crate) fn proxies() -> Vec<String> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    let values = names.iter().flat_map(|name| {
        [name.to_string(), name.to_lowercase()]
            .into_iter()
            .filter_map(|name| std::env::var(name).ok())
    });
    let host = |value: String| {
        let url = Url::parse(&value).or_else(|_| Url::parse(&format!("http://{value}")));
        Some(url.ok()?.host_str()?.to_owned())
    };
    values.filter_map(host).collect()
}

/// Whether an address is of the public Internet, as of the registries of special-purpose addresses
/// (RFC 6890 and its updates).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && b & 0xc0 == 64;
    let benchmark = a == 198 && b & 0xfe == 18;
    let protocols = (a, b, c) == (192, 0, 0);
    let relays = (a, b, c) == (192, 88, 99);
    !(a == 0
        || a >= 240
        || shared
        || benchmark
        || protocols
        || relays
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Mapped, compatible and translated addresses of IPv4, and 6to4: what they lead to counts.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo, documentation, discard-only and the rest outside of global unicast: loopback,
        // unique local, link local and site local addresses, multicast.
        [0x2001, 0 | 0x0db8, ..] | [0x3fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_told_from_those_of_machines_and_networks() {
        for (address, public) in [
            ("1.1.1.1", true),
            ("172.15.0.1", true),
            ("172.32.0.1", true),
            ("100.128.0.1", true),
            ("2606:4700:4700::1111", true),
            ("::ffff:1.1.1.1", true),
            ("64:ff9b::1.1.1.1", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.168.0.1", false),
            ("192.0.0.192", false),
            ("198.18.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::10.0.0.1", false),
            ("2002:7f00:1::", false),
            ("2001:0:1::", false),
            ("fc00::1", false),
            ("fd00:ec2::254", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn registries_are_named_with_ports() {
        for (registry, host) in [
            ("localhost:5000", "localhost"),
            ("r.test", "r.test"),
            ("[::1]:80", "::1"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(host_of(registry), host);
        }
    }
}
