//! `RUN --mount=type=ssh`: an agent that signs and lists, and can do nothing else.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use crate::rig::{Rig, host};

/// Sends the messages in its arguments (hexadecimal, without length) over one connection, and prints
/// the type of each answer, or `closed`. A message `@N` announces N bytes and sends none.
const CLIENT: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/un.h>
static int all(int fd, unsigned char *b, int n) {
  while (n > 0) { int r = read(fd, b, n); if (r <= 0) return 0; b += r; n -= r; }
  return 1;
}
int main(int argc, char **argv) {
  struct sockaddr_un a = { .sun_family = AF_UNIX };
  strncpy(a.sun_path, getenv("SSH_AUTH_SOCK"), sizeof a.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  alarm(20);
  if (connect(fd, (void *)&a, sizeof a)) { perror("connect"); return 1; }
  for (int i = 1; i < argc; i++) {
    static unsigned char m[600000];
    unsigned n = argv[i][0] == '@' ? atoi(argv[i] + 1) : strlen(argv[i]) / 2;
    m[0] = n >> 24; m[1] = n >> 16; m[2] = n >> 8; m[3] = n;
    for (unsigned j = 0; argv[i][0] != '@' && j < n; j++) sscanf(argv[i] + 2 * j, "%2hhx", m + 4 + j);
    send(fd, m, argv[i][0] == '@' ? 4 : n + 4, MSG_NOSIGNAL);
    unsigned char h[4];
    if (!all(fd, h, 4)) { puts("closed"); return 0; }
    n = h[0] << 24 | h[1] << 16 | h[2] << 8 | h[3];
    if (n > sizeof m || !all(fd, m, n)) { puts("closed"); return 0; }
    printf("%d\n", m[0]);
  }
  return 0;
}
"#;

/// An agent that answers everything with the request's type and one, and remembers what it was asked.
struct Agent {
    requests: Arc<Mutex<Vec<u8>>>,
    path: String,
}

impl Agent {
    fn start(rig: &Rig) -> Self {
        let path = rig.path("agent");
        let listener = UnixListener::bind(&path).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || {
                    let mut length = [0; 4];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut message = vec![0; u32::from_be_bytes(length) as usize];
                        stream.read_exact(&mut message).unwrap();
                        seen.lock().unwrap().push(message[0]);
                        stream.write_all(&[0, 0, 0, 1, message[0] + 1]).unwrap();
                    }
                });
            }
        });
        Self {
            requests,
            path: path.display().to_string(),
        }
    }

    fn requests(&self) -> Vec<u8> {
        self.requests.lock().unwrap().clone()
    }
}

/// A rig with the client in its context; `None` where there is no compiler.
fn rig() -> Option<Rig> {
    let client = host::compile(CLIENT)?;
    let rig = Rig::new();
    rig.write("client", client).chmod("client", 0o755);
    Some(rig)
}

const CLIENT_MOUNT: &str = "--mount=source=client,target=/client";

#[test]
fn listing_and_signing_are_passed_on_and_nothing_else_is() {
    let Some(rig) = rig() else { return };
    let agent = Agent::start(&rig);
    let option = format!("--ssh=default={}", agent.path);
    // Draft-miller-ssh-agent, section 6.1: add 17, remove 18 and 19, smart card 20 and 21, lock 22,
    // unlock 23, constrained 25 and 26, extension 27; the old protocol's 1 to 9, and one unknown.
    let image = rig.image_with(
        &format!(
            "FROM base\nRUN --mount=type=ssh {CLIENT_MOUNT} \
             /client 0b 0d0102 11 12 13 14 15 16 17 19 1a 1b 01 03 07 09 ff 0b > /out"
        ),
        &[&option],
    );
    let answers: Vec<u8> = image
        .text("out")
        .lines()
        .map(|l| l.parse().unwrap())
        .collect();
    let mut expected = vec![12, 14];
    expected.extend([5; 15]);
    expected.push(12);
    assert_eq!(answers, expected);
    assert_eq!(agent.requests(), [11, 13, 11]);
}

