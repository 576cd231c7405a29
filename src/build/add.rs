//! COPY, ADD and WORKDIR: the steps that write files without running anything.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::copy::{
    Archives, ChmodSpec, Copied, Destination, Origin, Selection, Tree, add, copy, select,
};
use super::error::StepError;
use super::key::KeyBuilder;
use super::state::StageState;
use crate::context::Context;
use crate::context::digest::Memo;
use crate::dockerfile::{CopyInstruction, Source, expand_heredoc};
use crate::layer::{Decoder, Form, Limits, is_tar, unpack};
use crate::oci::{ChainId, Digest, Platform};
use crate::sandbox::passwd;
use crate::store::{Active, Snapshot, Store};
use crate::sys;

/// The largest passwd or group file that is read.
const LARGEST_PASSWD: u64 = 10 << 20;

/// Where the sources of a COPY are.
#[derive(Debug, Clone)]
pub(crate) enum SourceTree {
    Context(Arc<OpenContext>),
    /// A stage's or an image's file system: immutable, so content is digested once per snapshot.
    Rootfs {
        view: Arc<OwnedFd>,
        chain: Option<ChainId>,
    },
}

/// A context with its stat records.
#[derive(Debug)]
pub(crate) struct OpenContext {
    pub(crate) context: Context,
    pub(crate) memo: Memo,
}

/// A COPY or ADD whose words are expanded.
#[derive(Debug)]
pub(crate) struct CopyStep {
    paths: Vec<String>,
    /// Name and content.
    inline: Vec<(String, Vec<u8>)>,
    destination: String,
    is_directory: bool,
    chown: Option<String>,
    mode: Option<(String, ChmodSpec)>,
    is_add: bool,
    /// The instruction as the history shows it.
    pub(crate) shown: String,
}

impl CopyStep {
    pub(crate) fn new(
        instruction: &CopyInstruction,
        is_add: bool,
        state: &StageState,
        escape: char,
    ) -> Result<Self, StepError> {
        let expand = |word: &str| {
            state
                .scope
                .expand(word, escape)
                .map(|expanded| expanded.value)
                .map_err(|source| StepError::Word { source })
        };
        let mut paths = Vec::new();
        let mut inline = Vec::new();
        let mut shown = vec![if is_add { "ADD" } else { "COPY" }.to_owned()];
        let chown = instruction
            .chown
            .as_ref()
            .map(|word| expand(&word.value))
            .transpose()?;
        let chmod = instruction
            .chmod
            .as_ref()
            .map(|word| expand(&word.value))
            .transpose()?;
        if let Some(from) = &instruction.from {
            shown.push(format!("--from={}", from.value));
        }
        shown.extend(chown.iter().map(|chown| format!("--chown={chown}")));
        shown.extend(chmod.iter().map(|chmod| format!("--chmod={chmod}")));
        for source in &instruction.sources {
            match source {
                Source::Path(word) => {
                    let path = expand(&word.value)?;
                    shown.push(path.clone());
                    paths.push(path);
                }
                Source::Heredoc(heredoc) => {
                    let mut text = heredoc.contents();
                    if heredoc.expand {
                        text = expand_heredoc(&text, &state.scope)
                            .map_err(|source| StepError::Word { source })?
                            .value;
                    }
                    shown.push(format!("<<{}", heredoc.name));
                    inline.push((heredoc.name.clone(), text.into_bytes()));
                }
            }
        }
        let written = expand(&instruction.destination.value)?;
        shown.push(written.clone());
        let mode = match chmod {
            None => None,
            Some(text) => {
                let spec = ChmodSpec::parse(&text).map_err(|error| StepError::Value {
                    message: error.to_string(),
                })?;
                Some((text, spec))
            }
        };
        Ok(Self {
            paths,
            inline,
            is_directory: names_directory(&written),
            destination: join(state.working_directory(), &written),
            chown,
            mode,
            is_add,
            shown: shown.join(" "),
        })
    }

