//! Programs that keep credentials: `docker-credential-NAME`, spoken to over pipes.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use super::Credential;

/// A helper may ask its user for a password, but no build waits for ever.
const LIMIT: Duration = Duration::from_secs(60);
const MOST_BYTES: u64 = 1 << 20;
/// The sentence is part of the helpers' protocol (docker-credential-helpers, error.go).
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Asks for the credentials of `server`; `None` when it has none.
pub(super) fn get(helper: &str, server: &str) -> Result<Option<Credential>, String> {
    let (success, output) = run(helper, "get", server.as_bytes(), LIMIT)?;
    if !success {
        return if output.contains(NOT_FOUND) {
            Ok(None)
        } else {
            Err(failed(helper))
        };
    }
    let strange = || format!("{} answered in an unknown way", program(helper));
    let answer: Value = serde_json::from_str(&output).map_err(|_| strange())?;
    let text = |name: &str| answer[name].as_str().map(str::to_owned);
    let (user, secret) = text("Username").zip(text("Secret")).ok_or_else(strange)?;
    Ok(match user.as_str() {
        _ if secret.is_empty() => None,
        "<token>" => Some(Credential::IdentityToken(secret)),
        _ => Some(Credential::Password {
            user,
            password: secret,
        }),
    })
}

/// Has `server`'s credentials kept.
pub(super) fn store(helper: &str, server: &str, user: &str, secret: &str) -> Result<(), String> {
    let entry = serde_json::json!({"ServerURL": server, "Username": user, "Secret": secret});
    let (success, _) = run(helper, "store", entry.to_string().as_bytes(), LIMIT)?;
    success.then_some(()).ok_or_else(|| failed(helper))
}

/// Has `server`'s credentials removed; that there were none is no error.
pub(super) fn erase(helper: &str, server: &str) -> Result<(), String> {
    let (success, output) = run(helper, "erase", server.as_bytes(), LIMIT)?;
    (success || output.contains(NOT_FOUND))
        .then_some(())
        .ok_or_else(|| failed(helper))
}

fn program(helper: &str) -> String {
    format!("docker-credential-{helper}")
}

/// What the helper wrote may hold a secret, so it is not repeated.
fn failed(helper: &str) -> String {
    format!("{} failed", program(helper))
}

/// Runs the helper to its end: whether it succeeded, and its output.
fn run(helper: &str, verb: &str, input: &[u8], limit: Duration) -> Result<(bool, String), String> {
    let program = program(helper);
    if helper.contains('/') {
        return Err(format!("{program:?} is no name of a program"));
    }
    let cannot = |error: io::Error| format!("{program} cannot be run: {error}");
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(cannot)?;
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let input = input.to_vec();
    let (sender, receiver) = mpsc::channel();
    // One that does not read its input says so by how it ends.
    let exchange = move || {
        if let Some(stdin) = &mut stdin {
            drop(stdin.write_all(&input));
        }
        drop(stdin);
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            drop(stdout.take(MOST_BYTES).read_to_end(&mut output));
        }
        drop(sender.send(output));
    };
    let thread = std::thread::Builder::new().spawn(exchange);
    let output = match thread {
        Ok(_) => receiver.recv_timeout(limit).ok(),
        Err(_) => None,
    };
    let Some(output) = output else {
        end(&mut child);
        return Err(format!("{program} did not answer within {limit:?}"));
    };
    let began = std::time::Instant::now();
    loop {
        match child.try_wait().map_err(cannot)? {
            Some(status) => {
                let output = String::from_utf8_lossy(&output).into_owned();
                return Ok((status.success(), output));
            }
            None if began.elapsed() > limit => {
                end(&mut child);
                return Err(format!("{program} did not end within {limit:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}