#[test]
fn a_message_that_is_too_long_or_empty_ends_the_connection() {
    let Some(rig) = rig() else { return };
    let agent = Agent::start(&rig);
    let option = format!("--ssh=default={}", agent.path);
    for length in ["@262145", "@2147483647", "@0"] {
        let image = rig.image_with(
            &format!("FROM base\nRUN --mount=type=ssh {CLIENT_MOUNT} /client {length} > /out"),
            &[&option],
        );
        assert_eq!(image.text("out"), "closed\n", "{length}");
    }
    assert!(agent.requests().is_empty());
}

#[test]
fn where_the_socket_is_and_whose() {
    let Some(rig) = rig() else { return };
    let agent = Agent::start(&rig);
    let options = [
        format!("--ssh=default={}", agent.path),
        format!("--ssh=work={}", agent.path),
    ];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    for (mounts, expected) in [
        ("--mount=type=ssh", "/run/buildkit/ssh_agent.0 600 0:0"),
        (
            "--mount=type=ssh,mode=0666",
            "/run/buildkit/ssh_agent.0 666 0:0",
        ),
        ("--mount=type=ssh,target=/a/b", "/a/b 600 0:0"),
        (
            "--mount=type=ssh,id=work,required",
            "/run/buildkit/ssh_agent.0 600 0:0",
        ),
        (
            "--mount=type=ssh,target=/z --mount=type=ssh,id=work",
            "/z 600 0:0",
        ),
    ] {
        let image = rig.image_with(
            &format!(
                "FROM base\nRUN {mounts} {CLIENT_MOUNT} test $(/client 0b) = 12 && \
                 echo $SSH_AUTH_SOCK $(stat -c '%a %u:%g' $SSH_AUTH_SOCK) > /out"
            ),
            &options,
        );
        assert_eq!(image.text("out").trim(), expected, "{mounts}");
        let last = image.layers.last().unwrap();
        assert_eq!(last.entries.len(), 1, "no trace of the socket");
        assert!(!image.config.to_string().contains("SSH_AUTH_SOCK="));
    }
    if !host::maps_many_ids() {
        return;
    }
    let dockerfile = |user: &str| {
        format!(
            "FROM base\nUSER {user}\nRUN --mount=type=ssh,uid=7,gid=8 {CLIENT_MOUNT} \
             --mount=type=tmpfs,target=/o /client 0b"
        )
    };
    rig.image_with(&dockerfile("7"), &options);
    rig.dockerfile(&dockerfile("9"));
    rig.build(&options)
        .exits_with(1)
        .says(&["Permission denied"]);
}

#[test]
fn an_agent_that_is_not_given() {
    let rig = Rig::new();
    let image =
        rig.image("FROM base\nRUN --mount=type=ssh test ! -e $SSH_AUTH_SOCK && echo x > /out");
    assert_eq!(image.text("out"), "x\n");
    rig.dockerfile("FROM base\nRUN --mount=type=ssh,required true");
    rig.build(&[])
        .exits_with(1)
        .says(&["Dockerfile:2", "ssh agent default: not found"]);
    std::fs::write(rig.path("key"), "").unwrap();
    let key = format!("default={}", rig.path("key").display());
    rig.build(&["--ssh", &key]).exits_with(2).says(&["ssh-add"]);
    let mut command = rig.build_command(&["--ssh", "default"]);
    command.env_remove("SSH_AUTH_SOCK");
    crate::rig::outcome::Outcome::of(&mut command)
        .exits_with(2)
        .says(&["SSH_AUTH_SOCK"]);
}

#[test]
fn the_proxy_ends_with_its_step() {
    let Some(rig) = rig() else { return };
    let agent = Agent::start(&rig);
    let option = format!("--ssh=default={}", agent.path);
    // A client that holds its connection open keeps neither the step nor the build from ending.
    rig.dockerfile(&format!(
        "FROM base\nRUN --mount=type=ssh {CLIENT_MOUNT} (/client 0b @5 &) ; /client 0b\n\
         RUN test ! -e /run/buildkit"
    ));
    let mut command = std::process::Command::new("timeout");
    let build = rig.build_command(&[&option]);
    command
        .arg("60")
        .arg(build.get_program())
        .args(build.get_args())
        .current_dir(rig.path(""));
    crate::rig::outcome::Outcome::of(&mut command).succeeds();
}