    fn select<'a>(&self, source: &'a SourceTree) -> Result<Selection<'a>, StepError> {
        let patterns: Vec<&str> = self.paths.iter().map(String::as_str).collect();
        let tree = match source {
            SourceTree::Context(open) => context_tree(&open.context),
            SourceTree::Rootfs { view, .. } => rootfs_tree(view.as_fd()),
        };
        let mut selection =
            select(&tree, &patterns).map_err(|source| StepError::Copy { source })?;
        for (name, bytes) in &self.inline {
            selection.append(Selection::inline(name, bytes.clone()));
        }
        Ok(selection)
    }

    /// Everything that the step's files depend on, and the selection whose content was read for it:
    /// what is digested is what will be copied. Content of an immutable tree is digested once.
    pub(crate) fn key<'a>(
        &self,
        store: &Store,
        source: &'a SourceTree,
        state: &StageState,
        platform: &Platform,
        clamp: Option<i64>,
    ) -> Result<(Digest, Option<Selection<'a>>), StepError> {
        let mut key = KeyBuilder::new("copy", state.snapshot.chain_id(), platform);
        let (content, selection) = match source {
            SourceTree::Context(open) => {
                let selection = self.select(source)?;
                (digest(&selection, &open.memo)?, Some(selection))
            }
            SourceTree::Rootfs { chain, .. } => {
                let mut of_selection = KeyBuilder::new("selection", chain.as_ref(), platform);
                of_selection.list("path", &self.paths);
                of_selection.list("name", self.inline.iter().map(|(name, _)| name));
                of_selection.list("inline", self.inline.iter().map(|(_, bytes)| bytes));
                let memo_key = of_selection.finish();
                if let Some(digest) = store.remembered_digest(&memo_key) {
                    (digest, None)
                } else {
                    let selection = self.select(source)?;
                    let digest = digest(&selection, &Memo::none())?;
                    store.remember_digest(&memo_key, &digest)?;
                    (digest, Some(selection))
                }
            }
        };
        key.field("content", content.as_str());
        key.field("destination", &self.destination);
        key.field("directory", [u8::from(self.is_directory)]);
        key.field("chown", self.chown.as_deref().unwrap_or("-"));
        key.field(
            "chmod",
            self.mode.as_ref().map_or("-", |(text, _)| text.as_str()),
        );
        key.field("add", [u8::from(self.is_add)]);
        if let Some(clamp) = clamp {
            key.field("clamp", clamp.to_string());
        }
        Ok((key.finish(), selection))
    }

    /// Writes the files into `active`.
    pub(crate) fn execute<'a>(
        &self,
        store: &Store,
        source: &'a SourceTree,
        selection: Option<Selection<'a>>,
        active: &Active,
    ) -> Result<Copied, StepError> {
        let root = store.mount(active)?;
        let owner = match &self.chown {
            None => None,
            Some(chown) => Some(lookup_owner(root.as_fd(), chown)?),
        };
        let destination = Destination {
            root: root.as_fd(),
            path: &self.destination,
            is_directory: self.is_directory,
            owner,
            mode: self.mode.as_ref().map(|(_, spec)| spec),
            ownership: store.ownership(),
        };
        let selection = match selection {
            Some(selection) => selection,
            None => self.select(source)?,
        };
        let copied = if self.is_add {
            let extract = &mut |file: File, directory: BorrowedFd<'_>| {
                let mut tar = Decoder::detect(file)?;
                unpack(
                    &mut tar,
                    directory,
                    store.ownership(),
                    Form::Plain,
                    &Limits::default(),
                )?;
                Ok(())
            };
            add(
                &selection,
                &destination,
                Archives {
                    sniff: &is_archive,
                    extract,
                },
            )
        } else {
            copy(&selection, &destination)
        };
        copied.map_err(|source| StepError::Copy { source })
    }
}

fn digest(selection: &Selection<'_>, memo: &Memo) -> Result<Digest, StepError> {
    selection
        .digest(memo)
        .map_err(|source| StepError::Copy { source })
}

pub(super) fn context_tree(context: &Context) -> Tree<'_> {
    Tree {
        root: context.root(),
        origin: Origin::Context,
        ignore: Some(context.ignore()),
    }
}

