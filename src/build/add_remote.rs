//! ADD of what is elsewhere: files over HTTP, trees of git repositories.
//!
//! The step's key needs little: a commit's id, or a file's digest, for which the server is asked
//! whether it changed. The files themselves are brought when the step is carried out.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use super::copy::{Filter, Origin, Selection, Tree, select};
use super::error::StepError;
use super::fetch::{Fetch, copy_blob, mtime_of};
use super::key::KeyBuilder;
use crate::dockerfile::{AddInstruction, CopyInstruction, Diagnostic, Source, Span, Spanned};
use crate::oci::Digest;
use crate::ownership::Owners;
use crate::remote::{self, Address, GitReference, HttpAddress, Mtime, Resolved};
use crate::store::Download;
use crate::sys;

/// The name of a file whose address has none, as BuildKit has it.
const UNNAMED: &str = "__unnamed__";

/// The remote sources of one ADD, and whether its archives are unpacked.
#[derive(Debug)]
pub(crate) struct Remotes {
    sources: Vec<Remote>,
    /// `--unpack`
    unpack: Option<bool>,
}

#[derive(Debug)]
struct Remote {
    /// Which of the instruction's words it is.
    index: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    File {
        address: HttpAddress,
        /// `--checksum`
        expected: Option<Digest>,
        download: Option<Download>,
    },
    Tree {
        reference: Box<GitReference>,
        keep_git_dir: bool,
        resolved: Option<Resolved>,
    },
}

