//! `rbuild login` and `rbuild logout`: what registries are shown.

use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use clap::Args;
use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use super::Exit;
use super::report::{Report, causes_of, print, print_error};
use super::transfer::{print_result, say};
use crate::transport::{self, Credential, Kept, Options};

/// More than this is no password.
const LONGEST: u64 = 64 * 1024;

#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// The registry, HOST[:PORT] [default: docker.io]
    #[arg(value_name = "SERVER")]
    server: Option<String>,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// Password or token, which other programs of this machine can see; --password-stdin is better
    #[arg(
        short,
        long,
        value_name = "PASSWORD",
        conflicts_with = "password_stdin"
    )]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogoutArgs {
    /// The registry, HOST[:PORT] [default: docker.io]
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Runs `rbuild login`: the credentials are kept once the registry has let them in.
pub(super) fn run(arguments: &LoginArgs) -> Exit {
    let (server, credential) = match server(arguments.server.as_deref())
        .and_then(|server| Ok((server, arguments.credential()?)))
    {
        Ok(pair) => pair,
        Err(message) => {
            print_error(&message);
            return Exit::Usage;
        }
    };
    if let Err(error) = transport::log_in(&server, credential.clone(), &Options::default()) {
        let title = match &error {
            transport::Error::Unauthorized { .. } => {
                format!("{server} refuses these credentials")
            }
            _ => format!("cannot log in to {server}: {error}"),
        };
        print(&Report {
            title,
            causes: causes_of(&error),
            ..Report::default()
        });
        return Exit::Failed;
    }
    match transport::keep(&server, &credential) {
        Ok(Kept::InFile(path)) => say(&format!(
            "The password is stored unencrypted in {}; a credential helper (credsStore) keeps it safe",
            path.display()
        )),
        Ok(Kept::ByHelper(_)) => {}
        Err(why) => {
            print_error(&format!("cannot keep the credentials: {why}"));
            return Exit::Failed;
        }
    }
    print_result("Login Succeeded")
}

/// Runs `rbuild logout`.
pub(super) fn log_out(arguments: &LogoutArgs) -> Exit {
    let server = match server(arguments.server.as_deref()) {
        Ok(server) => server,
        Err(message) => {
            print_error(&message);
            return Exit::Usage;
        }
    };
    match transport::forget(&server) {
        Ok(true) => print_result(&format!("Removing login credentials for {server}")),
        Ok(false) => print_result(&format!("Not logged in to {server}")),
        Err(why) => {
            print_error(&format!("cannot forget the credentials: {why}"));
            Exit::Failed
        }
    }
}

/// The registry as images call it.
fn server(text: Option<&str>) -> Result<String, String> {
    let text = text.unwrap_or("docker.io");
    let bare = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
        .unwrap_or(text);
    let host = bare.split('/').next().unwrap_or(bare);
    if matches!(
        host,
        "index.docker.io" | "registry-1.docker.io" | "docker.io"
    ) {
        return Ok("docker.io".to_owned());
    }
    // A name that the rule for images takes for a part of a path is still a host here.
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(good) {
        return Err(format!("{text:?} is not HOST[:PORT]"));
    }
    Ok(host.to_owned())
}

impl LoginArgs {
    fn credential(&self) -> Result<Credential, String> {
        if self.password_stdin && self.username.is_none() {
            return Err("--password-stdin needs --username".to_owned());
        }
        let user = match &self.username {
            Some(user) => user.clone(),
            None => ask("Username: ", true)?,
        };
        let password = match &self.password {
            Some(password) => password.clone(),
            None if self.password_stdin => read_password()?,
            None => ask("Password: ", false)?,
        };
        if user.is_empty() || password.is_empty() {
            return Err("the user name and the password must not be empty".to_owned());
        }
        if user.contains(':') {
            return Err("a user name has no colon".to_owned());
        }
        Ok(Credential::Password { user, password })
    }
}

fn read_password() -> Result<String, String> {
    let mut text = String::new();
    let read = std::io::stdin()
        .lock()
        .take(LONGEST)
        .read_to_string(&mut text);
    read.map_err(|error| format!("cannot read the password: {error}"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks on the terminal; what is typed is shown only where `echo` says so.
fn ask(prompt: &str, echo: bool) -> Result<String, String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err("without a terminal, give --username and --password-stdin".to_owned());
    }
    let failed = |error: std::io::Error| format!("cannot ask: {error}");
    let before = tcgetattr(&stdin).map_err(|errno| failed(errno.into()))?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    drop(write!(std::io::stderr(), "{prompt}"));
    if !echo {
        tcsetattr(&stdin, SetArg::TCSAFLUSH, &silent).map_err(|errno| failed(errno.into()))?;
    }
    let mut line = String::new();
    let read = stdin.lock().take(LONGEST).read_line(&mut line);
    if !echo {
        tcsetattr(&stdin, SetArg::TCSAFLUSH, &before).map_err(|errno| failed(errno.into()))?;
        say("");
    }
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::server;

    #[test]
    fn a_server_is_a_host_however_it_is_typed() {
        for (text, expected) in [
            (None, "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("https://r.test:5000/"), "r.test:5000"),
            (Some("localhost:5000"), "localhost:5000"),
        ] {
            assert_eq!(server(text).as_deref(), Ok(expected));
        }
        for text in ["", "a b", "user@host"] {
            assert!(server(Some(text)).is_err(), "{text}");
        }
    }
}
