//! Programs that keep credentials: `docker-credential-NAME`, spoken to over pipes.

use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::stop::{Stop, TICK};
use super::Credential;

/// A helper may ask its user for a password, but no build waits for ever.
const LIMIT: Duration = Duration::from_secs(60);
const MOST_BYTES: u64 = 1 << 20;
/// The sentence is part of the helpers' protocol (docker-credential-helpers, error.go).
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Asks for the credentials of `server`; `None` when it has none. One that is asked when the end is
/// wanted is killed, and that is an error.
pub(super) fn get(helper: &str, server: &str, stop: &Stop) -> Result<Option<Credential>, String> {
    let (success, output) = run(helper, "get", server.as_bytes(), LIMIT, stop)?;
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
    let (success, _) = run(
        helper,
        "store",
        entry.to_string().as_bytes(),
        LIMIT,
        &Stop::default(),
    )?;
    success.then_some(()).ok_or_else(|| failed(helper))
}

/// Has `server`'s credentials removed; that there were none is no error.
pub(super) fn erase(helper: &str, server: &str) -> Result<(), String> {
    let (success, output) = run(helper, "erase", server.as_bytes(), LIMIT, &Stop::default())?;
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
fn run(
    helper: &str,
    verb: &str,
    input: &[u8],
    limit: Duration,
    stop: &Stop,
) -> Result<(bool, String), String> {
    let program = program(helper);
    if helper.contains('/') {
        return Err(format!("{program:?} is no name of a program"));
    }
    let mut command = Command::new(&program);
    command.arg(verb);
    converse(&program, command, input, limit, stop)
}

/// Gives `command` its input and takes its output. What it left running is nobody's concern.
fn converse(
    program: &str,
    mut command: Command,
    input: &[u8],
    limit: Duration,
    stop: &Stop,
) -> Result<(bool, String), String> {
    let cannot = |error: io::Error| format!("{program} cannot be run: {error}");
    let mut child = command
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
    if let Err(error) = std::thread::Builder::new().spawn(exchange) {
        end(&mut child);
        return Err(cannot(error));
    }
    let began = Instant::now();
    let mut output = None;
    let ended = loop {
        // The end of the output comes before that of the program, and may come without it.
        let pause = match &output {
            None => TICK,
            Some(_) => Duration::from_millis(5),
        };
        match receiver.recv_timeout(pause) {
            Ok(bytes) => output = Some(bytes),
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(pause),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if output.is_some()
            && let Some(status) = child.try_wait().map_err(cannot)?
        {
            break Ok(status.success());
        }
        if stop.is_wanted() {
            break Err(format!("{program} was interrupted"));
        }
        if began.elapsed() > limit {
            break Err(format!("{program} did not answer within {limit:?}"));
        }
    };
    if ended.is_err() {
        end(&mut child);
    }
    let output = output.unwrap_or_default();
    Ok((ended?, String::from_utf8_lossy(&output).into_owned()))
}

fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(script: &str, limit: Duration, stop: &Stop) -> Result<(bool, String), String> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        converse("helper", command, b"server", limit, stop)
    }

    #[test]
    fn a_helper_that_hangs_is_killed_and_named() {
        let none = Stop::default();
        for script in [
            "sleep 600",
            "exec sleep 600",
            // The output ends, the program does not.
            "exec >&- sleep 600",
        ] {
            let error = wait_for(script, Duration::from_millis(200), &none).unwrap_err();
            assert_eq!(error, "helper did not answer within 200ms", "{script}");
        }
        let stop = Stop::when(|| true);
        let error = wait_for("exec sleep 600", LIMIT, &stop).unwrap_err();
        assert_eq!(error, "helper was interrupted");
    }

    #[test]
    fn a_helper_that_writes_too_much_is_read_in_part() {
        let endless = "yes 2>/dev/null; exit 1";
        let (success, output) = wait_for(endless, LIMIT, &Stop::default()).unwrap();
        assert!(!success);
        assert_eq!(output.len() as u64, MOST_BYTES);
    }

    #[test]
    fn what_is_no_program_is_said() {
        let none = Stop::default();
        let error = run("no-such-program", "get", b"", LIMIT, &none).unwrap_err();
        assert!(
            error.starts_with("docker-credential-no-such-program cannot be run: "),
            "{error}"
        );
        let error = run("../sh", "get", b"", LIMIT, &none).unwrap_err();
        assert!(error.ends_with("is no name of a program"), "{error}");
    }
}
