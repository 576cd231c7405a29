//! `--network=isolated`: attacks on the host and its networks from inside a RUN, and the way out.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::rig::outcome::Outcome;
use crate::rig::{Rig, host};

/// Whether there can be such networks here; says why not.
fn is_possible() -> bool {
    let tun = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    if tun.is_err() {
        host::skip("/dev/net/tun cannot be opened by this user");
        return false;
    }
    host::tool("pasta")
}

fn build(rig: &Rig, options: &[&str]) -> Outcome {
    Outcome::bounded(&rig.build_command(options))
}

/// The address with which this machine talks to others, if it does.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("1.1.1.1:53").ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) => Some(*address.ip()),
        SocketAddr::V6(_) => None,
    }
}

/// What [`REACH`] connects with, past the routes of its own namespace.
const WAYS: [&str; 3] = ["plain", "device", "index"];

/// `reach WAY tcp|udp ADDRESS PORT` and `reach plain abstract NAME`: 0 when something was there, or sent.
const REACH: &str = r#"
    #define _GNU_SOURCE
    #include <arpa/inet.h>
    #include <errno.h>
    #include <net/if.h>
    #include <netinet/in.h>
    #include <poll.h>
    #include <stddef.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/un.h>
    #include <unistd.h>

    int main(int argc, char **argv) {
        if (argc < 4) return 2;
        alarm(10);
        if (!strcmp(argv[2], "abstract")) {
            struct sockaddr_un to = { .sun_family = AF_UNIX };
            strcpy(to.sun_path + 1, argv[3]);
            int s = socket(AF_UNIX, SOCK_STREAM, 0);
            socklen_t length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(argv[3]);
            return connect(s, (struct sockaddr *)&to, length) != 0;
        }
        int is_tcp = !strcmp(argv[2], "tcp"), six = strchr(argv[3], ':') != 0;
        int s = socket(six ? AF_INET6 : AF_INET,
                       (is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
        int index = htonl(if_nametoindex("eth0"));
        if (!strcmp(argv[1], "device")) {
            if (setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "eth0", 5)) return 3;
        } else if (!strcmp(argv[1], "index")) {
            if (!six && setsockopt(s, IPPROTO_IP, IP_UNICAST_IF, &index, sizeof index)) return 3;
        }
        struct sockaddr_in to4 = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[4])) };
        struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_port = htons(atoi(argv[4])),
                                    .sin6_scope_id = if_nametoindex("eth0") };
        struct sockaddr *to = six ? (void *)&to6 : (void *)&to4;
        socklen_t length = six ? sizeof to6 : sizeof to4;
        if (inet_pton(six ? AF_INET6 : AF_INET, argv[3],
                      six ? (void *)&to6.sin6_addr : (void *)&to4.sin_addr) != 1) return 2;
        if (!is_tcp) {
            for (int i = 0; i < 3; i++) {
                sendto(s, "x", 1, 0, to, length);
                usleep(100000);
            }
            return 0;
        }
        if (connect(s, to, length) == 0) return 0;
        if (errno != EINPROGRESS) return 1;
        struct pollfd wait = { .fd = s, .events = POLLOUT };
        if (poll(&wait, 1, 2000) != 1) return 1;
        int error = 0;
        length = sizeof error;
        getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &length);
        return error != 0;
    }"#;

/// A context with the program `reach`, or nothing where there is no compiler.
fn armed() -> Option<Rig> {
    if !is_possible() {
        return None;
    }
    let program = host::compile(REACH)?;
    let rig = Rig::new();
    rig.write("reach", program).chmod("reach", 0o755);
    Some(rig)
}