impl Remotes {
    /// The remote ones of the expanded `words`; `checksum` is expanded too.
    pub(crate) fn new(
        add: &AddInstruction,
        words: &[String],
        checksum: Option<&str>,
    ) -> Result<Self, StepError> {
        let mut sources = Vec::new();
        for (index, word) in words.iter().enumerate() {
            let what = match Address::parse(word)? {
                None => continue,
                Some(Address::Http(address)) => What::File {
                    address,
                    expected: None,
                    download: None,
                },
                Some(Address::Git(reference)) => {
                    let keep = keep_git_dir(add, &reference).map_err(value)?;
                    What::Tree {
                        reference: Box::new(reference),
                        keep_git_dir: keep,
                        resolved: None,
                    }
                }
            };
            sources.push(Remote { index, what });
        }
        if let Some(checksum) = checksum {
            let [only] = words else {
                return Err(value(SEVERAL.to_owned()));
            };
            let Some(remote) = sources.first_mut() else {
                return Err(value(format!("{LOCAL}, and {only} is a path")));
            };
            match &mut remote.what {
                What::File { expected, .. } => {
                    *expected = Some(sha256(checksum).map_err(value)?);
                }
                What::Tree { reference, .. } => {
                    set_checksum(reference, checksum).map_err(value)?;
                }
            }
        }
        let git = sources.iter().find_map(|remote| match &remote.what {
            What::Tree { reference, .. } => Some(reference.shown()),
            What::File { .. } => None,
        });
        if let Some(url) = git.filter(|_| !remote::is_installed()) {
            return Err(remote::Error::NoGit { url }.into());
        }
        Ok(Self {
            sources,
            unpack: add.unpack,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether the word with this index is remote.
    pub(crate) fn has(&self, index: usize) -> bool {
        self.sources.iter().any(|remote| remote.index == index)
    }

    /// Asks the servers for what the key needs.
    pub(crate) fn resolve(&mut self, fetch: &Fetch<'_>) -> Result<(), StepError> {
        for remote in &mut self.sources {
            match &mut remote.what {
                What::File {
                    expected: Some(_), ..
                } => {}
                What::File {
                    address, download, ..
                } => *download = Some(fetch.file(address, None)?),
                What::Tree {
                    reference,
                    resolved,
                    ..
                } => *resolved = Some(fetch.resolve(reference)?),
            }
        }
        Ok(())
    }

    /// Adds what the files depend on. Must be called after [`Remotes::resolve`].
    pub(crate) fn add_to_key(&self, key: &mut KeyBuilder) {
        for remote in &self.sources {
            key.field("asked", [u8::from(self.unpack == Some(true))]);
            key.field("remote", remote.index.to_le_bytes());
            match &remote.what {
                What::File {
                    address,
                    expected,
                    download,
                } => {
                    key.field("name", name_of(address));
                    // The time is the server's, which is not asked about content that is known. As with
                    // BuildKit it is no part of the key then.
                    let (digest, mtime) = match (expected, download) {
                        (Some(digest), _) => (Some(digest), None),
                        (None, Some(download)) => (
                            Some(&download.digest),
                            Some(mtime_of(download.last_modified.as_deref())),
                        ),
                        (None, None) => (None, None),
                    };
                    key.field("digest", digest.map_or("", Digest::as_str));
                    key.field("mtime", format!("{mtime:?}"));
                }
                What::Tree {
                    reference,
                    keep_git_dir,
                    resolved,
                } => {
                    let commit = resolved.as_ref().map_or("", |resolved| &resolved.commit);
                    key.field("commit", commit);
                    key.field("subdir", &reference.subdir);
                    key.field("submodules", [u8::from(reference.submodules)]);
                    key.field("mtime", [u8::from(reference.mtime == Mtime::Commit)]);
                    // The repository's own files name where it is from.
                    if *keep_git_dir {
                        let name = resolved.as_ref().and_then(|there| there.name.as_deref());
                        key.field("origin", &reference.remote);
                        key.field("branch", name.unwrap_or(""));
                    }
                }
            }
        }
    }

    /// Brings the files to the store's scratch space.
    pub(crate) fn bring(&self, fetch: &Fetch<'_>) -> Result<Brought, StepError> {
        let mut brought = Brought {
            trees: Vec::new(),
            downloads: BTreeSet::new(),
            unpack: self.unpack,
        };
        for remote in &self.sources {
            let (root, pattern) = match &remote.what {
                What::File {
                    address,
                    expected,
                    download,
                } => {
                    let download = match download {
                        Some(download) => download.clone(),
                        None => fetch.file(address, expected.as_ref())?,
                    };
                    let name = name_of(address);
                    let directory = fetch.store.scratch()?;
                    let path = directory.join(&name);
                    let mtime = mtime_of(download.last_modified.as_deref());
                    copy_blob(fetch.store, &download.digest, &path, mtime)?;
                    let failed = |source| StepError::Scratch { path, source };
                    let root = sys::fs::open_directory(&directory);
                    let root = root.map_err(|error| failed.clone()(error.into()))?;
                    let metadata = std::fs::symlink_metadata(directory.join(&name));
                    let metadata = metadata.map_err(failed)?;
                    brought.downloads.insert((metadata.dev(), metadata.ino()));
                    (root, escaped(&name))
                }
                What::Tree {
                    reference,
                    keep_git_dir,
                    resolved,
                } => {
                    let resolved = match resolved {
                        Some(resolved) => resolved.clone(),
                        None => fetch.resolve(reference)?,
                    };
                    let root = fetch.check_out(reference, &resolved, *keep_git_dir)?;
                    (root, "/".to_owned())
                }
            };
            brought.trees.push((remote.index, root, pattern));
        }
        Ok(brought)
    }
}

/// The files of the remote sources, for as long as the step needs them.
#[derive(Debug)]
pub(crate) struct Brought {
    /// By the index of the word: a root, and what of it is meant.
    trees: Vec<(usize, OwnedFd, String)>,
    /// Device and inode of the files that came over HTTP.
    downloads: BTreeSet<(u64, u64)>,
    unpack: Option<bool>,
}

impl Brought {
    /// What the word with this index selects; `None` when it is not remote.
    pub(crate) fn select(
        &self,
        index: usize,
        filter: &Filter,
    ) -> Result<Option<Selection<'_>>, StepError> {
        let found = self.trees.iter().find(|(there, ..)| *there == index);
        let Some((_, root, pattern)) = found else {
            return Ok(None);
        };
        let tree = Tree {
            root: root.as_fd(),
            owners: &Owners::NONE,
            origin: Origin::Context,
            ignore: None,
        };
        select(&tree, &[pattern], filter)
            .map(Some)
            .map_err(|source| StepError::Copy { source })
    }

    /// Whether the file is unpacked when it is an archive: one that was downloaded only with `--unpack`.
    pub(crate) fn may_unpack(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        let is_download = self.downloads.contains(&(metadata.dev(), metadata.ino()));
        Ok(!is_download || self.unpack == Some(true))
    }
}

const SEVERAL: &str = "checksum can't be specified for multiple sources";
const LOCAL: &str = "checksum requires HTTP(S) or Git sources";

/// What is wrong with the remote sources of an ADD as far as its words are literal, before any work.
/// `at` gives the place of a word.
pub(crate) fn check(add: &AddInstruction, at: &dyn Fn(Span) -> Span) -> Option<Diagnostic> {
    let paths = || paths(&add.copy);
    for path in paths().filter(|path| is_literal(&path.value)) {
        let wrong = match Address::parse(&path.value) {
            Ok(Some(Address::Git(reference))) if remote::is_installed() => {
                keep_git_dir(add, &reference).err()
            }
            Ok(Some(Address::Git(reference))) => {
                let url = reference.shown();
                Some(remote::Error::NoGit { url }.to_string())
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(message) = wrong {
            return Some(Diagnostic::new(at(path.span), message));
        }
    }
    let checksum = add.checksum.as_ref()?;
    let wrong = |message: String| Some(Diagnostic::new(at(checksum.span), message));
    let mut sources = paths();
    let (Some(only), None) = (sources.next(), sources.next()) else {
        return wrong(SEVERAL.to_owned());
    };
    if !is_literal(&only.value) {
        return None;
    }
    match Address::parse(&only.value) {
        Ok(None) => wrong(LOCAL.to_owned()),
        _ if !is_literal(&checksum.value) => None,
        Ok(Some(Address::Http(_))) => sha256(&checksum.value).err().and_then(wrong),
        Ok(Some(Address::Git(mut reference))) => {
            let set = set_checksum(&mut reference, &checksum.value);
            set.err().and_then(wrong)
        }
        Err(_) => None,
    }
}

/// COPY fetches nothing. `at` as for [`check`].
pub(crate) fn check_copy(copy: &CopyInstruction, at: &dyn Fn(Span) -> Span) -> Option<Diagnostic> {
    let mut literal = paths(copy).filter(|path| is_literal(&path.value));
    literal.find_map(|path| {
        let message = refuse_copy(&path.value)?;
        let help = "ADD fetches it";
        Some(Diagnostic::new(at(path.span), message).with_help(help))
    })
}

/// Why COPY cannot have this source, when it cannot.
pub(crate) fn refuse_copy(word: &str) -> Option<String> {
    match Address::parse(word) {
        Ok(Some(Address::Http(_))) => Some("source can't be a URL for COPY".to_owned()),
        Ok(Some(Address::Git(_))) => Some("source can't be a git ref for COPY".to_owned()),
        Ok(None) | Err(_) => None,
    }
}

fn paths(copy: &CopyInstruction) -> impl Iterator<Item = &Spanned<String>> {
    copy.sources.iter().filter_map(|source| match source {
        Source::Path(path) => Some(path),
        Source::Heredoc(_) => None,
    })
}

/// Whether a word is what it will be when variables are expanded.
fn is_literal(word: &str) -> bool {
    !word.contains(['$', '\\', '`', '"', '\''])
}

/// The flag and the address must not contradict each other.
fn keep_git_dir(add: &AddInstruction, reference: &GitReference) -> Result<bool, String> {
    match (add.keep_git_dir, reference.keep_git_dir) {
        (Some(flag), Some(query)) if flag != query => {
            Err("inconsistent keep-git-dir configuration".to_owned())
        }
        (flag, query) => Ok(flag.or(query).unwrap_or(false)),
    }
}

fn set_checksum(reference: &mut GitReference, checksum: &str) -> Result<(), String> {
    if let Some(there) = &reference.checksum
        && there != checksum
    {
        return Err(format!("checksum mismatch {checksum:?} != {there:?}"));
    }
    let is_hex = checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
    if checksum.is_empty() || !is_hex {
        return Err(format!(
            "invalid checksum {checksum:?}, expected hex commit hash"
        ));
    }
    reference.checksum = Some(checksum.to_ascii_lowercase());
    Ok(())
}

/// The digest of a file; of all algorithms only this one is computed.
fn sha256(checksum: &str) -> Result<Digest, String> {
    checksum
        .parse()
        .ok()
        .filter(|digest: &Digest| digest.algorithm() == "sha256")
        .ok_or_else(|| {
            format!("invalid checksum {checksum:?}: expected sha256: and 64 hexadecimal digits")
        })
}

fn name_of(address: &HttpAddress) -> String {
    address.file_name().unwrap_or_else(|| UNNAMED.to_owned())
}

/// A pattern that matches only this name. A backslash before a special character would not do: what is
/// left has no wildcard then, and is taken as it is written.
fn escaped(name: &str) -> String {
    if !name.contains(['*', '?', '[']) {
        return name.to_owned();
    }
    let mut pattern = String::with_capacity(name.len());
    for char in name.chars() {
        match char {
            '*' | '?' | '[' => pattern.extend(['[', char, ']']),
            '\\' => pattern.push_str("\\\\"),
            _ => pattern.push(char),
        }
    }
    pattern
}

fn value(message: String) -> StepError {
    StepError::Value { message }
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_name_is_a_pattern_for_itself() {
        for (name, pattern) in [
            ("plain", "plain"),
            ("back\\slash", "back\\slash"),
            ("a*b?", "a[*]b[?]"),
            ("[x]", "[[]x]"),
            ("*\\", "[*]\\\\"),
        ] {
            assert_eq!(escaped(name), pattern, "{name}");
        }
    }
}
