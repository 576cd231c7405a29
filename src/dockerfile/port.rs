//! The ports of EXPOSE.

/// The protocols that a port may have.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// One word of EXPOSE after expansion: `[[ip:]host:]port[-port][/protocol]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
    /// In lower case; `tcp` when none is written.
    pub(crate) protocol: &'static str,
    /// An address or a port of the host is written, which has no effect in an image.
    pub(crate) has_host: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PortError {
    #[error("no port specified: {0}<empty>")]
    Missing(String),
    #[error("invalid proto: {0}")]
    Protocol(String),
    #[error("invalid containerPort: {0}")]
    Port(String),
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    #[error("invalid IP address: {0}")]
    Address(String),
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges { container: String, host: String },
}

impl PortRange {
    pub(crate) fn parse(text: &str) -> Result<Self, PortError> {
        let (host, container) = match text.rsplit_once(':') {
            Some((host, container)) => (Some(host), container),
            None => (None, text),
        };
        let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
        if ports.is_empty() {
            return Err(PortError::Missing(text.to_owned()));
        }
        let lower = protocol.to_lowercase();
        let protocol = match lower.as_str() {
            "" => "tcp",
            other => PROTOCOLS
                .into_iter()
                .find(|known| *known == other)
                .ok_or_else(|| PortError::Protocol(lower.clone()))?,
        };
        let (first, last) = parse_range(ports).ok_or_else(|| PortError::Port(ports.to_owned()))?;
        if let Some(host) = host {
            check_host(host, ports, last - first)?;
        }
        Ok(Self {
            first,
            last,
            protocol,
            has_host: host.is_some(),
        })
    }

    /// The entries of the image configuration, one per port.
    pub(crate) fn entries(&self) -> impl Iterator<Item = String> {
        (self.first..=self.last).map(|port| format!("{port}/{}", self.protocol))
    }
}

/// Checks `[ip:]port[-port]`; a range must be as long as that of the container, or the container
/// has a single port.
fn check_host(host: &str, container: &str, length: u16) -> Result<(), PortError> {
    let (address, ports) = match host.rsplit_once(':') {
        Some((address, ports)) => (Some(address), ports),
        None => (None, host),
    };
    if let Some(address) = address.filter(|address| !address.is_empty()) {
        let bare = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if bare.unwrap_or(address).parse::<std::net::IpAddr>().is_err() {
            return Err(PortError::Address(address.to_owned()));
        }
    }
    if ports.is_empty() {
        return Ok(());
    }
    let (first, last) = parse_range(ports).ok_or_else(|| PortError::HostPort(ports.to_owned()))?;
    if length != 0 && last - first != length {
        let (container, host) = (container.to_owned(), ports.to_owned());
        return Err(PortError::Ranges { container, host });
    }
    Ok(())
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (parse_number(first)?, parse_number(last)?);
    (first <= last).then_some((first, last))
}

fn parse_number(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_become_entries() {
        for (text, entries, has_host) in [
            ("80", &["80/tcp"][..], false),
            ("80/tcp", &["80/tcp"], false),
            ("53/UDP", &["53/udp"], false),
            ("9/sctp", &["9/sctp"], false),
            ("80/", &["80/tcp"], false),
            ("0", &["0/tcp"], false),
            ("65535", &["65535/tcp"], false),
            (
                "8000-8002/udp",
                &["8000/udp", "8001/udp", "8002/udp"],
                false,
            ),
            ("8080:80", &["80/tcp"], true),
            ("127.0.0.1:8080:80", &["80/tcp"], true),
            ("127.0.0.1::80", &["80/tcp"], true),
            ("[::1]:8080:80", &["80/tcp"], true),
            ("::1:8080:80", &["80/tcp"], true),
            ("8080-8090:80", &["80/tcp"], true),
            ("1-2:3-4", &["3/tcp", "4/tcp"], true),
        ] {
            let range = PortRange::parse(text).unwrap();
            assert_eq!(range.entries().collect::<Vec<_>>(), entries, "{text}");
            assert_eq!(range.has_host, has_host, "{text}");
        }
    }

    #[test]
    fn wrong_ports_are_errors() {
        for (text, message) in [
            ("", "no port specified: <empty>"),
            ("/tcp", "no port specified: /tcp<empty>"),
            ("80:", "no port specified: 80:<empty>"),
            ("80/icmp", "invalid proto: icmp"),
            ("65536", "invalid containerPort: 65536"),
            ("-1", "invalid containerPort: -1"),
            ("+1", "invalid containerPort: +1"),
            ("a", "invalid containerPort: a"),
            ("9-8", "invalid containerPort: 9-8"),
            ("1-2-3", "invalid containerPort: 1-2-3"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3:1:80", "invalid IP address: 1.2.3"),
            (
                "1-3:1-2",
                "invalid ranges specified for container and host Ports: 1-2 and 1-3",
            ),
        ] {
            assert_eq!(
                PortRange::parse(text).unwrap_err().to_string(),
                message,
                "{text:?}"
            );
        }
    }
}