#[test]
fn services_of_the_host_are_out_of_reach() {
    let Some(rig) = armed() else { return };
    let tcp = TcpListener::bind("[::]:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    let udp = UdpSocket::bind(("0.0.0.0", port)).unwrap();
    let name = format!("rbuild-it-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let unix = UnixListener::bind_addr(&address).unwrap();
    let mut targets: Vec<String> = [
        "127.0.0.1",
        "127.0.0.53",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "198.18.0.1",
        "198.18.0.2",
        "198.18.0.5",
        "198.18.0.53",
        "255.255.255.255",
    ]
    .map(str::to_owned)
    .into();
    targets.extend(own_address().map(|address| address.to_string()));
    let attacks = |protocol: &str| -> String {
        let ways = WAYS.iter().flat_map(|way| {
            targets
                .iter()
                .map(move |target| format!("/reach {way} {protocol} {target} {port} &\n"))
        });
        ways.collect()
    };
    let attack = format!(
        "FROM base\nCOPY reach /\nRUN <<EOF\n{}{}/reach plain abstract {name} && exit 9\nwait\nexit 0\nEOF\n",
        attacks("tcp"),
        attacks("udp"),
    );
    rig.dockerfile(&attack);
    build(&rig, &["--network=isolated"]).succeeds();
    tcp.set_nonblocking(true).unwrap();
    unix.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(unix.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let mut datagram = [0; 16];
    assert_eq!(
        udp.recv(&mut datagram).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
    // The same attack arrives where the network is shared: the listeners do listen.
    build(&rig, &["--network=host"]).exits_with(1);
    tcp.accept().unwrap();
    unix.accept().unwrap();
    udp.recv(&mut datagram).unwrap();
}

#[test]
fn link_local_and_private_addresses_are_refused_at_once() {
    let Some(rig) = armed() else { return };
    let mut attacks = String::new();
    for target in [
        "169.254.169.254",
        "10.0.0.1",
        "10.255.255.53",
        "172.17.0.1",
        "192.168.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "fe80::1",
        "fd00:ec2::254",
        "2001:4860:4860::8888",
    ] {
        for way in WAYS {
            for port in [53, 80] {
                attacks.push_str(&format!(
                    "/reach {way} tcp {target} {port} && echo {way} {target} {port} >> /reached &\n"
                ));
            }
        }
    }
    let image = rig.image_with(
        &format!("FROM base\nCOPY reach /\nRUN <<EOF\n: > /reached\n{attacks}wait\nexit 0\nEOF\n"),
        &["--network=isolated"],
    );
    assert_eq!(image.text("reached"), "");
}

#[test]
fn a_root_with_every_capability_does_not_get_further() {
    let Some(rig) = armed() else { return };
    let Some(address) = own_address() else { return };
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    rig.dockerfile(&format!(
        "# syntax=docker/dockerfile:1-labs\nFROM base\nCOPY reach /\n\
         RUN --security=insecure ip route del default; ip route add default dev eth0; \
         ip addr add {address}/8 dev eth0; ip addr del {address}/8 dev eth0; \
         ip route add {address} via 198.18.0.5; \
         /reach plain tcp {address} {port}; /reach device tcp {address} {port}; \
         /reach plain tcp 169.254.169.254 80 && exit 9; exit 0"
    ));
    build(
        &rig,
        &["--network=isolated", "--allow", "security.insecure"],
    )
    .succeeds();
    tcp.set_nonblocking(true).unwrap();
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// A question for the name `localhost`.
const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x09localhost\0\0\x01\0\x01";

/// The resolver of this host answers.
fn has_resolver() -> bool {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let server = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .find_map(|server| server.trim().parse::<Ipv4Addr>().ok());
    let Some(server) = server else { return false };
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(3)))
        .unwrap();
    let sent = socket.send_to(QUESTION, (server, 53));
    sent.is_ok() && socket.recv(&mut [0; 512]).is_ok()
}

#[test]
fn names_are_resolved_through_pasta() {
    if !is_possible() {
        return;
    }
    if !has_resolver() {
        host::skip("this host has no resolver that answers");
        return;
    }
    let rig = Rig::new();
    let text = rig
        .image_with(
            "FROM base\nRUN cp /etc/resolv.conf /resolv; nslookup localhost > /answer 2>&1; true",
            &["--network=isolated"],
        )
        .text("answer");
    assert!(!text.contains("timed out"), "{text}");
    assert!(text.contains("198.18.0.53"), "{text}");
}

#[test]
fn the_sandbox_sees_its_own_network_only() {
    if !is_possible() {
        return;
    }
    let rig = Rig::new();
    let text = rig
        .image_with(
            "FROM base\nRUN ls /sys/class/net > /links; cat /proc/net/route >> /links",
            &["--network=isolated"],
        )
        .text("links");
    assert!(text.starts_with("eth0\nlo\n"), "{text}");
}

#[test]
fn the_dockerfile_may_ask_for_less_but_not_for_more() {
    if !is_possible() {
        return;
    }
    let rig = Rig::new();
    rig.dockerfile(
        "FROM base\nRUN --network=none ls /sys/class/net > /links && ! grep eth0 /links",
    );
    build(&rig, &["--network=isolated"]).succeeds();
    rig.dockerfile("FROM base\nRUN --network=host true");
    build(&rig, &["--network=isolated"])
        .exits_with(1)
        .says(&["Dockerfile:2", "--allow network.host"]);
    build(&rig, &["--network=isolated", "--allow", "network.host"]).succeeds();
    rig.dockerfile("FROM base\nRUN --network=default grep -q 198.18.0.53 /etc/resolv.conf");
    build(&rig, &["--network=isolated"]).succeeds();
}

#[test]
fn the_network_is_part_of_the_cache_key() {
    if !is_possible() {
        return;
    }
    let rig = Rig::new();
    let step = "RUN echo x > /x";
    rig.dockerfile(&format!("FROM base\n{step}"));
    let modes = ["isolated", "none", "host"];
    for mode in modes {
        let option = format!("--network={mode}");
        assert!(
            !build(&rig, &[&option]).succeeds().is_cached(step),
            "{mode}"
        );
    }
    for mode in modes {
        let option = format!("--network={mode}");
        assert!(build(&rig, &[&option]).succeeds().is_cached(step), "{mode}");
    }
}

#[test]
fn the_profile_and_the_configuration_file_choose_it() {
    if !is_possible() {
        return;
    }
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN grep -q 198.18.0.53 /etc/resolv.conf");
    build(&rig, &["--profile=multi-tenant"]).succeeds();
    let config = rig.path("config.json");
    fs::write(&config, r#"{"network": "isolated"}"#).unwrap();
    rig.dockerfile("FROM base\nRUN grep 198.18.0.53 /etc/resolv.conf");
    Outcome::of(rig.build_command(&[]).env("RBUILD_CONFIG", &config)).succeeds();
    rig.dockerfile("FROM base\nRUN ! grep 198.18.0.53 /etc/resolv.conf");
    Outcome::of(
        rig.build_command(&["--network=host"])
            .env("RBUILD_CONFIG", &config),
    )
    .succeeds();
    rig.run(&[
        "--network=isolated",
        "base",
        "grep",
        "198.18.0.53",
        "/etc/resolv.conf",
    ])
    .succeeds();
}

#[test]
fn pasta_ends_with_the_step_and_with_rbuild() {
    if !is_possible() {
        return;
    }
    let rig = Rig::new();
    let mark = format!("91{}", std::process::id());
    rig.dockerfile(&format!("FROM base\nRUN echo begun; sleep {mark}"));
    let mut command = rig.build_command(&["--network=isolated"]);
    let mut child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut seen = Vec::new();
    let mut stderr = child.stderr.take().unwrap();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains(" begun\n") {
        let length = stderr.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..length]);
    }
    let helpers = children_of(child.id());
    // The spawner, init and pasta.
    assert_eq!(helpers.len(), 3);
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..100 {
        if helpers.iter().all(|pid| !is_running(*pid)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{helpers:?} outlive rbuild");
}

/// The processes that `parent` started.
fn children_of(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            let pids: Vec<u32> = text.split_whitespace().flat_map(str::parse).collect();
            pids
        })
        .collect()
}

fn is_running(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn without_pasta_the_build_says_what_to_install() {
    let rig = Rig::new();
    rig.dockerfile("FROM base\nRUN true");
    if fs::metadata("/usr/bin/pasta").is_err() {
        let mut command = rig.build_command(&["--network=isolated"]);
        Outcome::of(command.env("PATH", "/nowhere"))
            .exits_with(3)
            .says(&["Dockerfile:2", "passt"]);
    }
    // Nothing of it is needed for what does not run.
    rig.dockerfile("FROM base\nRUN --network=none true");
    let mut command = rig.build_command(&["--network=isolated"]);
    Outcome::of(command.env("PATH", "/usr/bin:/bin")).succeeds();
}
