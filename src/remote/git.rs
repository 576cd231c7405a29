//! Trees of git repositories, fetched with the program `git`.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;

use super::authorization::Authorization;
use super::error::Error;
use super::git_reference::{GitReference, Mtime, Transport, is_commit};
use super::program::{Failure, Program};
use super::tree::{Settling, settle};
use super::tunnel::Tunnel;
use crate::{reach, sys};

pub(crate) use super::program::is_installed;

/// What submodules may come by: everything that needs no program and no file of the host.
const SUBMODULE_PROTOCOLS: &str = "https:http:ssh:git";

/// A repository, and as whom it is asked.
pub(crate) struct Repository<'a> {
    reference: &'a GitReference,
    program: Program<'a>,
    /// The only way to servers, where not all are allowed.
    tunnel: Option<Tunnel>,
}

/// What a reference stands for at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// The commit's id: all that the files depend on.
    pub(crate) commit: String,
    /// The full name of the branch or tag; `None` when only the commit is known.
    pub(crate) name: Option<String>,
}

impl<'a> Repository<'a> {
    /// `authorization` is for the repository's own host, instead of that in its address; `agent` lets
    /// ssh ask the user's; `stop` ends what is running when it is hung up. `scratch` is an empty
    /// directory. Nothing is asked yet.
    pub(crate) fn open(
        reference: &'a GitReference,
        authorization: Option<Authorization>,
        agent: bool,
        scratch: &Path,
        stop: BorrowedFd<'a>,
    ) -> Result<Self, Error> {
        let home = scratch.join("home");
        std::fs::create_dir(&home).map_err(|source| Error::Write {
            url: reference.shown(),
            source,
        })?;
        let secret = authorization.or_else(|| reference.authorization.clone());
        let mut settings = Vec::new();
        if let Some(secret) = &secret
            && matches!(reference.transport, Transport::Http | Transport::Https)
        {
            let scope = format!("{}://{}/", reference.transport.name(), reference.host);
            settings.push((
                format!("http.{scope}.extraHeader"),
                format!("Authorization: {}", secret.expose()),
            ));
            // git sends the header wherever it was redirected to.
            settings.push(("http.followRedirects".to_owned(), "false".to_owned()));
        }
        let tunnel = open_tunnel(reference)?;
        if let Some(tunnel) = &tunnel {
            settings.push(("http.proxy".to_owned(), tunnel.url()));
            settings.push(("http.proxyAuthMethod".to_owned(), "basic".to_owned()));
        }
        Ok(Self {
            reference,
            program: Program {
                home,
                settings,
                secret,
                agent,
                stop,
            },
            tunnel,
        })
    }

    /// Asks the server what the reference is now; a whole commit id is what it is, and asks nobody.
    pub(crate) fn resolve(&self) -> Result<Resolved, Error> {
        let checksum = self.reference.checksum.as_deref();
        let by_commit = checksum.filter(|_| self.reference.fetch_by_commit);
        let wanted = by_commit.or(self.reference.reference.as_deref());
        let (resolved, tag) = match wanted {
            Some(commit) if is_commit(commit) => {
                let commit = commit.to_ascii_lowercase();
                (Resolved { commit, name: None }, None)
            }
            Some(name) => self.find(name)?,
            None => (self.find_default()?, None),
        };
        let fits = |id: &String| checksum.is_none_or(|checksum| id.starts_with(checksum));
        if !fits(&resolved.commit) && !tag.as_ref().is_some_and(fits) {
            return Err(Error::Checksum {
                url: self.reference.shown(),
                expected: checksum.unwrap_or_default().to_owned(),
                actual: resolved.commit,
            });
        }
        Ok(resolved)
    }

    /// The branch or tag `name`, and the id of an annotated tag's own object. Of a branch and a tag with
    /// one name the branch is meant, as by git-checkout(1).
    fn find(&self, name: &str) -> Result<(Resolved, Option<String>), Error> {
        let names: Vec<String> = if name.starts_with("refs/") {
            vec![name.to_owned()]
        } else {
            let places = ["refs/", "refs/heads/", "refs/tags/"];
            places
                .iter()
                .map(|place| format!("{place}{name}"))
                .collect()
        };
        let peeled: Vec<String> = names.iter().map(|name| format!("{name}^{{}}")).collect();
        let mut arguments = vec!["ls-remote", "--", self.reference.remote.as_str()];
        arguments.extend(names.iter().chain(&peeled).map(String::as_str));
        let listed = self.run(&self.program.home, &arguments)?;
        let id_of = |wanted: &str| {
            listed.lines().find_map(|line| {
                let (id, name) = line.split_once('\t')?;
                (name == wanted && is_commit(id)).then(|| id.to_owned())
            })
        };
        for (name, peeled) in names.iter().zip(&peeled) {
            let Some(id) = id_of(name) else { continue };
            let name = Some(name.clone());
            return Ok(match id_of(peeled) {
                Some(commit) => (Resolved { commit, name }, Some(id)),
                None => (Resolved { commit: id, name }, None),
            });
        }
        Err(Error::NoReference {
            url: self.reference.remote.clone(),
            reference: name.to_owned(),
        })
    }