pub(super) fn rootfs_tree(root: BorrowedFd<'_>) -> Tree<'_> {
    Tree {
        root,
        origin: Origin::Rootfs,
        ignore: None,
    }
}

/// By content: whether the file, decompressed where it is compressed, begins like a tar archive.
fn is_archive(file: &mut File) -> io::Result<bool> {
    file.rewind()?;
    let mut start = Vec::new();
    // A stream that cannot be decompressed is a file like any other.
    let read =
        Decoder::detect(&mut *file).and_then(|decoder| decoder.take(512).read_to_end(&mut start));
    Ok(read.is_ok() && is_tar(&start))
}

/// `.`, `./` and what ends in a slash name a directory whether it is there or not.
fn names_directory(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.") || path.is_empty()
}

/// `path` as seen from `directory`, cleaned: no `.`, no `..`, never above the root.
pub(crate) fn join(directory: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{directory}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The numbers of `user[:group]` in the image's own files. Unlike BuildKit, which takes an unknown
/// name for root, this fails as the Dockerfile reference says.
fn lookup_owner(root: BorrowedFd<'_>, owner: &str) -> Result<(u32, u32), StepError> {
    let passwd = read_small(root, "etc/passwd")?;
    let group = read_small(root, "etc/group")?;
    passwd::lookup_owner(&passwd, &group, owner).map_err(|source| StepError::Owner { source })
}

/// A small regular file of the image; empty when it is missing.
fn read_small(root: BorrowedFd<'_>, path: &str) -> Result<Vec<u8>, StepError> {
    let fail = |source| StepError::ReadImage {
        path: format!("/{path}"),
        source,
    };
    let fd = match sys::fs::open_in_root(
        root,
        Path::new(path),
        OFlag::O_RDONLY | OFlag::O_NONBLOCK,
        0,
    ) {
        Ok(fd) => fd,
        Err(error) if error.errno == nix::errno::Errno::ENOENT => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let stat = sys::fs::stat(&fd).map_err(fail)?;
    if sys::fs::Kind::of(&stat) != sys::fs::Kind::Regular {
        return Err(StepError::Value {
            message: format!("/{path} is not a regular file"),
        });
    }
    let mut bytes = Vec::new();
    File::from(fd)
        .take(LARGEST_PASSWD)
        .read_to_end(&mut bytes)
        .map_err(|error| StepError::Value {
            message: format!("cannot read /{path}: {error}"),
        })?;
    Ok(bytes)
}

/// The key of a WORKDIR that makes its directory.
pub(crate) fn workdir_key(
    state: &StageState,
    path: &str,
    platform: &Platform,
    clamp: Option<i64>,
) -> Digest {
    let mut key = KeyBuilder::new("workdir", state.snapshot.chain_id(), platform);
    key.field("path", path)
        .field("user", &state.config.config.user);
    if let Some(clamp) = clamp {
        key.field("clamp", clamp.to_string());
    }
    key.finish()
}

/// Creates `path` and its missing parents, 0755, owned by the stage's user.
pub(crate) fn create_workdir(
    store: &Store,
    state: &StageState,
    active: &Active,
    path: &str,
) -> Result<(), StepError> {
    let root = store.mount(active)?;
    let user = &state.config.config.user;
    let (uid, gid) = if user.is_empty() {
        (0, 0)
    } else {
        let passwd = read_small(root.as_fd(), "etc/passwd")?;
        let group = read_small(root.as_fd(), "etc/group")?;
        let identity = passwd::lookup_user(&passwd, &group, user)
            .map_err(|source| StepError::Owner { source })?;
        (identity.uid, identity.gid)
    };
    let mut done = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let fail = |path: &str| {
            let path = format!("{path}/{part}");
            move |source| StepError::Directory { path, source }
        };
        let parent = sys::fs::open_in_root(
            root.as_fd(),
            Path::new(&done),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY,
            0,
        )
        .map_err(fail(&done))?;
        match sys::fs::make_directory_at(&parent, part.as_ref(), 0o755) {
            Ok(()) => {
                sys::fs::chmod_at(&parent, part.as_ref(), 0o755).map_err(fail(&done))?;
                if (uid, gid) != (0, 0) {
                    store
                        .ownership()
                        .set_at(&parent, part.as_ref(), uid, gid)
                        .map_err(|source| StepError::SetOwner {
                            path: path.to_owned(),
                            source,
                        })?;
                }
            }
            Err(error) if error.errno == nix::errno::Errno::EEXIST => {}
            Err(error) => return Err(fail(&done)(error)),
        }
        done = format!("{done}/{part}");
    }
    // What is there must be a directory, also where a link led.
    sys::fs::open_in_root(
        root.as_fd(),
        Path::new(path),
        OFlag::O_PATH | OFlag::O_DIRECTORY,
        0,
    )
    .map_err(|source| StepError::Directory {
        path: path.to_owned(),
        source,
    })?;
    Ok(())
}

/// The view of a stage's or an image's snapshot as a source.
pub(crate) fn rootfs_source(store: &Store, snapshot: &Snapshot) -> Result<SourceTree, StepError> {
    let view = Arc::new(store.view(snapshot)?);
    Ok(SourceTree::Rootfs {
        view,
        chain: snapshot.chain_id().cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_cleaned_below_the_root() {
        for (directory, path, joined) in [
            ("/", "a", "/a"),
            ("/app", ".", "/app"),
            ("/app", "./x/", "/app/x"),
            ("/app", "/abs", "/abs"),
            ("/app", "../../../etc", "/etc"),
            ("/app", "", "/app"),
        ] {
            assert_eq!(join(directory, path), joined, "{directory} {path}");
        }
    }
}