    fn find_default(&self) -> Result<Resolved, Error> {
        let arguments = [
            "ls-remote",
            "--symref",
            "--",
            &self.reference.remote,
            "HEAD",
        ];
        let listed = self.run(&self.program.home, &arguments)?;
        let mut resolved = None;
        let mut name = None;
        for (value, of) in listed.lines().filter_map(|line| line.split_once('\t')) {
            match value.strip_prefix("ref: ") {
                _ if of != "HEAD" => {}
                Some(branch) => name = Some(branch.to_owned()),
                None if is_commit(value) => resolved = Some(value.to_owned()),
                None => {}
            }
        }
        let commit = resolved.ok_or_else(|| Error::NoReference {
            url: self.reference.remote.clone(),
            reference: "HEAD".to_owned(),
        })?;
        // A name goes to git again, as an argument.
        let name = name.filter(|name| name.starts_with("refs/heads/") && !name.contains(':'));
        Ok(Resolved { commit, name })
    }

    /// Writes the files of `resolved` into a new directory `tree` of `scratch`, with those of the
    /// submodules, and opens the part of it that the reference names.
    ///
    /// The files have modes 0644 and 0755; without `keep_git_dir` no `.git` is left, in submodules
    /// either.
    pub(crate) fn check_out(
        &self,
        resolved: &Resolved,
        scratch: &Path,
        keep_git_dir: bool,
    ) -> Result<OwnedFd, Error> {
        let reference = self.reference;
        let mut init = vec!["init", "--quiet", "--template="];
        if resolved.commit.len() == 64 {
            init.push("--object-format=sha256");
        }
        init.extend(["--", "tree"]);
        self.run(scratch, &init)?;
        let tree = scratch.join("tree");
        self.run(&tree, &["remote", "add", "--", "origin", &reference.remote])?;
        self.fetch_commit(&tree, resolved)?;
        self.run(
            &tree,
            &[
                "checkout",
                "--quiet",
                "--force",
                "--detach",
                &resolved.commit,
            ],
        )?;
        if reference.submodules && tree.join(".gitmodules").is_file() {
            self.update_submodules(&tree)?;
        }
        let mtime = match reference.mtime {
            Mtime::Checkout => None,
            Mtime::Commit => {
                let shown = ["show", "-s", "--format=%ct", &resolved.commit];
                self.run(&tree, &shown)?.trim().parse().ok()
            }
        };
        for left in ["FETCH_HEAD", "logs"] {
            // Is not there, or names the time of this fetch.
            drop(
                sys::fs::open_directory(&tree.join(".git"))
                    .and_then(|git| sys::remove::remove_tree_at(git, left.as_ref())),
            );
        }
        let failed = |source| Error::Tree {
            url: reference.shown(),
            source,
        };
        let root = sys::fs::open_directory(&tree).map_err(failed)?;
        let how = Settling {
            keep_git_dir,
            mtime,
        };
        settle(root.as_fd(), how, 0).map_err(failed)?;
        if reference.subdir.is_empty() {
            return Ok(root);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        sys::fs::open_in_root(root.as_fd(), Path::new(&reference.subdir), flags, 0).map_err(
            |source| Error::NoSubdir {
                url: reference.shown(),
                subdir: reference.subdir.clone(),
                source,
            },
        )
    }

    /// Brings the commit, with as little as the server can send: the newest of the branch or tag, else
    /// the commit alone, else everything.
    fn fetch_commit(&self, tree: &Path, resolved: &Resolved) -> Result<(), Error> {
        let commit = &resolved.commit;
        let there = format!("{commit}^{{commit}}");
        let has_commit = || self.run(tree, &["cat-file", "-e", &there]).is_ok();
        let mut first_error = None;
        if let Some(name) = &resolved.name {
            match self.fetch(tree, &[&format!("+{name}:{name}")]) {
                Ok(()) if has_commit() => return Ok(()),
                // It has moved since it was asked for.
                Ok(()) => {}
                Err(error @ (Error::Stopped { .. } | Error::StartGit { .. })) => return Err(error),
                Err(error) => first_error = Some(error),
            }
        }
        match self.fetch(tree, &[commit]) {
            Ok(()) if has_commit() => return Ok(()),
            Err(error @ (Error::Stopped { .. } | Error::StartGit { .. })) => return Err(error),
            _ => {}
        }
        let all = [
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/tags/*:refs/tags/*",
        ];
        let unshallow = tree.join(".git/shallow").exists();
        let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
        arguments.extend(unshallow.then_some("--unshallow"));
        arguments.push("origin");
        arguments.extend(all);
        let fetched = self.run(tree, &arguments);
        if fetched.is_ok() && has_commit() {
            return Ok(());
        }
        Err(match (first_error, fetched) {
            (Some(error), _) | (None, Err(error)) => error,
            (None, Ok(_)) => Error::NoReference {
                url: self.reference.remote.clone(),
                reference: commit.clone(),
            },
        })
    }

    /// Fetches without history, or with it from a server that can do nothing else.
    fn fetch(&self, tree: &Path, wanted: &[&str]) -> Result<(), Error> {
        let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--no-recurse-submodules"];
        arguments.extend(["--update-head-ok", "--depth=1", "origin"]);
        arguments.extend(wanted);
        match self.run(tree, &arguments) {
            Err(Error::Git { message, .. }) if is_about_depth(&message) => {
                arguments.retain(|argument| *argument != "--depth=1");
                self.run(tree, &arguments).map(drop)
            }
            result => result.map(drop),
        }
    }

    fn update_submodules(&self, tree: &Path) -> Result<(), Error> {
        let mut arguments = vec!["submodule", "--quiet", "update", "--init", "--recursive"];
        arguments.extend(["--checkout", "--force", "--depth=1"]);
        match self.run_with(tree, SUBMODULE_PROTOCOLS, &arguments) {
            Err(Error::Git { message, .. }) if is_about_depth(&message) => {
                arguments.retain(|argument| *argument != "--depth=1");
                self.run_with(tree, SUBMODULE_PROTOCOLS, &arguments)
                    .map(drop)
            }
            result => result.map(drop),
        }
    }

    fn run(&self, directory: &Path, arguments: &[&str]) -> Result<String, Error> {
        let protocols = match self.reference.transport {
            // What begins in the clear may go on better.
            Transport::Http => "http:https",
            transport => transport.name(),
        };
        self.run_with(directory, protocols, arguments)
    }

    fn run_with(
        &self,
        directory: &Path,
        protocols: &str,
        arguments: &[&str],
    ) -> Result<String, Error> {
        let url = || self.reference.shown();
        // Of the others nobody could tell where they lead.
        let protocols = if reach::is_restricted() {
            "https"
        } else {
            protocols
        };
        let refused = || self.tunnel.as_ref().and_then(Tunnel::refused);
        self.program
            .run(directory, protocols, arguments)
            .map_err(|failure| match failure {
                Failure::Failed(_) if let Some(source) = refused() => {
                    Error::Private { url: url(), source }
                }
                Failure::Stopped => Error::Stopped { url: url() },
                Failure::Start(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    Error::NoGit { url: url() }
                }
                Failure::Start(source) => Error::StartGit { url: url(), source },
                Failure::Failed(message) => Error::Git {
                    url: url(),
                    command: arguments[0].to_owned(),
                    message,
                },
            })
    }
}

/// The proxy through which git goes where private addresses are refused. With a proxy of the user's,
/// that one decides what names stand for.
fn open_tunnel(reference: &GitReference) -> Result<Option<Tunnel>, Error> {
    if !reach::is_restricted() {
        return Ok(None);
    }
    if reference.transport != Transport::Https {
        return Err(Error::Unchecked {
            url: reference.shown(),
            why: "the address that git connects to is known for https only",
        });
    }
    if !reach::proxies().is_empty() {
        return Ok(None);
    }
    let started = Tunnel::start().map_err(|source| Error::StartGit {
        url: reference.shown(),
        source,
    })?;
    Ok(Some(started))
}

/// Whether a server's complaint is that it cannot send a part of the history.
fn is_about_depth(message: &str) -> bool {
    message.contains("shallow") || message.contains("depth")
}
